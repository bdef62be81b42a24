"""The sidecar's environment: its whole configuration, all of it strings."""

from isvc import Access, InferenceService, Mode, Settings, names

FOLLOWING = (
    "TOKEN_METER_UPSTREAM",
    "TOKEN_METER_BASE_PATH",
    "TOKEN_METER_SERVER",
    "TOKEN_METER_MODELS",
    "TOKEN_METER_API_KEY_FILE",
    names.TLS_VARIABLE,
)
"""What follows the ISVC where the sidecar is there already; the rest stays, so that no pod restarts."""


def environment(
    service: InferenceService,
    settings: Settings,
    *,
    port: int,
    admin_port: int,
    server_port: int,
    access: Access,
) -> dict[str, str]:
    """The variables by name, in the order in which they are written; what is not known is left out."""
    variables = {
        "TOKEN_METER_PORT": str(port),
        "TOKEN_METER_ADMIN_PORT": str(admin_port),
        "TOKEN_METER_UPSTREAM": f"http://127.0.0.1:{server_port}",
        "TOKEN_METER_BASE_PATH": service.base_path,
        "TOKEN_METER_SERVER": service.server.value,
        "TOKEN_METER_NAMESPACE": service.namespace,
        "TOKEN_METER_INFERENCE_SERVICE": service.name,
        "TOKEN_METER_MODELS": ",".join(service.served_models),
        "TOKEN_METER_API_KEY_FILE": f"{names.KEY_MOUNT}/{names.KEY_FIELD}"
        if access is Access.GATEWAY
        else None,
        names.TLS_VARIABLE: names.KEY_MOUNT if settings.tls else None,
        "TOKEN_METER_USER_HEADER": settings.limit_by,
        # Knative's readiness is a TCP connect to the data port: it may open only when the model answers.
        "TOKEN_METER_WAIT_FOR_MODEL": "true" if service.mode is Mode.KNATIVE else None,
        "TOKEN_METER_GATEWAY": str(settings.gateway) if settings.gateway else None,
    }
    return {name: value for name, value in variables.items() if value is not None}
