"""Admission latency at 100 reviews a second with 50 KiB objects, beside a review that decides nothing."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable

from benchmarks.contestants import webhook


def compare(rounds: int, say: Callable[[str], None]) -> dict[str, object]:
    """Deciding and not deciding in turn: medians, CPU for each review, and resident memory."""
    runs: dict[str, list[dict[str, float]]] = {"/mutate": [], "/nothing": []}
    with webhook() as server:
        for _ in range(rounds):
            for path, results in runs.items():
                before = server.cpu_seconds()
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.webhook_load", str(server.port), path, "100", "6"],
                    check=True,
                    capture_output=True,
                    timeout=120,
                )
                figures: dict[str, float] = json.loads(done.stdout)
                figures["cpu_ms"] = (server.cpu_seconds() - before) / figures["reviews"] * 1e3
                results.append(figures)
        resident = server.resident_kib()

    def median(path: str, key: str) -> float:
        return round(statistics.median(run[key] for run in runs[path]), 2)

    result: dict[str, object] = {
        "reviews_a_second": 100,
        "review_bytes": runs["/mutate"][0]["bytes"],
        "patched": all(run["patched"] == run["reviews"] for run in runs["/mutate"]),
        "resident_kib": resident,
    }
    for path in runs:
        result[path] = {key: median(path, key) for key in ("p50_ms", "p99_ms", "cpu_ms")}
    result["cpu_ratio"] = round(median("/mutate", "cpu_ms") / median("/nothing", "cpu_ms"), 2)
    say(
        f"  admission: p99 {median('/mutate', 'p99_ms')} ms, {result['cpu_ratio']} x a review that decides nothing"
    )
    return result


def markdown(result: dict[str, object]) -> str:
    """The report's part."""
    ours, nothing = result["/mutate"], result["/nothing"]
    assert isinstance(ours, dict)
    assert isinstance(nothing, dict)
    assert isinstance(result["resident_kib"], int)
    return "\n".join(
        [
            f"Admission, {result['reviews_a_second']} reviews a second of {result['review_bytes']} bytes, over TLS:",
            "",
            "| review | p50 | p99 | CPU |",
            "|---|---|---|---|",
            f"| decided and injected | {ours['p50_ms']} ms | {ours['p99_ms']} ms | {ours['cpu_ms']} ms |",
            f"| read and allowed | {nothing['p50_ms']} ms | {nothing['p99_ms']} ms | {nothing['cpu_ms']} ms |",
            "",
            f"Resident memory, webhook: {result['resident_kib'] / 1024:.1f} MiB",
        ]
    )
