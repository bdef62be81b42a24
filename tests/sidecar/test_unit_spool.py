"""The spool's checkpoints: a step at a time, with requests that end in between."""

import asyncio
import os
from pathlib import Path

from sidecar import segments
from sidecar.endpoints import Endpoint
from sidecar.event import Source
from sidecar.log import Log
from sidecar.record import CountedBy, Record
from sidecar.spool import STEP, Spool
from sidecar.usage import Usage


def request(tokens: list[int]) -> Record:
    """One under way, whose count is what the list says."""
    record = Record(Endpoint.CHAT_COMPLETIONS, 0.0, "r")
    record.so_far = lambda: (Usage(0, tokens[0]), CountedBy.RUNNING)
    return record


def on_disk(folder: Path) -> segments.Contents:
    return segments.read(b"".join(path.read_bytes() for path in sorted(folder.glob("*.spool"))))


async def test_a_request_that_ends_during_a_sweep_is_not_opened_again(tmp_path: Path) -> None:
    """Its segment may have been sent and deleted by then: an open record in the next would be a second event."""
    log = Log(asyncio.get_running_loop(), os.open(os.devnull, os.O_WRONLY))
    kept = Spool(tmp_path, Source("s"), log, max_bytes=1_000_000)
    tokens = [0]
    records = [request(tokens) for _ in range(STEP + 1)]
    for record in records:
        kept.admit(record)
    tokens[0] = 1000
    steps = kept.sweep()
    next(steps)
    kept.close(records[-1])
    kept.journal.seal()
    segment = kept.journal.oldest()
    assert segment
    found = segments.Contents()
    list(kept.journal.events(segment, found))
    assert set(found.closed) == {records[-1].event_id.encode()}
    kept.journal.acknowledge(segment)
    list(steps)
    kept.journal.close()
    log.close()
    left = on_disk(tmp_path)
    assert left.closed == {}
    assert set(left.open) == {record.event_id.encode() for record in records[:-1]}
    assert all(b'"output_tokens":1000' in event for event in left.open.values())
