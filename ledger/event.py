"""A usage event as it comes in: a CloudEvent that docs/usage-event.schema.json allows. Pure."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

EVENT_TYPE = "dev.token-meter.usage.v1"
_SOURCE = re.compile(r"/namespaces/([^/\x00]+)/inferenceservices/([^/\x00]+)/pods/([^/\x00]+)\Z")

# Envoy's own bound for one request; sums of them stay far from what a database can hold.
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
# PostgreSQL stores no NUL.
_NO_NUL = r"^[^\x00]*$"
Text = Annotated[str, Field(strict=True, max_length=1024, pattern=_NO_NUL)]
Bool = Annotated[bool, Field(strict=True)]
Milliseconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Usage(BaseModel):
    """The event's data; counts in tokens, times in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: Text
    gateway_model: Text | None = None
    endpoint: Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=_NO_NUL)]
    channel: Literal["gateway", "direct"]
    stream: Bool
    status: Annotated[int, Field(strict=True, ge=0, le=999)]
    outcome: Literal[
        "completed", "client_disconnect", "upstream_error", "upstream_timeout", "rejected", "meter_restarted"
    ]
    input_tokens: Count
    output_tokens: Count
    total_tokens: Count
    cached_input_tokens: Count
    reasoning_tokens: Count
    counted_by: Literal["server", "running_usage", "tokenize", "tokenizer", "tiktoken", "estimate", "none"]
    exact: Bool
    gateway_saw: Literal["nothing", "running_usage", "final_usage"]
    charged_by_gateway: Bool
    request_id: Annotated[str, Field(strict=True, max_length=256, pattern=_NO_NUL)]
    duration_ms: Milliseconds
    ttft_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        if self.total_tokens != self.input_tokens + self.output_tokens:
            raise ValueError("total_tokens is not the sum of input_tokens and output_tokens")
        return self


class Event(BaseModel):
    """One CloudEvent 1.0 in its JSON form."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Annotated[str, Field(strict=True, min_length=1, max_length=128, pattern=_NO_NUL)]
    source: Annotated[
        str,
        Field(
            strict=True,
            max_length=1024,
            pattern=r"^/namespaces/[^/\x00]+/inferenceservices/[^/\x00]+/pods/[^/\x00]+\z",
        ),
    ]
    type: Literal["dev.token-meter.usage.v1"]
    subject: Annotated[str, Field(strict=True, min_length=1, max_length=1024, pattern=_NO_NUL)] | None = None
    time: AwareDatetime
    data: Usage

    @field_validator("time")
    @classmethod
    def _check_time(cls, value: datetime) -> datetime:
        try:
            return value.astimezone(UTC)
        except OverflowError:  # the first or the last hours of the calendar, in another zone
            raise ValueError("is no moment that can be stored") from None

    @property
    def place(self) -> tuple[str, str, str]:
        """Namespace, InferenceService and pod that the event is about."""
        match = _SOURCE.match(self.source)
        if match is None:  # the pattern above has let it through
            raise ValueError(f"source {self.source!r}")
        return match.group(1), match.group(2), match.group(3)

    @property
    def moment(self) -> int:
        """When the request was admitted: milliseconds since 1970, UTC."""
        since = self.time - datetime(1970, 1, 1, tzinfo=UTC)
        return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


class BadEvent(ValueError):
    """It cannot be stored; the text says which member is wrong and why."""


def read_event(value: Any) -> Event:
    """Read one decoded CloudEvent; raises BadEvent."""
    try:
        return Event.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'the event'}: {item['msg']}" for item in error.errors()
        )
        raise BadEvent(wrong) from None
