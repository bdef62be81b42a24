"""What the ledger answers to questions, over HTTP and by the command."""

import contextlib
import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.problems import Problem
from ledger.tables import HOUR_MS
from ledger.usage import read_query
from tests.ledger.process import Ledger, event

NOW = 1_769_861_234.5  # 2026-01-31T12:07:14.5Z
NOON = 1_769_860_800_000


def test_sums_are_grouped_and_filtered(ledger: Ledger) -> None:
    ledger.send(
        [
            event(user="alice"),
            event(user="alice", model="n", outcome="client_disconnect", exact=False),
            event(user="bob", place="team-b/llama/llama-predictor-0", input_tokens=100),
            event(user=None),
        ]
    )
    by_user = ledger.usage("group_by=user")
    assert [(row["user"], row["requests"], row["total_tokens"]) for row in by_user["rows"]] == [
        ("bob", 1, 104),
        ("alice", 2, 14),
        ("", 1, 7),
    ]
    assert by_user["total"]["total_tokens"] == 125
    rows = ledger.usage("group_by=namespace&group_by=exact&exact=false")["rows"]
    assert [(row["namespace"], row["exact"], row["requests"]) for row in rows] == [("team-a", False, 1)]
    assert ledger.usage("namespace=team-b")["total"]["requests"] == 1
    assert ledger.usage("user=alice&user=bob&model=m")["total"]["requests"] == 2
    (day,) = ledger.usage("group_by=day")["rows"][-1:]
    assert day["day"].endswith("T00:00:00Z")


def test_rows_are_bounded_and_the_answer_says_so(ledger: Ledger) -> None:
    ledger.send([event(user=f"u{n:03}", input_tokens=n) for n in range(50)])
    answer = ledger.usage("group_by=user&limit=3")
    assert [row["user"] for row in answer["rows"]] == ["u049", "u048", "u047"]
    assert (answer["truncated"], answer["groups"]) == (True, 50)
    assert answer["total"]["requests"] == 50
    whole = ledger.usage("group_by=user&limit=50")
    assert (len(whole["rows"]), whole["truncated"], whole["groups"]) == (50, False, 50)
    assert ledger.usage("group_by=user&user=nobody")["groups"] == 0
    assert [row["user"] for row in ledger.usage("group_by=user&limit=1&sort=input_tokens")["rows"]] == [
        "u000"
    ]


def test_users_are_found_by_a_part_of_their_name(ledger: Ledger) -> None:
    ledger.send([event(user=name) for name in ("alice", "Malik", "bob", "50%", "a_b")] + [event(user=None)])

    def found(text: str) -> set[str]:
        return {row["user"] for row in ledger.usage(f"group_by=user&user_contains={text}")["rows"]}

    assert found("ALI") == {"alice", "Malik"}
    assert (found("%25"), found("_")) == ({"50%"}, {"a_b"})
    assert found("") == {"alice", "Malik", "bob", "50%", "a_b", ""}
    assert ledger.usage("user_contains=ali")["total"]["requests"] == 2


def test_groups_with_few_tokens_can_be_left_out(ledger: Ledger) -> None:
    ledger.send(
        [event(user="alice", input_tokens=30), event(user="alice", input_tokens=62), event(user="bob")]
    )
    answer = ledger.usage("group_by=user&at_least=100")
    assert [(row["user"], row["total_tokens"]) for row in answer["rows"]] == [("alice", 100)]
    assert (answer["groups"], answer["total"]["total_tokens"]) == (1, 107)
    assert ledger.usage("group_by=user&at_least=101")["groups"] == 0


def test_csv_is_safe_for_a_spreadsheet(ledger: Ledger) -> None:
    ledger.send([event(user='=1+1,"x"')])
    status, headers, body = ledger.request("GET", "/api/v1/usage?group_by=user&format=csv")
    assert (status, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    (row,) = csv.DictReader(io.StringIO(body.decode()))
    assert (row["user"], row["total_tokens"]) == ('\'=1+1,"x"', "7")


def command(ledger: Ledger, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "usage", "--url", f"http://127.0.0.1:{ledger.port}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_shows_the_same(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db", tmp_path) as ledger:
        ledger.send([event(user="alice", input_tokens=12_345), event(user="e\x1b[31mvil")])
        table = command(ledger, "--by", "user")
        assert table.returncode == 0, table.stderr
        first, *_ = [line.split() for line in table.stdout.splitlines()[1:]]
        assert first == ["alice", "1", "12,345", "4", "12,349", "0", "0"]
        assert "\x1b" not in table.stdout
        found = json.loads(command(ledger, "--by", "user", "-o", "json").stdout)
        assert found["rows"] == ledger.usage("group_by=user")["rows"]
        assert (
            command(ledger, "--by=user", "--user=alice", "-o", "csv")
            .stdout.splitlines()[1]
            .startswith("alice,1,")
        )
        wrong = command(ledger, "--by", "colour")
        assert (wrong.returncode, "group_by: 'colour' is none of user," in wrong.stderr) == (1, True)


def test_the_command_says_where_nobody_answers(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db", tmp_path) as ledger:
        pass
    gone = command(ledger)
    assert gone.returncode == 1
    assert f"no answer from http://127.0.0.1:{ledger.port}" in gone.stderr


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ([("colour", "red")], "colour: there is no such parameter"),
        ([("group_by", "hour,day")], "group_by: either hour or day"),
        ([("from", "yesterday")], "from: 'yesterday' is neither a time"),
        ([("from", "1h"), ("to", "2h")], "to: is not after `from`"),
        ([("exact", "yes")], "exact: 'yes' is neither true nor false"),
        ([("limit", "0")], "limit: '0' is no number from 1 to 10000"),
        ([("limit", "5"), ("limit", "6")], "limit: is given more than once"),
        ([("at_least", "-1")], "at_least: '-1' is no number from 0 to"),
        ([("user", "a\0b")], "user: has a NUL in it"),
        ([("sort", "-colour")], "sort: '-colour' is none of requests"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_reason(given_: list[tuple[str, str]], text: str) -> None:
    with pytest.raises(Problem) as caught:
        read_query(given_, NOW)
    assert caught.value.status == 400
    assert caught.value.detail.startswith(text)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("24h", "0m", (NOON - 24 * HOUR_MS, NOON + HOUR_MS)),
        ("2026-01-31T10:30:00Z", "2026-01-31T12:00:00+01:00", (NOON - 2 * HOUR_MS, NOON - HOUR_MS)),
        ("2026-01-30", "2026-01-31", (NOON - 36 * HOUR_MS, NOON - 12 * HOUR_MS)),
    ],
)
def test_an_hour_that_is_begun_is_taken_whole(start: str, end: str, expected: tuple[int, int]) -> None:
    query = read_query([("from", start), ("to", end)], NOW)
    assert (query.start, query.end) == expected


names = st.sampled_from(["from", "to", "group_by", "sort", "limit", "format", "user", "exact", "x"])


@given(st.lists(st.tuples(names, st.text(max_size=12)), max_size=5))
def test_any_parameters_are_read_or_refused_as_a_bad_request(given_: list[tuple[str, Any]]) -> None:
    with contextlib.suppress(Problem):
        query = read_query(given_, NOW)
        assert query.start < query.end
