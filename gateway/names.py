"""What the objects are called, so that no two InferenceServices of a cluster ever want the same name.

Beside the model `token-meter-<isvc>`. Beside the Gateway, where those of every namespace meet,
`token-meter-<namespace>.<isvc>`: neither part can have a dot in it (namespaces are DNS labels, KServe's names
too), so namespace `a-b` with `c` and namespace `a` with `b-c` stay apart, and apart from those beside a model.
What would be too long is cut and ends in a hash of the whole.
"""

import hashlib

from isvc import GatewayRef
from isvc.names import fit

SERVICE_LIMIT = 63
LABEL_LIMIT = 63
# AI Gateway names a filter `ai-eg-route-not-found-response-<route>`; four more are for `.<number>`.
ROUTE_LIMIT = 253 - len("ai-eg-route-not-found-response-") - 4


def beside_model(isvc: str) -> str:
    """Backend, AIServiceBackend, BackendSecurityPolicy, ReferenceGrant and route in the model's own namespace."""
    return fit(f"token-meter-{isvc}", ROUTE_LIMIT)


def beside_gateway(namespace: str, isvc: str) -> str:
    """The same in the Gateway's namespace."""
    return fit(f"token-meter-{namespace}.{isvc}", ROUTE_LIMIT)


def service(isvc: str) -> str:
    """Our Service, whose name is a DNS label."""
    return fit(f"token-meter-{isvc}", SERVICE_LIMIT)


def llm(name: str) -> str:
    """The part that stands for an LLMInferenceService, which an InferenceService may share its name with."""
    return f"llm.{name}"


def canary(isvc: str, name: str) -> str:
    """The part of a canary's names that stands for `<isvc>` in the stable predictor's. The dot keeps it apart."""
    return f"{isvc}.{name}"


def canary_service(isvc: str, name: str) -> str:
    """A canary's Service: a DNS label has no dot, so the hash keeps it apart from another InferenceService's."""
    mark = hashlib.sha256(canary(isvc, name).encode()).hexdigest()[:8]
    return f"{fit(f'token-meter-{isvc}-{name}', SERVICE_LIMIT - 9)}-{mark}"


def predictor_service(isvc: str, predictor: str) -> str:
    """KServe's own Service of the predictor (KServe 0.20, constants.go); ours must never have this name."""
    return f"{isvc}-{predictor}-predictor" if predictor else f"{isvc}-predictor"


def numbered(name: str, index: int) -> str:
    """The name of the route and policy at `index`: the first has no number, the next is `.2`.

    No InferenceService's name begins with a digit, so that this is never another one's either.
    """
    return name if index == 0 else f"{name}.{index + 1}"


def client_policy(gateway: GatewayRef) -> str:
    """The one ClientTrafficPolicy of a Gateway, beside it."""
    return fit(f"token-meter-{gateway.name}")


def probe(gateway: GatewayRef) -> str:
    """Route and policy beside a Gateway that ask for a rate limit backend; no InferenceService begins with a digit."""
    return fit(f"token-meter-{gateway.name}.0-probe", ROUTE_LIMIT)


def label(value: str) -> str:
    """As a label's value, which is shorter than a name may be."""
    return fit(value, LABEL_LIMIT)
