"""`make bench`: what the sidecar costs beside Envoy, interleaved in one run; Markdown, or JSON with --json."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import admission, controller
from benchmarks.contestants import Contestant, envoy, mock_server, sidecar


@dataclass(frozen=True, slots=True)
class Case:
    """One load, and what one unit of it is."""

    name: str
    unit: str
    arguments: tuple[str, ...]
    key: str


REQUESTS = (
    Case("0.5 KiB body, 1 connection", "request", ("requests", "1", "3000", "512"), "requests"),
    Case("0.5 KiB body, 16 connections", "request", ("requests", "16", "8000", "512"), "requests"),
    Case("8 KiB body, 16 connections", "request", ("requests", "16", "8000", "8192"), "requests"),
)
STREAMS = (
    Case("16 streams", "chunk", ("streams", "16", "200", "0.01"), "chunks"),
    Case("64 streams", "chunk", ("streams", "64", "150", "0.02"), "chunks"),
    Case("512 streams", "chunk", ("streams", "512", "40", "0.1"), "chunks"),
)


def load(contestant: Contestant, case: Case) -> dict[str, float]:
    """Run a case against a contestant; adds `cpu_us`, its CPU for each unit in microseconds."""
    kind, *rest = case.arguments
    before = contestant.cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", kind, str(contestant.port), *rest],
        check=True,
        capture_output=True,
        timeout=120,
    )
    used = contestant.cpu_seconds() - before
    result: dict[str, float] = json.loads(done.stdout)
    result["cpu_us"] = used / result[case.key] * 1e6
    return result


def compare(
    case: Case, contestants: Sequence[Contestant], rounds: int, say: Callable[[str], None]
) -> dict[str, object]:
    """A B A B: medians of each contestant, and the ratio of the first to the second pair by pair."""
    runs: dict[str, list[dict[str, float]]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            runs[contestant.name].append(load(contestant, case))
    first, second = (runs[contestant.name] for contestant in contestants)
    ratios = [a["cpu_us"] / b["cpu_us"] for a, b in zip(first, second, strict=True)]
    result: dict[str, object] = {"case": case.name, "unit": case.unit}
    for name, results in runs.items():
        result[name] = {
            key: round(statistics.median(run[key] for run in results), 1)
            for key in ("cpu_us", "p50_us", "p99_us")
            if key in results[0]
        }
    result["ratio"] = round(statistics.median(ratios), 2)
    result["ratio_spread"] = [round(min(ratios), 2), round(max(ratios), 2)]
    say(f"  {case.name}: {result['ratio']} x Envoy for each {case.unit}")
    return result


def markdown(results: Sequence[dict[str, object]], memory: dict[str, int]) -> str:
    """The report."""
    lines = [
        "| case | sidecar CPU | Envoy CPU | ratio (spread) | sidecar p50 / p99 | Envoy p50 / p99 |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        ours, theirs, spread = result["sidecar"], result["envoy"], result["ratio_spread"]
        assert isinstance(ours, dict)
        assert isinstance(theirs, dict)
        assert isinstance(spread, list)
        latency = [
            f"{figures['p50_us']:.0f} / {figures['p99_us']:.0f} us" if "p50_us" in figures else ""
            for figures in (ours, theirs)
        ]
        lines.append(
            f"| {result['case']} | {ours['cpu_us']} us/{result['unit']} | {theirs['cpu_us']} us/{result['unit']} "
            f"| **{result['ratio']}** ({spread[0]} to {spread[1]}) | {latency[0]} | {latency[1]} |"
        )
    lines += ["", *(f"Resident memory, {name}: {kib / 1024:.1f} MiB" for name, kib in memory.items())]
    return "\n".join(lines)


def main() -> int:
    """Run the comparison and print the report."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON in place of Markdown")
    parser.add_argument(
        "--rounds", type=int, default=5, help="runs of each contestant in each case (default 5)"
    )
    parser.add_argument("--case", default="", help="only cases whose name has this in it")
    parser.add_argument(
        "--services",
        type=int,
        default=controller.SERVICES,
        help="InferenceServices of the controller (%(default)s)",
    )
    args = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    found = controller.measure(args.services, say) if args.case in "controller" else None
    reviews = admission.compare(args.rounds, say) if args.case in "admission" else None
    if args.case in ("controller", "admission") and args.case:
        print(controller.markdown(found) if found else admission.markdown(reviews or {}))
        return 0
    with mock_server() as upstream, sidecar(upstream) as ours, envoy(upstream) as theirs:
        memory = {f"{one.name} before": one.resident_kib() for one in (ours, theirs)}
        warm = Case("warm-up", "request", ("requests", "4", "2000", "512"), "requests")
        for contestant in (ours, theirs):
            load(contestant, warm)
        say("sidecar and Envoy in turn:")
        results = [
            compare(case, (ours, theirs), args.rounds, say)
            for case in (*REQUESTS, *STREAMS)
            if args.case in case.name
        ]
        memory |= {f"{one.name} after": one.resident_kib() for one in (ours, theirs)}
    if args.json:
        print(
            json.dumps(
                {"results": results, "resident_kib": memory, "admission": reviews, "controller": found}
            )
        )
        return 0
    print(markdown(results, memory))
    if reviews:
        print(f"\n{admission.markdown(reviews)}")
    if found:
        print(f"\n{controller.markdown(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
