"""What a person should hear about a plan: one closed enum, each with a sentence; for Events and standard error."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why the plan is not simply what the InferenceService asked for."""

    MODEL_NAME_TAKEN = "ModelNameTaken"
    RATE_LIMIT_UNAVAILABLE = "RateLimitUnavailable"
    TRANSFORMER_NEEDS_OPEN = "TransformerNeedsOpen"
    KEY_PLACEHOLDER = "KeyPlaceholder"
    TLS_NOT_RENDERED = "TLSNotRendered"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Reason.MODEL_NAME_TAKEN: "an older InferenceService behind this Gateway serves the same model name,"
    " clients ask for this one by its longer name",
    Reason.RATE_LIMIT_UNAVAILABLE: "Envoy Gateway has no rate limit backend and would answer 500 to a limited route,"
    " so no limit is applied; configure rateLimit.backend of Envoy Gateway",
    Reason.TRANSFORMER_NEEDS_OPEN: "the transformer calls the predictor without the gateway's key,"
    ' so its access is "open"',
    Reason.KEY_PLACEHOLDER: "the Secret holds a placeholder in place of the key;"
    " replace it by a random one (openssl rand -hex 32) before applying",
    Reason.TLS_NOT_RENDERED: "tls is not carried out yet, the gateway speaks plain HTTP to the sidecar;"
    ' remove the annotation token-meter.dev/tls or set it to "false"',
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to say; `detail` names what it is about."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.reason.sentence}" + (f" ({self.detail})" if self.detail else "")
