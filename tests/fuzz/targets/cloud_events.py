"""Usage events as they come in at the ledger: stored as a row that any database holds, or refused with a reason."""

import orjson

from ledger.event import BadEvent, read_event
from ledger.ingest import BATCH, SINGLE, decode
from ledger.problems import Problem
from ledger.store import row

JSON = True
WORDS = (
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "data",
    "model",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "duration_ms",
    "ttft_ms",
    "gateway_model",
    "request_id",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "/namespaces/a/inferenceservices/b/pods/c",
)
_MOST = 2**63 - 1


def check(data: bytes) -> None:
    """Judge one request's body."""
    for content_type in (SINGLE, BATCH, "application/json", "text/plain"):
        try:
            values = decode(content_type, data)
        except Problem as problem:
            assert problem.response().status in (400, 413, 415)
            continue
        for value in values:
            _event(value)


def _event(value: object) -> None:
    try:
        event = read_event(value)
    except BadEvent as error:
        assert str(error)
        return
    stored = row(event, received=0, charge_running=True)
    orjson.dumps(stored)
    for name, found in stored.items():
        if isinstance(found, int):
            assert -_MOST <= found <= _MOST, name
        if isinstance(found, str):
            assert "\0" not in found, name
    assert all(event.place)
