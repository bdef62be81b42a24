"""Values of Kubernetes objects as numbers, and the error for what cannot be played."""

import re
from collections.abc import Mapping
from typing import Any


class UnsupportedError(ValueError):
    """The objects ask for what Envoy's own filters cannot do, or name what is not there."""


def only(what: str, mapping: Mapping[str, Any], *known: str) -> None:
    """Refuse fields that are not known: what is not played must not look as if it were."""
    if unknown := sorted(mapping.keys() - set(known)):
        raise UnsupportedError(f"{what}: {', '.join(unknown)}")


def bytes_of(quantity: str | int) -> int:
    """A Kubernetes quantity (`50Mi`, `1M`, 32768) in bytes."""
    if not (found := re.fullmatch(r"(\d+)([KMG]i?|k)?", str(quantity))):
        raise UnsupportedError(f"the quantity {quantity}")
    unit = (found[2] or "").upper()
    base = 1024 if unit.endswith("I") else 1000
    return int(found[1]) * int(base ** " KMG".index(unit[:1] or " "))


def seconds(duration: str) -> float:
    """A Gateway API duration (`1h`, `5m30s`, `600s`, `250ms`) in seconds."""
    parts = re.findall(r"(\d+)(ms|h|m|s)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise UnsupportedError(f"the duration {duration}")
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[unit] for number, unit in parts)
