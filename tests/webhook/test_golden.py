"""Whole InferenceServices before and after, as text: `make golden` writes the results again."""

import os
from pathlib import Path

import pytest

from cli.main import main

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.name.removesuffix(".before.yaml") for path in FOLDER.glob("*.before.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_golden_injection(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = FOLDER / f"{name}.before.yaml", FOLDER / f"{name}.after.yaml"
    assert main(["inject", "-f", str(before)]) == 0
    text = capsys.readouterr().out
    if os.environ.get("GOLDEN") == "write":
        after.write_text(text)
    assert after.exists(), f"{after.name} is missing: run make golden"
    assert text == after.read_text(), f"{after.name} is stale: run make golden and look at the difference"


@pytest.mark.parametrize("name", NAMES)
def test_golden_result_is_left_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    after = FOLDER / f"{name}.after.yaml"
    assert main(["inject", "-f", str(after)]) == 0
    assert capsys.readouterr().out == after.read_text()


def test_every_golden_result_has_its_input() -> None:
    assert {path.name.removesuffix(".after.yaml") for path in FOLDER.glob("*.after.yaml")} == set(NAMES)
