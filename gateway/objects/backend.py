"""Where requests go: our headless Service, the Backend that names it, and the AIServiceBackend that says OpenAI."""

from gateway.facts import AI_GATEWAY_GROUP, ENVOY_GATEWAY_GROUP, Capabilities
from gateway.objects.metadata import Object, made
from gateway.target import Target


def service(target: Target) -> Object:
    """A headless Service over the predictor's (or a canary's) pods; Standard mode only."""
    port = {"name": "http", "port": target.port, "targetPort": target.port, "protocol": "TCP"}
    return made("Service", "v1", target.service, target.namespace, target) | {
        "spec": {"clusterIP": "None", "selector": {"app": target.pods}, "ports": [port]}
    }


def backend(target: Target) -> Object:
    """Envoy Gateway's Backend: one host by its name, each of whose addresses is an endpoint."""
    fqdn = {"hostname": target.host, "port": target.port}
    return made(
        "Backend", f"{ENVOY_GATEWAY_GROUP}/v1alpha1", target.name, target.backend_namespace, target
    ) | {"spec": {"endpoints": [{"fqdn": fqdn}]}}


def ai_service_backend(target: Target, capabilities: Capabilities) -> Object:
    """AI Gateway's side of it; its path is /v1, which the sidecar serves whatever the model server's is."""
    ref = {"group": ENVOY_GATEWAY_GROUP, "kind": "Backend", "name": target.name}
    version = f"{AI_GATEWAY_GROUP}/{capabilities.ai_gateway}"
    return made("AIServiceBackend", version, target.name, target.backend_namespace, target) | {
        "spec": {"schema": {"name": "OpenAI"}, "backendRef": ref}
    }
