"""The demo itself, really run: its JSON contract, its four counts, and what it leaves behind."""

import os
import signal
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.demo.conftest import DEMO, REPOSITORY, Finished, living_in

COUNT = {"type": "integer", "minimum": 1}
TEXT = {"type": "string", "minLength": 1}


def exactly(**properties: object) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


USAGE = {
    "type": "object",
    "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
}
CONTRACT = exactly(
    injected=exactly(container={"const": "token-meter"}, port=COUNT, patch_operations=COUNT),
    objects={"type": "array", "minItems": 1, "items": exactly(kind=TEXT, namespace=TEXT, name=TEXT)},
    chat=exactly(status={"const": 200}, usage=USAGE, text=TEXT),
    stream=exactly(status={"const": 200}, usage=USAGE, chunks=COUNT),
    limit=exactly(
        tokens={"const": 1000},
        window={"const": "hour"},
        status={"const": 429},
        headers=exactly(
            **{
                "x-ratelimit-limit": {"const": "1000, 1000;w=3600"},
                "x-ratelimit-remaining": {"const": "0"},
                "x-ratelimit-reset": {"type": "string", "pattern": "^[0-9]+$"},
            }
        ),
    ),
    abort=exactly(delivered_chunks=COUNT, input_tokens=COUNT, output_tokens=COUNT, charged={"const": True}),
    counts=exactly(model=COUNT, sidecar=COUNT, gateway=COUNT, ledger=COUNT),
)


@pytest.mark.slow
def test_the_demo_ends_well_and_prints_one_json_object_and_nothing_else(run: Finished) -> None:
    assert run.code == 0, run.err
    assert run.out.count("\n") == 1
    jsonschema.validate(run.json, CONTRACT)


@pytest.mark.slow
def test_model_sidecar_gateway_and_ledger_count_the_same_tokens(run: Finished) -> None:
    counts = run.json["counts"]
    assert counts["model"] == counts["sidecar"] == counts["gateway"] == counts["ledger"]
    # More than the long prompt's four thousand: it is among them.
    assert counts["model"] > 4000 + run.json["limit"]["tokens"]


@pytest.mark.slow
def test_what_the_client_of_a_cut_stream_was_sent_is_counted(run: Finished) -> None:
    abort = run.json["abort"]
    # Long before the 400 tokens that it had asked for.
    assert 10 < abort["delivered_chunks"] <= abort["output_tokens"] < 300


@pytest.mark.slow
def test_the_stream_came_in_chunks(run: Finished) -> None:
    stream = run.json["stream"]
    assert 10 < stream["chunks"] <= stream["usage"]["completion_tokens"]


@pytest.mark.slow
def test_the_objects_are_those_that_render_prints(run: Finished) -> None:
    kinds = {item["kind"] for item in run.json["objects"]}
    assert kinds >= {
        "Backend",
        "AIServiceBackend",
        "AIGatewayRoute",
        "BackendTrafficPolicy",
        "ClientTrafficPolicy",
    }


@pytest.mark.slow
def test_nothing_is_left_behind(run: Finished) -> None:
    assert run.left == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_ends_all_that_it_started(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    folder = tmp_path.resolve()
    with subprocess.Popen(
        DEMO, env={**os.environ, "TMPDIR": str(folder)}, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        # The first request is on its way: everything runs by then.
        assert any("alice chats" in line for line in lines)
        running = " ".join(living_in(folder))
        assert all(
            name in running
            for name in ("envoy", "service_cmd", "valkey-server", "model_server", "sidecar", "ledger")
        )
        demo.send_signal(number)
        demo.stdout.read()
    assert demo.returncode == code
    assert living_in(folder) == []
    assert list(folder.iterdir()) == []


def test_a_part_that_cannot_be_had_is_said_in_a_line_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [*DEMO, "--json"],
        env={**os.environ, "TOKEN_METER_CACHE": str(tmp_path / "file" / "cache")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    first, *_, last = done.stderr.splitlines()
    assert first.startswith("token-meter demo: envoy: the cache ")
    assert last.startswith("To do: ")
    assert "Traceback" not in done.stderr
