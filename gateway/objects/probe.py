"""Whether Envoy Gateway has a rate limit backend, asked of itself: a route of our own with a limit on it.

It stands beside a Gateway only while limits are withheld there. Its route matches a header that no client sends; what
Envoy Gateway says of its policy it would say of every other.
"""

from gateway import names
from gateway.facts import ENVOY_GATEWAY_GROUP, GATEWAY_API_GROUP
from gateway.objects.metadata import MANAGED_BY, Object
from gateway.objects.traffic import GATEWAY_LABEL
from isvc import GatewayRef

HEADER = "x-token-meter-probe"


def rate_limit_probe(gateway: GatewayRef) -> tuple[Object, Object]:
    """HTTPRoute and BackendTrafficPolicy."""
    parent = {"group": GATEWAY_API_GROUP, "kind": "Gateway", "name": gateway.name}
    header = {"type": "Exact", "name": HEADER, "value": "rate-limit"}
    path = {"type": "PathPrefix", "value": "/"}
    route = _made("HTTPRoute", f"{GATEWAY_API_GROUP}/v1", gateway) | {
        "spec": {"parentRefs": [parent], "rules": [{"matches": [{"path": path, "headers": [header]}]}]}
    }
    target = {"group": GATEWAY_API_GROUP, "kind": "HTTPRoute", "name": names.probe(gateway)}
    limit = {"limit": {"requests": 1, "unit": "Hour"}}
    policy = _made("BackendTrafficPolicy", f"{ENVOY_GATEWAY_GROUP}/v1alpha1", gateway) | {
        "spec": {"targetRefs": [target], "rateLimit": {"type": "Global", "global": {"rules": [limit]}}}
    }
    return route, policy


def _made(kind: str, api_version: str, gateway: GatewayRef) -> Object:
    labels = {**MANAGED_BY, GATEWAY_LABEL: names.label(gateway.name)}
    metadata = {"name": names.probe(gateway), "namespace": gateway.namespace, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
