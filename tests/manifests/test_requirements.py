"""What is installed: pinned by hash, from a registry, and in the model's pod only what was decided."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
FILES = sorted(path.name for path in REQUIREMENTS.glob("*.txt"))
_PIN = re.compile(r"([a-z0-9][a-z0-9-]*)(\[[a-z,]+\])?==[^\s;\\]+( ; [^\\]+)?( \\)?")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
# Each runs beside every GPU: a new one is a decision, with its memory and its maintainers in mind.
_SIDECAR = {
    "annotated-types",
    "httptools",
    "jinja2",
    "markupsafe",
    "orjson",
    "prometheus-client",
    "pydantic",
    "pydantic-core",
    "regex",
    "sentencepiece",
    "tiktoken",
    "tokenizers",
    "typing-extensions",
    "typing-inspection",
    "uvloop",
}


def _lines(name: str) -> list[str]:
    lines = (REQUIREMENTS / name).read_text().splitlines()
    return [line for line in lines if line and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_and_has_its_hashes(name: str) -> None:
    """No option, address or path stands in a file: what is not a pin or a hash is found here."""
    pinned = ""
    hashes: dict[str, int] = {}
    for line in _lines(name):
        if match := _PIN.fullmatch(line):
            pinned = match[1]
            hashes[pinned] = 0
        else:
            assert _HASH.fullmatch(line), line
            hashes[pinned] += 1
    assert hashes
    assert all(hashes.values()), hashes


def test_the_sidecar_carries_what_was_decided_and_nothing_else() -> None:
    assert {match[1] for line in _lines("sidecar.txt") if (match := _PIN.fullmatch(line))} == _SIDECAR
