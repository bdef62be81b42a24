"""What the injection replaced of the user's, noted in the sidecar's environment so that it can be put back.

Without a note, what looks like ours is ours. The sidecar itself does not read these variables.
"""

import json
from collections.abc import Mapping
from typing import Any

REPLACED = "INJECTION_REPLACED"
REVISION = "INJECTION_REVISION"
KEPT = "kept"
"""The note at something that the user wrote just as we would have: it stays."""
MADE = "made"
"""The note at a probe's handler that is there by the injection alone."""


def read(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """The notes in a container's environment; none where they are not readable."""
    for entry in sidecar.get("env") or ():
        if entry.get("name") == REPLACED:
            try:
                notes = json.loads(entry.get("value") or "{}")
            except ValueError:
                return {}
            return notes if isinstance(notes, dict) else {}
    return {}


def write(sidecar: dict[str, Any], notes: Mapping[str, Any]) -> None:
    """Add notes to those that are there already."""
    if notes:
        text = json.dumps({**read(sidecar), **notes}, separators=(",", ":"), sort_keys=True)
        set_variable(sidecar, REPLACED, text)


def set_variable(container: dict[str, Any], name: str, value: str) -> None:
    """Give the container's variable this value, at its place or at the end."""
    if container.get("env") is None:
        container["env"] = []
    for entry in container["env"]:
        if entry.get("name") == name:
            if entry.get("value") != value:
                entry["value"] = value
            return
    container["env"].append({"name": name, "value": value})
