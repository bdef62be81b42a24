"""docs/controller.md says what the settings and reasons are."""

import os
from pathlib import Path

from gateway.notices import Reason
from gateway.settings import described

FILE = Path(__file__).parents[3] / "docs" / "controller.md"
NOT_AN_EVENT = {Reason.KEY_PLACEHOLDER}
"""Said by `token-meter render` alone."""


def test_golden_reasons_are_documented() -> None:
    rows = [f"| `{reason}` | {reason.sentence} |" for reason in Reason if reason not in NOT_AN_EVENT]
    _held("reasons", ["| reason | |", "|---|---|", *rows])


def test_golden_settings_are_documented() -> None:
    table = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {text} |" for name, default, text in described()
    ]
    _held("settings", ["| variable | default | |", "|---|---|---|", *table])


def _held(name: str, rows: list[str]) -> None:
    """The lines between the marks are these; GOLDEN=write writes them."""
    text = FILE.read_text()
    before, rest = text.split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->")
    made = f"{before}<!-- {name} -->\n" + "\n".join(rows) + f"\n<!-- /{name} -->{after}"
    if os.environ.get("GOLDEN") == "write":
        FILE.write_text(made)
    assert FILE.read_text() == made, "docs/controller.md is stale: run make golden"
