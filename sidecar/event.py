"""A record as the usage event that the ledger takes: docs/usage-event.schema.json says its shape. Pure.

What comes from outside (names, headers, counts) is made to fit, so that no event is ever refused for it.
"""

import contextlib
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sidecar.record import CountedBy, Outcome, Record
from sidecar.usage import Usage

EVENT_TYPE = "dev.token-meter.usage.v1"
_MOST_TEXT = 1024
_MOST_REQUEST_ID = 256
_MOST_NAME = 253  # as Kubernetes has it; three of them fit into a source
_MOST_TOKENS = 1_000_000_000
_MOST_SECONDS = 253_402_300_799.0  # the end of the year 9999
_DIGEST = 16


@dataclass(frozen=True, slots=True)
class Source:
    """The pod that serves: what makes an event's id unique."""

    text: str

    @classmethod
    def of(cls, namespace: str, service: str, pod: str) -> "Source":
        """The source of this pod's events."""
        parts = [_text(part, _MOST_NAME).replace("/", "_") or "_" for part in (namespace, service, pod)]
        return cls("/namespaces/{}/inferenceservices/{}/pods/{}".format(*parts))


def closed_event(record: Record, source: Source) -> dict[str, Any]:
    """The event of a request that has ended."""
    return _event(
        record, source, record.usage, record.counted_by, record.outcome, exact=record.exact, end=record.ended
    )


def open_event(record: Record, source: Source, now: float) -> dict[str, Any]:
    """The event of a request under way, should the sidecar be killed before there is a newer one."""
    usage, counted_by = record.so_far() if record.so_far else (record.usage, record.counted_by)
    return _event(record, source, usage, counted_by, Outcome.METER_RESTARTED, exact=False, end=now)


def _event(
    record: Record,
    source: Source,
    usage: Usage,
    counted_by: CountedBy,
    outcome: Outcome,
    *,
    exact: bool,
    end: float,
) -> dict[str, Any]:
    given = min(usage.input, _MOST_TOKENS)
    made = min(usage.output, _MOST_TOKENS - given)
    data: dict[str, Any] = {
        "model": _text(record.model, _MOST_TEXT),
        "endpoint": record.endpoint,
        "channel": record.channel,
        "stream": record.stream,
        "status": min(max(record.status, 0), 999),
        "outcome": outcome,
        "input_tokens": given,
        "output_tokens": made,
        "total_tokens": given + made,
        "cached_input_tokens": min(usage.cached_input, _MOST_TOKENS),
        "reasoning_tokens": min(usage.reasoning, _MOST_TOKENS),
        "counted_by": counted_by,
        "exact": exact,
        "gateway_saw": record.gateway_saw,
        "charged_by_gateway": record.charged_by_gateway,
        "request_id": _header(record.request_id, _MOST_REQUEST_ID),
        "duration_ms": _milliseconds(record.started, end),
    }
    if record.gateway_model is not None:
        data["gateway_model"] = _header(record.gateway_model, _MOST_TEXT)
    if record.first_token:
        data["ttft_ms"] = _milliseconds(record.started, record.first_token)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": record.event_id,
        "source": source.text,
        "type": EVENT_TYPE,
        "time": _time(record.admitted),
        "datacontenttype": "application/json",
        "data": data,
    }
    if record.user:
        event["subject"] = _header(record.user, _MOST_TEXT)
    return event


def _time(seconds: float) -> str:
    """RFC 3339, milliseconds, UTC."""
    seconds = min(max(seconds, 0.0), _MOST_SECONDS)
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]


def _milliseconds(start: float, end: float) -> float:
    return round(max(end - start, 0.0) * 1000, 3)


def _header(value: str, most: int) -> str:
    """A header's text: the record has its bytes as Latin-1, and most clients mean UTF-8."""
    if not value.isascii():
        with contextlib.suppress(UnicodeError):
            value = value.encode("latin-1").decode()
    return _text(value, most)


def _text(value: str, most: int) -> str:
    """Text that UTF-8 and PostgreSQL can hold. A longer one ends in a digest: two that differ stay apart."""
    if len(value) <= most and value.isascii() and "\0" not in value:
        return value
    value = value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(value) > most:
        digest = hashlib.sha256(value.encode()).hexdigest()[:_DIGEST]
        value = f"{value[: most - _DIGEST - 1]}~{digest}"
    return value
