"""Judging a run: for each request what the ledger has beside what the server has made. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.proof.run import Result, Tokens, Told
from tests.proof.scenario import Ending

OPEN_AT_A_KILL = "open at a kill"
NOTHING_SAID = "stream: client gone before the first token"


@dataclass(slots=True)
class Row:
    """Requests of one kind: what was made, reported (log lines of the sidecar) and stored."""

    requests: int = 0
    made: list[int] = field(default_factory=lambda: [0, 0])
    reported: list[int] = field(default_factory=lambda: [0, 0])
    stored: list[int] = field(default_factory=lambda: [0, 0])
    exact: int = 0
    wrong: int = 0


def row_of(told: Told) -> str:
    """The row that a request belongs to."""
    if told.killed:
        return OPEN_AT_A_KILL
    request = told.request
    if request.ending is Ending.ABORT and request.stream and request.at == 0:
        return NOTHING_SAID
    return f"{request.kind}: {request.ending}"


def differences(result: Result) -> Iterator[str]:
    """What must not be: a sentence each."""
    yield from (f"the scripted server failed: {trouble}" for trouble in result.troubles)
    if result.spool_left:
        yield f"{result.spool_left} events are left in the spool"
    for told in result.told:
        if problem := _problem(told):
            request = told.request
            yield (
                f"{request.id} {request.kind} ({request.ending}, at {request.at} of {len(request.order)}, "
                f"{len(request.choices)} choices): {problem}"
            )


def _problem(told: Told) -> str | None:
    if len(told.rows) > 1:
        return f"stored {len(told.rows)} times"
    if not told.rows:
        if told.killed and not told.seen:
            return None  # it never came to the server
        return "not in the ledger"
    stored = _stored(told)
    if told.killed:
        least = told.checkpoint or (0, 0)
        if not (_at_most(least, stored) and _at_most(stored, told.made)):
            return f"stored {stored} is not between the checkpoint {least} and what was made {told.made}"
        return None
    if row_of(told) == NOTHING_SAID and told.rows[0]["counted_by"] == "estimate":
        # A chat template that the sidecar does not have, or a prompt that it does not keep: no more than a guess.
        return None if stored[1] == 0 else f"stored {stored}, and no token was made"
    # The last lines of a killed sidecar's log are lost with it.
    if told.reported and told.reported != [stored]:
        return f"reported {told.reported}, stored {stored}"
    return (
        None if stored == told.made else f"made {told.made}, stored {stored} ({told.rows[0]['counted_by']})"
    )


def table(result: Result) -> str:
    """Markdown: a row for each kind of request and ending."""
    rows: dict[str, Row] = {}
    for told in result.told:
        row = rows.setdefault(row_of(told), Row())
        row.requests += 1
        _add(row.made, told.made)
        for tokens in told.reported:
            _add(row.reported, tokens)
        if told.rows:
            _add(row.stored, _stored(told))
            row.exact += bool(told.rows[0]["exact"])
        row.wrong += _problem(told) is not None
    lines = [
        "| requests | | server made (input + output) | sidecar reported | ledger has | exact | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    everything = Row()
    for name in sorted(rows, key=lambda name: (name in (OPEN_AT_A_KILL, NOTHING_SAID), name)):
        row = rows[name]
        lines.append(_line(name, row))
        everything.requests += row.requests
        everything.exact += row.exact
        everything.wrong += row.wrong
        for total, part in (
            (everything.made, row.made),
            (everything.reported, row.reported),
            (everything.stored, row.stored),
        ):
            total[0] += part[0]
            total[1] += part[1]
    return "\n".join([*lines, _line("**all**", everything)])


def _line(name: str, row: Row) -> str:
    made, reported, stored = (f"{one[0]:,} + {one[1]:,}" for one in (row.made, row.reported, row.stored))
    return f"| {name} | {row.requests:,} | {made} | {reported} | {stored} | {row.exact:,} | {row.wrong} |"


def _stored(told: Told) -> Tokens:
    row = told.rows[0]
    return row["input_tokens"], row["output_tokens"]


def _add(total: list[int], tokens: Tokens) -> None:
    total[0] += tokens[0]
    total[1] += tokens[1]


def _at_most(one: Tokens, other: Tokens) -> bool:
    return one[0] <= other[0] and one[1] <= other[1]
