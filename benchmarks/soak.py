"""`make soak`: 4,000 open streams for ten minutes with aborts and slow readers, and what is left of them after.

Memory, descriptors and tasks are looked at as it goes; at the end the sidecar's count is held to the server's. A whole
run without a problem is written to docs/soak.md.
"""

import argparse
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import contestants, report
from benchmarks.contestants import Contestant

_STREAMS, _SECONDS = 4000, 600.0
_LOOK_SECONDS = 10.0
_SETTLE_SECONDS = 30.0
_MOST_GROWTH = 1.1


def main() -> int:
    """Run it and print the report; 1 where something is left, grows or is counted wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--streams", type=int, default=_STREAMS, help="open at once (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for so long (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with contestants.mock_server() as upstream, contestants.sidecar(upstream) as sidecar:
        time.sleep(2)
        looks = [_look(sidecar)]
        command = [sys.executable, "-m", "benchmarks.soak_clients", *map(str, (sidecar.port, args.streams))]
        clients = subprocess.Popen(
            [*command, str(args.seconds), str(args.seed)], stdout=subprocess.PIPE, text=True
        )
        while clients.poll() is None:
            time.sleep(_LOOK_SECONDS)
            looks.append(_look(sidecar))
        assert clients.stdout
        seen = json.loads(clients.stdout.read())
        looks.append(_settled(sidecar, looks[0]))
        made = json.loads(_get(upstream, "/totals"))
        counted = _counted(sidecar)
    text = _report(looks, seen, made, counted)
    print(text)
    problems = list(_problems(looks, seen, made, counted))
    for problem in problems:
        print(f"PROBLEM: {problem}")
    if not problems and (args.streams, args.seconds) == (_STREAMS, _SECONDS):
        (report.DOCS / "soak.md").write_text(f"{_head(args.seed)}{text}\n")
        print(f"written: {report.DOCS / 'soak.md'}", file=sys.stderr)
    return 1 if problems else 0


def _settled(sidecar: Contestant, start: dict[str, float]) -> dict[str, float]:
    """When all that ended is gone; the pool keeps idle connections for a while."""
    end = time.monotonic() + _SETTLE_SECONDS
    while (look := _look(sidecar))["descriptors"] > start["descriptors"] and time.monotonic() < end:
        time.sleep(1)
    return look


def _look(sidecar: Contestant) -> dict[str, float]:
    metrics = _get(sidecar.admin_port, "/metrics")
    return {
        "MiB": sidecar.resident_kib() / 1024,
        "descriptors": len(list(Path(f"/proc/{sidecar.pid}/fd").iterdir())),
        "tasks": _sum(metrics, "token_meter_tasks"),
        "in_flight": _sum(metrics, "token_meter_requests_in_flight"),
        "connections": _sum(metrics, "token_meter_client_connections"),
    }


def _counted(sidecar: Contestant) -> dict[str, float]:
    metrics = _get(sidecar.admin_port, "/metrics")
    return {
        "requests": _sum(metrics, "token_meter_requests_total"),
        "input": _sum(metrics, "token_meter_tokens_total", 'direction="input"'),
        "output": _sum(metrics, "token_meter_tokens_total", 'direction="output"'),
        "events": _sum(metrics, "token_meter_events_total", 'result="accepted"'),
        "lost": _sum(metrics, "token_meter_spool_lost_events_total"),
    }


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return str(answer.read().decode())


def _sum(metrics: str, name: str, label: str = "") -> float:
    found = re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE)
    return sum(float(value) for labels, value in found if label in labels)


def _problems(looks: list[dict[str, float]], seen: Any, made: Any, counted: Any) -> Any:
    if (counted["input"], counted["output"]) != (made["input"], made["output"]):
        yield f"counted {counted}, made {made}"
    if counted["requests"] != made["streams"] or counted["lost"]:
        yield f"{made['streams']} streams, and {counted['requests']:.0f} requests, {counted['lost']:.0f} events lost"
    if seen["broken"] or seen["refused"]:
        yield f"the clients saw {seen['broken']} broken streams and {seen['refused']} refused connections"
    start, end = looks[0], looks[-1]
    for what in ("descriptors", "tasks", "in_flight", "connections"):
        if end[what] > start[what]:
            yield f"{what}: {start[what]:.0f} at the start, {end[what]:.0f} at the end"
    full = [look["MiB"] for look in looks if look["in_flight"] > 0.9 * max(one["in_flight"] for one in looks)]
    early, late = full[: len(full) // 3 or 1], full[-(len(full) // 3 or 1) :]
    if sum(late) / len(late) > _MOST_GROWTH * sum(early) / len(early):
        yield f"memory grows: {sum(early) / len(early):.0f} MiB, later {sum(late) / len(late):.0f} MiB"


def _head(seed: int) -> str:
    return (
        f"# Soak\n\nMade by `make soak`; do not edit. {report.where_and_when()} {_STREAMS:,} streams are open at once "
        f"for {_SECONDS / 60:.0f} minutes (seed {seed}): some clients leave in the middle, some read slowly, and each "
        "that has ended is followed by another. Metering, spool and events are on.\n\n"
    )


def _report(looks: list[dict[str, float]], seen: Any, made: Any, counted: Any) -> str:
    few = [looks[0], *looks[1 : -1 : max(len(looks) // 8, 1)], looks[-1]]
    return "\n".join(
        [
            "| | memory MiB | descriptors | tasks | requests under way |",
            "|---|---|---|---|---|",
            *(
                f"| {'start' if look is looks[0] else 'end' if look is looks[-1] else ''} | {look['MiB']:.1f} | "
                f"{look['descriptors']:.0f} | {look['tasks']:.0f} | {look['in_flight']:.0f} |"
                for look in few
            ),
            "",
            f"Clients: {seen['streams']:,} streams, {seen['whole']:,} read to their end, {seen['left']:,} left, "
            f"{seen['broken']} broken, {seen['refused']} refused.",
            "",
            "| | requests | input tokens | output tokens |",
            "|---|---|---|---|",
            f"| server made | {made['streams']:,} | {made['input']:,} | {made['output']:,} |",
            f"| sidecar counted | {counted['requests']:,.0f} | {counted['input']:,.0f} | {counted['output']:,.0f} |",
            "",
            f"Events the ledger took: {counted['events']:,.0f}; lost: {counted['lost']:.0f}.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
