"""The guide's objects as text, in both placements: `make golden` writes them again."""

import os
from pathlib import Path

import pytest

from cli.main import main
from tests.gateway.scenes import GATEWAY, GUIDE_FILE

FOLDER = Path(__file__).parent / "golden"
CASES = {
    "guide-local": ["--placement", "local"],
    "guide-cross": ["--placement", "cross"],
    "guide-cross-v1alpha1": ["--placement", "cross", "--api", "v1alpha1"],
    "guide-local-knative": ["--placement", "local", "--mode", "knative"],
}


@pytest.mark.parametrize("name", CASES)
def test_golden_objects(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-f", str(GUIDE_FILE), "--gateway", str(GATEWAY), *CASES[name]]) == 0
    text, file = capsys.readouterr().out, FOLDER / f"{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        file.write_text(text)
    assert file.exists(), f"{file.name} is missing: run make golden"
    assert text == file.read_text(), f"{file.name} is stale: run make golden and look at the difference"


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(CASES)
