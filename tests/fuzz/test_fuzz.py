"""Every kept input still passes, and two thousand mutations of them do."""

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz.runs import corpus, run
from tests.fuzz.targets import NAMES, load


@pytest.mark.parametrize("name", NAMES)
def test_every_kept_input_passes(name: str) -> None:
    check = load(name).check
    inputs = corpus(name)
    assert inputs
    for path in inputs:
        check(path.read_bytes())


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel here")
@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path, "-runs=2000", "-seed=1")
    assert result.finding is None, result.said
    assert result.executions >= 2000
