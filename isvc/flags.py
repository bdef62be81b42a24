"""A container's command line as the model servers read it: templates, `$(VAR)`, shells, every form of a flag.

Accepted are `--k=v`, `--k v`, `--k v w`, `-k v`, `_` for `-`, and quotes around a value; a flag given again
replaces the earlier one, as argparse does it (KServe appends the ISVC's args to the runtime's for that
reason).
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SHELLS = {"sh", "bash", "dash", "ash", "zsh"}
_NUMBER = re.compile(r"-\d+(\.\d+)?")
_TEMPLATE = re.compile(r"\{\{-?\s*\.(Name|Namespace)\s*-?\}\}")
_VARIABLE = re.compile(r"\$(\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")


@dataclass(frozen=True, slots=True)
class Flags:
    """A command line: the values after each flag by its name (no leading dashes), and the words before."""

    values: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]

    def first(self, *names: str) -> str | None:
        """The first value of the first of `names` that was given with one."""
        return next((value for name in names for value in self.values.get(name, ())), None)

    def all(self, *names: str) -> tuple[str, ...]:
        """Every value of the first of `names` that was given with one."""
        return next((self.values[name] for name in names if self.values.get(name)), ())

    def __contains__(self, name: str) -> bool:
        return name in self.values


def parse(argv: Sequence[str]) -> Flags:
    """Read a command line; nothing in it is an error, as servers ignore what they don't know."""
    values: dict[str, tuple[str, ...]] = {}
    words: list[str] = []
    flag: str | None = None
    for token in argv:
        if token.startswith("-") and token.strip("-") and not _NUMBER.fullmatch(token):
            name, equals, value = token.partition("=")
            flag = name.lstrip("-").replace("_", "-")
            values[flag] = (unquote(value),) if equals else ()
            if equals:
                flag = None
        elif flag is None:
            words.append(token)
        else:
            values[flag] += (unquote(token),)
    return Flags(values, tuple(words))


def unquote(text: str) -> str:
    """Without one pair of quotes around it."""
    text = text.strip()
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def expand(
    tokens: Sequence[str], env: Mapping[str, str | None], name: str, namespace: str
) -> tuple[str, ...]:
    """The command line that the process gets.

    KServe fills `{{.Name}}` and `{{.Namespace}}` (ReplacePlaceholders), the kubelet `$(VAR)`, a shell splits
    its script.
    """
    fields = {"Name": name, "Namespace": namespace}

    def variable(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        value = env.get(match[2])
        return match[0] if value is None else value

    filled = [_VARIABLE.sub(variable, _TEMPLATE.sub(lambda m: fields[m[1]], token)) for token in tokens]
    return _without_shell(filled, env)


def _without_shell(tokens: Sequence[str], env: Mapping[str, str | None]) -> tuple[str, ...]:
    """The words of a `sh -c SCRIPT` command line, read as far as a script can be read without running it."""
    if not is_shell(tokens):
        return tuple(tokens)
    place = next((i for i, token in enumerate(tokens) if i and not token.startswith("-")), None)
    if place is None:
        return ()
    script = _with_arguments(tokens[place], tokens[place + 1 :])
    for key, value in env.items():
        if value is not None:
            script = re.sub(
                rf"\$(\{{{re.escape(key)}\}}|{re.escape(key)}\b)", value.replace("\\", r"\\"), script
            )
    try:
        return tuple(shlex.split(script.replace("\\\n", " "), comments=True))
    except ValueError:  # an open quote: the shell would refuse it, or it is beyond this reading
        return tuple(script.split())


def _with_arguments(script: str, arguments: Sequence[str]) -> str:
    """The script with what follows it on the command line in place of `$0`, `$@` and `$*`."""
    first, rest = shlex.join(arguments[:1]), shlex.join(arguments[1:])
    script = re.sub(r'"?\$(\{[@*]\}|[@*])"?', lambda _: rest, script)
    return re.sub(r'"?\$(\{0\}|0)"?', lambda _: first, script)


def is_shell(command: Sequence[str]) -> bool:
    """Whether the command runs a shell, so that what is appended to it need not reach the server."""
    return bool(command) and command[0].rsplit("/", 1)[-1] in _SHELLS


def lora_names(modules: Sequence[str]) -> tuple[str, ...]:
    """The names in `--lora-modules`: `name=path`, or vLLM's JSON form, one object or a list of them."""
    names: list[str] = []
    for module in modules:
        if module.startswith(("{", "[")):
            try:
                parsed = json.loads(module)
            except ValueError:
                continue
            entries = parsed if isinstance(parsed, list) else [parsed]
            names += [e["name"] for e in entries if isinstance(e, dict) and isinstance(e.get("name"), str)]
        elif "=" in module:
            names.append(unquote(module.partition("=")[0]))
    return tuple(names)
