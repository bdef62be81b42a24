"""The loads, and what one run of each gives of a contestant."""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass

from benchmarks.contestants import Contestant

EVERYONE = ("sidecar", "any server", "no ledger", "envoy", "nginx", "aiohttp", "litellm", "direct")
FAST = ("sidecar", "any server", "no ledger", "envoy", "nginx", "direct")
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Case:
    """One load, what one unit of it is, and who takes part."""

    name: str
    unit: str
    arguments: tuple[str, ...]
    who: tuple[str, ...] = EVERYONE

    @property
    def key(self) -> str:
        """The load's own count of units."""
        return f"{self.unit}s"


def _requests(connections: int, count: int, size: int, name: str) -> Case:
    plural = "s" if connections > 1 else ""
    return Case(
        f"{name} body, {connections} connection{plural}",
        "request",
        ("requests", str(connections), str(count), str(size)),
    )


def _streams(count: int, chunks: int, interval: float, who: tuple[str, ...] = EVERYONE) -> Case:
    name = f"{count:,} stream{'s' if count > 1 else ''}"
    return Case(name, "chunk", ("streams", str(count), str(chunks), str(interval)), who)


REQUESTS = (
    _requests(1, 3000, 512, "0.5 KiB"),
    _requests(16, 8000, 512, "0.5 KiB"),
    _requests(64, 8000, 512, "0.5 KiB"),
    _requests(16, 8000, 8192, "8 KiB"),
    _requests(16, 4000, 65536, "64 KiB"),
)
STREAMS = (
    _streams(1, 400, 0.005),
    _streams(16, 200, 0.01),
    _streams(64, 150, 0.02),
    _streams(512, 40, 0.1, tuple(name for name in EVERYONE if name != "litellm")),
    _streams(4000, 12, 1.0, FAST),
)


def half_rate(most: float) -> Case:
    """Half of the most requests a second, by the clock, for four seconds."""
    count = max(int(most / 2 * 4), 20)
    arguments = ("rate", "64", str(count), "512", f"{most / 2:.1f}")
    return Case("half of its most, 64 connections", "request", arguments)


def run(contestant: Contestant, case: Case) -> dict[str, float]:
    """Run it once. Adds `cpu_us`, the CPU for each unit in microseconds, and `peak_kib`, the most memory seen."""
    kind, first, second, *rest = case.arguments
    if contestant.share < 1 and kind != "rate":
        second = str(max(int(int(second) * contestant.share), int(first) if kind == "requests" else 10))
    stop, peak = threading.Event(), [contestant.resident_kib()]

    def watch() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], contestant.resident_kib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before = contestant.cpu_seconds()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", kind, str(contestant.port), first, second, *rest],
            check=True,
            capture_output=True,
            timeout=180,
        )
    finally:
        stop.set()
        watcher.join()
    used = contestant.cpu_seconds() - before
    result: dict[str, float] = json.loads(done.stdout)
    result["cpu_us"] = used / result[case.key] * 1e6
    result["peak_kib"] = float(peak[0])
    return result
