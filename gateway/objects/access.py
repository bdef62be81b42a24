"""Who may reach the model: the key that the gateway shows to the sidecar, and the grant across namespaces."""

import base64

from gateway.facts import AI_GATEWAY_GROUP, ENVOY_GATEWAY_GROUP, GATEWAY_API_GROUP, Capabilities, Facts
from gateway.objects.metadata import Object, made
from gateway.target import Target
from isvc import Access
from isvc.names import CERTIFICATE_FIELD, KEY_FIELD, PRIVATE_KEY_FIELD, api_key_secret

KEY_PLACEHOLDER = "REPLACE-WITH-A-RANDOM-KEY"


def secret(target: Target, facts: Facts, namespace: str) -> Object:
    """The key, or a placeholder that says so; for TLS the sidecar's certificate and private key too.

    Beside the model the pod mounts it; where the backend objects stand elsewhere the gateway needs the key there too.
    """
    content: Object
    if facts.key is None and target.access is Access.GATEWAY:
        content = {"stringData": {KEY_FIELD: KEY_PLACEHOLDER}}
    else:
        fields = {KEY_FIELD: facts.key} if target.access is Access.GATEWAY else {}
        if facts.tls and target.tls and namespace == target.namespace:
            fields |= {CERTIFICATE_FIELD: facts.tls.certificate, PRIVATE_KEY_FIELD: facts.tls.key}
        content = {
            "data": {name: base64.b64encode((text or "").encode()).decode() for name, text in fields.items()}
        }
    return (
        made("Secret", "v1", secret_name(target, namespace), namespace, target) | {"type": "Opaque"} | content
    )


def secret_name(target: Target, namespace: str) -> str:
    """The Secret's name in that namespace."""
    return api_key_secret(target.isvc) if namespace == target.namespace else f"{target.name}-key"


def backend_security_policy(target: Target, capabilities: Capabilities) -> Object:
    """Makes the gateway send `Authorization: Bearer <key>`; without one it passes the client's header on."""
    namespace = target.backend_namespace
    ref = {"name": secret_name(target, namespace), "namespace": namespace}
    backends = [
        {"group": AI_GATEWAY_GROUP, "kind": "AIServiceBackend", "name": revision.name}
        for revision in target.revisions
    ]
    version = f"{AI_GATEWAY_GROUP}/{capabilities.ai_gateway}"
    return made("BackendSecurityPolicy", version, target.name, namespace, target) | {
        "spec": {"targetRefs": backends, "type": "APIKey", "apiKey": {"secretRef": ref}}
    }


def reference_grant(target: Target, capabilities: Capabilities) -> Object:
    """Lets the route's namespace use the backends of the model's.

    AI Gateway asks for the first pair, Envoy Gateway for the second, about the HTTPRoute made from the route.
    """
    origin = target.route_namespace
    return made(
        "ReferenceGrant",
        f"{GATEWAY_API_GROUP}/{capabilities.reference_grant}",
        target.name,
        target.namespace,
        target,
    ) | {
        "spec": {
            "from": [
                {"group": AI_GATEWAY_GROUP, "kind": "AIGatewayRoute", "namespace": origin},
                {"group": GATEWAY_API_GROUP, "kind": "HTTPRoute", "namespace": origin},
            ],
            "to": [
                {"group": AI_GATEWAY_GROUP, "kind": "AIServiceBackend"},
                {"group": ENVOY_GATEWAY_GROUP, "kind": "Backend"},
            ],
        }
    }
