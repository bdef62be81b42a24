"""What the sidecar is held to, and what a run has shown of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_IDLE_MIB, _STREAM_KIB, _READY_SECONDS = 48.0, 24.0, 1.0
_LEAST_CHUNKS, _LEAST_REQUESTS = 40.0, 100.0
_MANY = "4,000 streams"


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table: texts for the reader, whether it is met, and what this run says of the reasons if not."""

    figure: str
    target: str
    ours: str
    envoy: str
    litellm: str
    met: bool
    why: str = ""


def judge(results: dict[str, Any]) -> Iterator[Target]:
    """The targets that this run has figures for."""
    cases, idle, ready = results["cases"], results["idle_kib"], results["ready_s"]
    for case, what in (
        ("64 streams", "CPU for each chunk, 64 streams"),
        ("512 streams", "CPU for each chunk, 512 streams"),
        ("0.5 KiB body, 16 connections", "CPU for each request, 0.5 KiB"),
        ("8 KiB body, 16 connections", "CPU for each request, 8 KiB"),
    ):
        if case in cases:
            yield _cpu(what, cases[case])
    yield from _latencies(cases)
    if "sidecar" in idle:
        mib = {name: kib / 1024 for name, kib in idle.items()}
        figures = _texts(mib, "{:.1f} MiB")
        yield Target(
            "resident memory, idle", f"at most {_IDLE_MIB:.0f} MiB", *figures, mib["sidecar"] <= _IDLE_MIB
        )
    if _MANY in cases:
        each = {name: (found["peak_kib"] - idle.get(name, 0)) / 4000 for name, found in cases[_MANY].items()}
        yield Target(
            "resident memory, each open stream of 4,000",
            f"at most {_STREAM_KIB:.0f} KiB",
            *_texts(each, "{:.1f} KiB"),
            each["sidecar"] <= _STREAM_KIB,
        )
    if "sidecar" in ready:
        yield Target(
            "start to ready",
            f"at most {_READY_SECONDS} s",
            *_texts(ready, "{:.2f} s"),
            ready["sidecar"] <= _READY_SECONDS,
        )
    for case, unit, least in (
        ("64 streams", "chunk", _LEAST_CHUNKS),
        ("0.5 KiB body, 16 connections", "request", _LEAST_REQUESTS),
    ):
        found = cases.get(case, {})
        if "litellm" in found:
            times = found["litellm"]["cpu_us"] / found["sidecar"]["cpu_us"]
            ours = f"{times:.0f} x less"
            yield Target(
                f"CPU for each {unit} beside LiteLLM", f"{least:.0f} x less", ours, "", "1", times >= least
            )


def _cpu(what: str, found: dict[str, Any]) -> Target:
    ours = found["sidecar"]
    low, high = ours["over_envoy_spread"]
    text = f"{ours['cpu_us']} us: **{ours['over_envoy']} x** ({low} to {high})"
    others = _texts({name: figures["cpu_us"] for name, figures in found.items()}, "{:.1f} us")
    why = _beside(found, "cpu_us", "{:.0f} us")
    return Target(what, "at most Envoy's", text, others[1], others[2], ours["over_envoy"] <= 1.0, why)


def _latencies(cases: dict[str, Any]) -> Iterator[Target]:
    for case, key, what in (
        ("0.5 KiB body, 1 connection", "p50_us", "added p50, 1 connection"),
        ("half of its most, 64 connections", "p99_us", "added p99, 64 connections at half of its most"),
    ):
        found = cases.get(case, {})
        if {"sidecar", "envoy", "direct"} <= found.keys():
            nothing = found["direct"][key]
            added = {name: figures[key] - nothing for name, figures in found.items()}
            ratio = added["sidecar"] / max(added["envoy"], 1.0)
            texts = _texts(added, "{:.0f} us")
            ours = f"{texts[0]}: **{ratio:.2f} x**"
            why = _beside(found, key, "{:.0f} us", nothing)
            yield Target(what, "at most 1.5 x Envoy's", ours, texts[1], texts[2], ratio <= 1.5, why)


def _beside(found: dict[str, Any], key: str, form: str, nothing: float = 0.0) -> str:
    """What the sidecar needs without its ledger, and what a proxy in Python needs that does nothing else."""
    said = (
        f"{what} {form.format(found[name][key] - nothing)}"
        for name, what in (("no ledger", "without spool and events"), ("aiohttp", "aiohttp's plain proxy"))
        if name in found
    )
    return ", ".join(said)


def _texts(figures: dict[str, float], form: str) -> tuple[str, str, str]:
    """Ours, Envoy's, LiteLLM's."""
    ours, envoy, litellm = (
        form.format(figures[name]) if name in figures else "" for name in ("sidecar", "envoy", "litellm")
    )
    return ours, envoy, litellm
