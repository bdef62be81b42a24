"""How much may flow: token limits, retries and connection limits of a route, and the Gateway's buffer."""

from collections.abc import Sequence

from gateway import names
from gateway.facts import ENVOY_GATEWAY_GROUP, GATEWAY_API_GROUP
from gateway.models import Model
from gateway.objects.metadata import MANAGED_BY, Object, made
from gateway.objects.route import MODEL_HEADER
from gateway.target import Target
from isvc import GatewayRef, Limit
from isvc.names import DOMAIN

MOST_LIMIT_RULES = 64
"""What every Envoy Gateway takes in one policy (1.9 takes 256)."""
CONNECTIONS = 65_536
"""In place of Envoy Gateway's 1,024 connections, waiting requests and parallel ones: LLM requests last minutes."""
BUFFER = "50Mi"
"""As in AI Gateway's own examples; Envoy Gateway's 32 KiB refuses a longer prompt (413) and answer (500)."""
GATEWAY_LABEL = f"{DOMAIN}/gateway"


def backend_traffic_policy(target: Target, name: str, models: Sequence[Model], limit: Limit | None) -> Object:
    """The policy on the HTTPRoute that AI Gateway makes from the route of this name."""
    spec: Object = {"targetRefs": [{"group": GATEWAY_API_GROUP, "kind": "HTTPRoute", "name": name}]}
    if limit:
        rules = _rules(limit, target.limit_by, models)
        spec["rateLimit"] = {"type": "Global", "global": {"rules": rules}}
    spec["circuitBreaker"] = {
        "maxConnections": CONNECTIONS,
        "maxPendingRequests": CONNECTIONS,
        "maxParallelRequests": CONNECTIONS,
        # A pod that goes has all its requests tried again at once.
        "maxParallelRetries": CONNECTIONS,
    }
    # Such a request has reached no pod; Envoy Gateway has Envoy try another one.
    spec["retry"] = {"numRetries": 2, "retryOn": {"triggers": ["connect-failure"]}}
    version = f"{ENVOY_GATEWAY_GROUP}/v1alpha1"
    return made("BackendTrafficPolicy", version, name, target.route_namespace, target) | {"spec": spec}


def _rules(limit: Limit, limit_by: str, models: Sequence[Model]) -> list[Object]:
    """For each model two rules: each user's own tokens, and one allowance for all requests without the header."""
    user: Object = {"name": limit_by, "type": "Distinct"}
    # Distinct passes over a request that lacks the header: alone it would be no limit at all.
    nobody: Object = {"name": limit_by, "type": "RegularExpression", "value": ".+", "invert": True}
    which: list[Object] = [{"name": MODEL_HEADER, "type": "Exact", "value": model.public} for model in models]
    if 2 * len(models) > MOST_LIMIT_RULES:
        # The same buckets in two rules: the route has let through only these models.
        which = [{"name": MODEL_HEADER, "type": "Distinct"}]
    return [_rule(limit, {**who}, {**model}) for model in which for who in (user, nobody)]


def _rule(limit: Limit, *headers: Object) -> Object:
    """A request costs nothing before the answer (is anything left?) and then the tokens that it took."""
    total = {"namespace": "io.envoy.ai_gateway", "key": "llm_total_token"}
    return {
        "clientSelectors": [{"headers": list(headers)}],
        "limit": {"requests": limit.requests, "unit": str(limit.unit)},
        "cost": {
            "request": {"from": "Number", "number": 0},
            "response": {"from": "Metadata", "metadata": total},
        },
    }


def client_traffic_policy(gateway: GatewayRef) -> Object:
    """The Gateway's, not one InferenceService's: no owner, and the same object whoever asks for it."""
    labels = {**MANAGED_BY, GATEWAY_LABEL: names.label(gateway.name)}
    target = {"group": GATEWAY_API_GROUP, "kind": "Gateway", "name": gateway.name}
    return {
        "apiVersion": f"{ENVOY_GATEWAY_GROUP}/v1alpha1",
        "kind": "ClientTrafficPolicy",
        "metadata": {
            "name": names.client_policy(gateway),
            "namespace": gateway.namespace,
            "labels": labels,
        },
        "spec": {"targetRefs": [target], "connection": {"bufferLimit": BUFFER}},
    }
