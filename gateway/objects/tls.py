"""TLS from the gateway to the sidecar: the CAs that Envoy verifies it by, and the policy that has it do so."""

from gateway.facts import ENVOY_GATEWAY_GROUP, GATEWAY_API_GROUP, Capabilities
from gateway.objects.metadata import Object, made
from gateway.target import Target

CA_FIELD = "ca.crt"
PLACEHOLDER = "REPLACE-WITH-THE-CA-CERTIFICATE"


def ca_config_map(target: Target, ca: str | None) -> Object:
    """The CAs, beside the Backend; a placeholder where they are not known."""
    head = made("ConfigMap", "v1", target.name, target.backend_namespace, target)
    return head | {"data": {CA_FIELD: ca or PLACEHOLDER}}


def backend_tls_policy(target: Target, capabilities: Capabilities) -> Object:
    """For the Backends of all its revisions: one name is in every pod's certificate, the stable Service's."""
    version = f"{GATEWAY_API_GROUP}/{capabilities.backend_tls}"
    backends = [
        {"group": ENVOY_GATEWAY_GROUP, "kind": "Backend", "name": revision.name}
        for revision in target.revisions
    ]
    ref = {"group": "", "kind": "ConfigMap", "name": target.name}
    validation = {"caCertificateRefs": [ref], "hostname": target.host}
    return made("BackendTLSPolicy", version, target.name, target.backend_namespace, target) | {
        "spec": {"targetRefs": backends, "validation": validation}
    }
