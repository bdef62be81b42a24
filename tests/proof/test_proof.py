"""The proof in small, and that its judge sees what is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.proof import report
from tests.proof.run import Result, Told, run
from tests.proof.scenario import Ending, Request, draw


async def test_the_ledger_has_what_the_server_made_to_the_token(tmp_path: Path) -> None:
    result = await run(draw(7, requests=160, kills=2), tmp_path)
    assert list(report.differences(result)) == [], report.table(result)
    assert result.kills == 2
    assert len(result.told) == 160


def told(made: tuple[int, int], *stored: tuple[int, int], counted_by: str = "running_usage") -> Told:
    request = Request("r1", "/v1/completions", {"stream": True}, [[]], [0], Ending.ABORT, 1, True, True)
    rows = [
        {"input_tokens": given, "output_tokens": output, "counted_by": counted_by, "exact": 0}
        for given, output in stored
    ]
    return Told(request, made, seen=True, reported=list(stored), rows=rows)


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (told((3, 4), (3, 4)), None),
        (told((3, 4), (3, 5)), "made (3, 4), stored (3, 5)"),
        (told((3, 4), (3, 4), (3, 4)), "stored 2 times"),
        (told((3, 4)), "not in the ledger"),
        (replace(told((3, 4), (3, 4)), reported=[(3, 3)]), "reported [(3, 3)], stored (3, 4)"),
        (replace(told((3, 4), (3, 2)), killed=True, checkpoint=(3, 2)), None),
        (replace(told((3, 4), (3, 1)), killed=True, checkpoint=(3, 2)), "is not between"),
        (replace(told((3, 4), (3, 5)), killed=True, checkpoint=(3, 2)), "is not between"),
        (replace(told((0, 0)), killed=True, seen=False), None),
    ],
)
def test_every_kind_of_difference_is_found(one: Told, problem: str | None) -> None:
    found = list(report.differences(Result([one])))
    assert [problem in text for text in found if problem] == ([True] if problem else [])
    assert len(found) == (problem is not None)


def test_a_scenario_is_the_same_for_the_same_seed() -> None:
    assert draw(3, 300, 2) == draw(3, 300, 2)
    assert draw(3, 300, 2) != draw(4, 300, 2)


def test_a_scenario_has_all_kinds_and_endings() -> None:
    everything = draw(1, 2000, 5).everything
    assert len(everything) == 2000
    assert {one.ending for one in everything} == set(Ending)
    assert {len(one.choices) for one in everything} >= {0, 1, 2, 3, 4}
