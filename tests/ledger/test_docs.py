"""docs/ledger.md says what the settings are."""

import os
from pathlib import Path

from ledger.settings import described

FILE = Path(__file__).parents[2] / "docs" / "ledger.md"


def test_golden_settings_are_documented() -> None:
    rows = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {text} |" for name, default, text in described()
    ]
    before, rest = FILE.read_text().split("<!-- settings -->\n")
    _, after = rest.split("<!-- /settings -->")
    table = "\n".join(["| variable | default | |", "|---|---|---|", *rows])
    made = f"{before}<!-- settings -->\n{table}\n<!-- /settings -->{after}"
    if os.environ.get("GOLDEN") == "write":
        FILE.write_text(made)
    assert FILE.read_text() == made, "docs/ledger.md is stale: run make golden"
