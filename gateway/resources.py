"""Where the API server keeps each kind that the controller writes or reads: paths by kind and by installed version."""

from collections.abc import Mapping
from typing import Any

from gateway.facts import AI_GATEWAY_GROUP, ENVOY_GATEWAY_GROUP, GATEWAY_API_GROUP, Capabilities

Object = Mapping[str, Any]
PLURALS = {
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "Service": "services",
    "Backend": "backends",
    "BackendTLSPolicy": "backendtlspolicies",
    "AIServiceBackend": "aiservicebackends",
    "BackendSecurityPolicy": "backendsecuritypolicies",
    "ReferenceGrant": "referencegrants",
    "AIGatewayRoute": "aigatewayroutes",
    "HTTPRoute": "httproutes",
    "BackendTrafficPolicy": "backendtrafficpolicies",
    "ClientTrafficPolicy": "clienttrafficpolicies",
}
"""What the controller writes, in the order in which it is applied; what goes, goes the other way round."""
CORE = ("Secret", "ConfigMap", "Service")
_AI = ("AIServiceBackend", "BackendSecurityPolicy", "AIGatewayRoute")


def api_version(kind: str, capabilities: Capabilities) -> str:
    """The apiVersion in which the controller writes that kind."""
    if kind in CORE:
        return "v1"
    if kind in _AI:
        return f"{AI_GATEWAY_GROUP}/{capabilities.ai_gateway}"
    if kind == "BackendTLSPolicy":
        return f"{GATEWAY_API_GROUP}/{capabilities.backend_tls}"
    if kind == "ReferenceGrant":
        return f"{GATEWAY_API_GROUP}/{capabilities.reference_grant}"
    if kind == "HTTPRoute":
        return f"{GATEWAY_API_GROUP}/v1"
    return f"{ENVOY_GATEWAY_GROUP}/v1alpha1"


_OF_CLUSTER = {"Gateway": "gateways", "GatewayClass": "gatewayclasses"}
"""What is written only where the cluster's settings ask for a Gateway, and never deleted."""


def collection(kind: str, version: str, namespace: str = "") -> str:
    """The path of the list of that kind; of all namespaces where none is named."""
    plural = PLURALS.get(kind) or _OF_CLUSTER[kind]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def path(obj: Object) -> str:
    """The path of one object."""
    metadata = obj["metadata"]
    return f"{collection(obj['kind'], obj['apiVersion'], metadata.get('namespace', ''))}/{metadata['name']}"
