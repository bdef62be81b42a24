"""Command lines, in every form that people write them."""

from hypothesis import given
from hypothesis import strategies as st

from isvc.flags import expand, lora_names, parse

NAMES = st.sampled_from(["model-name", "served-model-name", "port", "max-model-len", "x"])
WORDS = st.text("abcdefghij/.0123456789:", min_size=1, max_size=8)
FORMS = st.sampled_from(["equals", "space", "underscore", "quoted"])


@given(st.lists(st.tuples(NAMES, WORDS, FORMS), max_size=6), st.lists(WORDS, max_size=3))
def test_every_form_of_a_flag_is_read_and_the_last_one_wins(
    flags: list[tuple[str, str, str]], words: list[str]
) -> None:
    argv = list(words)
    for name, value, form in flags:
        match form:
            case "equals":
                argv.append(f"--{name}={value}")
            case "space":
                argv += [f"--{name}", value]
            case "underscore":
                argv.append(f"--{name.replace('-', '_')}={value}")
            case _:
                argv.append(f'--{name}="{value}"')
    parsed = parse(argv)
    expected = {name: value for name, value, _ in flags}
    assert {name: parsed.first(name) for name in parsed.values} == expected
    assert parsed.words == tuple(words)


@given(st.lists(st.text(max_size=12), max_size=8))
def test_nothing_on_a_command_line_is_an_error(argv: list[str]) -> None:
    parse(expand(argv, {}, "m", "ns"))


@given(st.lists(WORDS, min_size=1, max_size=4))
def test_values_after_a_flag_belong_to_it_up_to_the_next_flag(values: list[str]) -> None:
    parsed = parse(["--served-model-name", *values, "--port", "1"])
    assert parsed.all("served-model-name") == tuple(values)


def test_negative_number_is_a_value() -> None:
    assert parse(["--seed", "-1"]).first("seed") == "-1"


def test_flag_without_value_is_there() -> None:
    parsed = parse(["--enable-lora", "--port=1"])
    assert "enable-lora" in parsed
    assert parsed.first("enable-lora") is None


def test_kserve_templates_and_kubernetes_variables_are_filled() -> None:
    tokens = ["--model_name={{.Name}}", "{{ .Namespace }}", "$(DIR)/x", "$(UNSET)", "$$(DIR)"]
    assert expand(tokens, {"DIR": "/m", "SECRET": None}, "llama", "models") == (
        "--model_name=llama",
        "models",
        "/m/x",
        "$(UNSET)",
        "$(DIR)",
    )


def test_shell_script_is_split_like_the_shell_does() -> None:
    script = "exec vllm serve \"a/b\" \\\n  --port ${PORT} --served-model-name 'big one' # comment"
    assert expand(["/bin/sh", "-c", script], {"PORT": "8001"}, "m", "ns") == (
        "exec", "vllm", "serve", "a/b", "--port", "8001", "--served-model-name", "big one",
    )  # fmt: skip


def test_shell_script_that_cannot_be_split_is_read_by_words() -> None:
    assert expand(["bash", "-c", "vllm serve 'open"], {}, "m", "ns") == ("vllm", "serve", "'open")


def test_lora_modules_in_both_forms() -> None:
    modules = [
        "sql=/a",
        '{"name": "chat", "path": "/b"}',
        '[{"name": "c1"}, {"name": "c2"}]',
        "{broken",
        "no-equals",
    ]
    assert lora_names(modules) == ("sql", "chat", "c1", "c2")


def test_script_gets_what_follows_it_as_arguments() -> None:
    script = "export X=1\npython -m huggingfaceserver --tensor-parallel-size=1 $0 $@\n"
    words = expand(["bash", "-c", script, "--model_name=m", "--model_id=a b"], {}, "m", "ns")
    assert words[-2:] == ("--model_name=m", "--model_id=a b")


def test_script_without_place_for_arguments_drops_them() -> None:
    assert "--port=1" not in expand(["sh", "-c", "vllm serve m", "x", "--port=1"], {}, "m", "ns")
