"""Whether a ClientTrafficPolicy of the user's leaves the Gateway a buffer that prompts and answers fit in. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.notices import Notice, Reason
from gateway.objects.traffic import BUFFER

LEAST = 1 << 20
"""Bytes: about a prompt of 200,000 tokens. Envoy Gateway's own default is 32 KiB."""
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|[KMGTPE]i?|[eE][+-]?[0-9]+)?")
_UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)
}


def too_small(policies: Iterable[Mapping[str, Any]]) -> Iterator[Notice]:
    """Say it of each policy; they are those on one Gateway, on the whole of it or on one listener."""
    for policy in policies:
        limit = ((policy.get("spec") or {}).get("connection") or {}).get("bufferLimit")
        if limit is None or not _bytes(str(limit)) >= LEAST:
            metadata = policy["metadata"]
            has = "no connection.bufferLimit" if limit is None else f"connection.bufferLimit {limit}"
            where = f"ClientTrafficPolicy {metadata['namespace']}/{metadata['name']}"
            yield Notice(Reason.BUFFER_TOO_SMALL, f"{where} has {has}; set it to {BUFFER}")


def _bytes(quantity: str) -> float:
    """A Kubernetes quantity; NaN for what is none."""
    if (found := _QUANTITY.fullmatch(quantity)) is None:
        return float("nan")
    number, unit = found.groups()
    if unit is None or (unit[0] in "eE" and len(unit) > 1 and unit[1] != "i"):
        return float(quantity)
    return float(number) * _UNITS[unit]
