"""What the benchmark's report says of a run: which targets are met, and by how much the others are missed."""

from typing import Any

import pytest

from benchmarks import report
from benchmarks.targets import judge


def figures(cpu: float, over: float = 1.0, **more: float) -> dict[str, Any]:
    return {"cpu_us": cpu, "over_envoy": over, "over_envoy_spread": [over, over], "a_second": 1.0, **more}


def results(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cases": {
            "64 streams": {"sidecar": figures(20.0), "envoy": figures(20.0), "litellm": figures(900.0)}
        },
        "idle_kib": {"sidecar": 40 * 1024, "envoy": 64 * 1024},
        "ready_s": {"sidecar": 0.5, "envoy": 0.1},
        "wrk": [],
        "python": "/usr/bin/python3",
    }
    return found | changes


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, set()),
        (
            {"cases": {"64 streams": {"sidecar": figures(22.0, 1.1), "envoy": figures(20.0)}}},
            {"CPU for each chunk, 64 streams"},
        ),
        (
            {
                "cases": {
                    "64 streams": {
                        "sidecar": figures(20.0),
                        "envoy": figures(20.0),
                        "litellm": figures(100.0),
                    }
                }
            },
            {"CPU for each chunk beside LiteLLM"},
        ),
        ({"idle_kib": {"sidecar": 49 * 1024}}, {"resident memory, idle"}),
        ({"ready_s": {"sidecar": 1.2}}, {"start to ready"}),
    ],
)
def test_a_target_that_is_missed_is_said_to_be(changes: dict[str, Any], missed: set[str]) -> None:
    assert {one.figure for one in judge(results(**changes)) if not one.met} == missed


def test_what_is_missed_is_explained_by_the_same_run() -> None:
    case = {"sidecar": figures(22.0, 1.1), "envoy": figures(20.0), "aiohttp": figures(30.0)}
    found = results(cases={"64 streams": case | {"no ledger": figures(21.0)}})
    text = report.markdown(found)
    (line,) = (line for line in text.splitlines() if line.startswith("- CPU for each chunk, 64 streams: "))
    assert "1.1 x" in line
    assert "without spool and events 21 us, aiohttp's plain proxy 30 us" in line
    assert "is missed" not in report.markdown(results())


def test_added_latency_is_what_comes_on_top_of_no_proxy() -> None:
    case = {
        "direct": figures(0, p50_us=100),
        "envoy": figures(1, p50_us=150),
        "sidecar": figures(1, p50_us=180),
    }
    (found,) = [
        one for one in judge(results(cases={"0.5 KiB body, 1 connection": case})) if "added" in one.figure
    ]
    assert (found.ours, found.envoy, found.met) == ("80 us: **1.60 x**", "50 us", False)


def test_the_report_and_its_chart_name_everyone() -> None:
    found = results()
    for text in (report.markdown(found), report.chart(found)):
        assert all(name in text for name in ("sidecar", "envoy", "litellm"))
