"""What a person should hear about a plan: one closed enum, each with a sentence; for Events and standard error."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why the plan is not simply what the InferenceService asked for."""

    MODEL_NAME_TAKEN = "ModelNameTaken"
    RATE_LIMIT_UNAVAILABLE = "RateLimitUnavailable"
    TRANSFORMER_NEEDS_OPEN = "TransformerNeedsOpen"
    KEY_PLACEHOLDER = "KeyPlaceholder"
    TLS_PLACEHOLDER = "TLSPlaceholder"
    GATEWAY_OBJECTS_APPLIED = "GatewayObjectsApplied"
    GATEWAY_READY = "GatewayReady"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    NOT_ALLOWED_BY_LISTENERS = "NotAllowedByListeners"
    REF_NOT_PERMITTED = "RefNotPermitted"
    POLICY_NOT_ACCEPTED = "PolicyNotAccepted"
    POLICY_CONFLICTED = "PolicyConflicted"
    POLICY_OVERRIDDEN = "PolicyOverridden"
    BACKEND_NOT_ACCEPTED = "BackendNotAccepted"
    BUFFER_TOO_SMALL = "BufferTooSmall"
    NAME_TOO_LONG = "NameTooLong"
    GATEWAY_COUNTS_ALONE = "GatewayCountsAlone"
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
        return self not in (
            Reason.GATEWAY_OBJECTS_APPLIED,
            Reason.GATEWAY_READY,
            Reason.TRANSFORMER_NEEDS_OPEN,
            Reason.GATEWAY_COUNTS_ALONE,
        )


_SENTENCES = {
    Reason.MODEL_NAME_TAKEN: "an older InferenceService behind this Gateway serves the same model name,"
    " clients ask for this one by its longer name",
    Reason.RATE_LIMIT_UNAVAILABLE: "Envoy Gateway has no rate limit backend and would answer 500 to a limited route,"
    " so no limit is applied; configure rateLimit.backend of Envoy Gateway",
    Reason.TRANSFORMER_NEEDS_OPEN: "the transformer calls the predictor without the gateway's key,"
    ' so its access is "open"',
    Reason.KEY_PLACEHOLDER: "the Secret holds a placeholder in place of the key;"
    " replace it by a random one (openssl rand -hex 32) before applying",
    Reason.TLS_PLACEHOLDER: "the ConfigMap holds a placeholder in place of the CA, and the key's Secret no certificate;"
    " the controller makes them, else put in ca.crt there, and tls.crt and tls.key beside the key",
    Reason.GATEWAY_OBJECTS_APPLIED: "the objects that put it behind the Gateway are applied",
    Reason.GATEWAY_READY: "AI Gateway and Envoy Gateway have accepted its route and its policies",
    Reason.ROUTE_NOT_ACCEPTED: "its route is refused, so requests do not reach it; mend what the cause names",
    Reason.NOT_ALLOWED_BY_LISTENERS: "no listener of the Gateway admits its route, so requests do not reach it;"
    " set allowedRoutes of one, or name another Gateway by the annotation token-meter.dev/gateway",
    Reason.REF_NOT_PERMITTED: "its route may not name the backend in another namespace, so requests do not reach it;"
    " see that nothing changes or deletes the ReferenceGrant beside the model",
    Reason.POLICY_NOT_ACCEPTED: "a policy of its route is refused, and Envoy Gateway answers 500 where it would apply;"
    " mend what the cause names",
    Reason.POLICY_CONFLICTED: "another policy holds the same target, so this one is without effect;"
    " delete one of the two",
    Reason.POLICY_OVERRIDDEN: "another policy with a narrower target takes the place of this one, so its limit does not"
    " apply there; delete that one, or set the limit in it",
    Reason.BACKEND_NOT_ACCEPTED: "what leads from the Gateway to its pods is refused, so requests do not reach it;"
    " mend what the cause names (extensionApis.enableBackend of Envoy Gateway for a Backend)",
    Reason.BUFFER_TOO_SMALL: "a client policy on its Gateway leaves a buffer too small: a long prompt is answered 413,"
    " a long answer 500",
    Reason.NAME_TOO_LONG: "Kubernetes labels hold 63 characters, too few for the label that KServe puts on the pods of"
    " this name; give it a shorter one (48 characters at most in Standard mode)",
    Reason.GATEWAY_COUNTS_ALONE: "an LLMInferenceService has no sidecar, so AI Gateway alone counts its tokens: streams"
    " that clients abort cost them nothing, and its own Service can be called past the gateway",
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
