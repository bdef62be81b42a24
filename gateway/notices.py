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
    GATEWAY_OBJECTS_APPLIED = "GatewayObjectsApplied"
    NO_GATEWAY = "NoGateway"
    SEVERAL_GATEWAYS = "SeveralGateways"
    NOT_INJECTED = "NotInjected"
    INVALID_SETTING = "InvalidSetting"
    FIELD_CONFLICT = "FieldConflict"
    APPLY_FAILED = "ApplyFailed"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]

    @property
    def warning(self) -> bool:
        """Whether somebody has something to do."""
        return self not in (Reason.GATEWAY_OBJECTS_APPLIED, Reason.TRANSFORMER_NEEDS_OPEN)


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
    Reason.GATEWAY_OBJECTS_APPLIED: "the objects that put it behind the Gateway are applied",
    Reason.NO_GATEWAY: "there is no Gateway to serve it; make one whose class is Envoy Gateway's, or name one by the"
    " annotation token-meter.dev/gateway of the InferenceService or its namespace",
    Reason.SEVERAL_GATEWAYS: "several Gateways could serve it; name one by the annotation token-meter.dev/gateway of"
    " the namespace, or by `gateway` in the ConfigMap of the cluster's defaults",
    Reason.NOT_INJECTED: "it has no sidecar and so no route: it was stored before its namespace was labelled, while"
    " the webhook was down, or the webhook skipped it and said why; any change of it asks the webhook again, and an"
    " injection restarts its pods",
    Reason.INVALID_SETTING: "a setting cannot be used, so nothing of it is changed until that is corrected",
    Reason.FIELD_CONFLICT: "somebody else keeps fields of an object that the controller makes; it is left as it is",
    Reason.APPLY_FAILED: "the API server refuses an object that the controller makes; it is tried again",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to say; `detail` names what it is about."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.reason.sentence}" + (f" ({self.detail})" if self.detail else "")
