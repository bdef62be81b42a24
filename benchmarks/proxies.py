"""The sidecar beside the other proxies: every case in turn (A B C A B C), medians and spread over the rounds."""

import contextlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import contestants
from benchmarks.cases import REQUESTS, STREAMS, Case, half_rate, run
from benchmarks.contestants import Contestant

Say = Callable[[str], None]
Results = dict[str, Any]
_WARM = Case("warm-up", "request", ("requests", "4", "2000", "512"))
_MOST = "0.5 KiB body, 64 connections"


def measure(rounds: int, wanted: str, say: Say, *, without: Sequence[str] = ()) -> Results:
    """`cases`: by name and contestant the medians of each figure, `cpu_us_all` in each round, and `over_envoy`, the
    median of the ratios of CPU round by round; `idle_kib` and `ready_s` by contestant."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(contestants.mock_server())
        running = [one for one in _start(stack, upstream, without) if one is not None]
        for one in running:
            run(one, _WARM)
        idle = {one.name: one.resident_kib() for one in running if one.pid is not None}
        cases: dict[str, Any] = {}
        for case in (*REQUESTS, *STREAMS):
            if wanted in case.name:
                taking_part = [one for one in running if one.name in case.who]
                cases[case.name] = _compare(case, taking_part, rounds, say)
        if wanted in _HALF and _MOST in cases:
            cases[_HALF] = _at_half(cases[_MOST], running, rounds, say)
        beside = [_beside_wrk(one) for one in running if one.name in ("sidecar", "envoy")]
    ready = _ready(rounds, running, say)
    return {
        "python": contestants.python(),
        "cases": cases,
        "idle_kib": idle,
        "ready_s": ready,
        "wrk": [one for one in beside if one],
    }


_WRK = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"model":"bench","messages":[{"role":"user","content":"' .. string.rep("x", 442) .. '"}]}'
"""
_HALF = "half of its most, 64 connections"


def _start(stack: contextlib.ExitStack, upstream: int, without: Sequence[str]) -> Iterator[Contestant | None]:
    yield stack.enter_context(contestants.sidecar(upstream))
    yield stack.enter_context(contestants.sidecar(upstream, "generic", name="any server"))
    yield stack.enter_context(contestants.sidecar(upstream, ledger=False, name="no ledger"))
    yield stack.enter_context(contestants.envoy(upstream))
    yield stack.enter_context(contestants.direct(upstream))
    others = {
        "nginx": contestants.nginx,
        "aiohttp": contestants.aiohttp,
        "litellm": contestants.litellm,
    }
    for name, start in others.items():
        if name not in without:
            yield stack.enter_context(start(upstream))


def _compare(case: Case, running: Sequence[Contestant], rounds: int, say: Say) -> Results:
    runs: dict[str, list[dict[str, float]]] = {one.name: [] for one in running}
    for _ in range(rounds):
        for one in running:
            runs[one.name].append(run(one, case))
    found = {name: _median(results) for name, results in runs.items()}
    if "envoy" in runs:
        for name, results in runs.items():
            pairs = zip(results, runs["envoy"], strict=True)
            ratios = [mine["cpu_us"] / max(theirs["cpu_us"], 0.1) for mine, theirs in pairs]
            found[name]["over_envoy"] = round(statistics.median(ratios), 2)
            found[name]["over_envoy_spread"] = [round(min(ratios), 2), round(max(ratios), 2)]
    ours = found.get("sidecar") or next(iter(found.values()))
    say(f"  {case.name}: {ours['cpu_us']} us/{case.unit}, {ours.get('over_envoy', '-')} x Envoy")
    return found


def _median(results: Sequence[dict[str, float]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: round(statistics.median(one[key] for one in results), 1) for key in results[0] if key in _KEPT
    }
    found["a_second"] = round(statistics.median(_pace(one) for one in results), 1)
    return found


_KEPT = frozenset(
    {
        "cpu_us",
        "p50_us",
        "p99_us",
        "first_p50_us",
        "first_p99_us",
        "jitter_p50_us",
        "jitter_p99_us",
        "peak_kib",
    }
)


def _pace(one: dict[str, float]) -> float:
    return (one.get("requests") or one["chunks"]) / one["seconds"]


def _at_half(most: Results, running: Sequence[Contestant], rounds: int, say: Say) -> Results:
    """All at half of the sidecar's own pace, but for those that can do less: at half of theirs."""
    ours = most["sidecar"]["a_second"]
    slow = [one for one in running if one.pid is not None and most[one.name]["a_second"] < ours / 2]
    found = _compare(half_rate(ours), [one for one in running if one not in slow], rounds, lambda _: None)
    for one in slow:
        found |= _compare(half_rate(most[one.name]["a_second"]), [one], rounds, lambda _: None)
    say(f"  {_HALF}: p99 {found['sidecar']['p99_us']} us, Envoy's {found['envoy']['p99_us']} us")
    return found


def _beside_wrk(one: Contestant) -> dict[str, Any] | None:
    """Requests a second by our load generator and by wrk, with the same requests over 16 connections."""
    program = shutil.which("wrk")
    if program is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_WRK)
        script.flush()
        url = f"http://127.0.0.1:{one.port}/v1/chat/completions"
        done = subprocess.run(
            [program, "-t1", "-c16", "-d4s", "-s", script.name, url],
            check=True,
            capture_output=True,
            text=True,
        )
    told = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    ours = run(one, REQUESTS[1])
    return {"name": one.name, "wrk": float(told.group(1)) if told else 0.0, "ours": round(_pace(ours), 1)}


def _ready(rounds: int, running: Sequence[Contestant], say: Say) -> dict[str, float]:
    """Seconds from the sidecar's start until it says that it is ready; of the others until they listen."""
    found = {one.name: round(one.ready_seconds, 2) for one in running if one.pid is not None}
    times = []
    for _ in range(rounds):
        with contestants.mock_server() as upstream:
            begun = time.monotonic()
            with contestants.sidecar(upstream) as one:
                while not _is_ready(one.admin_port):
                    time.sleep(0.005)
                times.append(time.monotonic() - begun)
    found["sidecar"] = round(statistics.median(times), 2)
    say(f"  ready after {found['sidecar']} s")
    return found


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
