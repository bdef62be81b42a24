"""The findings as one screen, or as JSON."""

import json
from collections.abc import Mapping

from cli.checks.finding import Finding, State, as_json

_WORDS = {State.OK: "ok", State.WARNING: "warn", State.FAILURE: "FAIL", State.UNKNOWN: "?"}
_COLOURS = {State.OK: "32", State.WARNING: "33", State.FAILURE: "31", State.UNKNOWN: "33"}
MOST = 5
"""Objects shown for one check; `-o json` has all."""


def fit(findings: Mapping[str, Finding]) -> bool:
    """Whether nothing fails."""
    return not any(finding.state is State.FAILURE for finding in findings.values())


def text(findings: Mapping[str, Finding], *, colour: bool) -> str:
    """A line a check; below it what it is about, and what mends it."""
    lines = []
    width = max(map(len, findings))
    for name, finding in findings.items():
        word = f"{_WORDS[finding.state]:<5}"
        shown = f"\x1b[{_COLOURS[finding.state]}m{word}\x1b[0m" if colour else word
        lines.append(f"{shown}{name:<{width}}  {finding.text}")
        lines += [f"       {item}" for item in finding.items[:MOST]]
        if len(finding.items) > MOST:
            lines.append(f"       ... and {len(finding.items) - MOST} more")
        if finding.todo:
            lines.append(f"       to do: {finding.todo}")
    lines.append(
        "The cluster is fit." if fit(findings) else "The cluster is not fit: mend what is marked FAIL."
    )
    return "\n".join(lines) + "\n"


def as_text_json(findings: Mapping[str, Finding]) -> str:
    """One JSON object (docs/check.md)."""
    checks = [as_json(name, finding) for name, finding in findings.items()]
    return json.dumps({"fit": fit(findings), "checks": checks}, indent=2) + "\n"
