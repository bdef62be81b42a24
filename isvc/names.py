"""Names that the webhook, the controller and the sidecar agree on."""

import hashlib

DOMAIN = "token-meter.dev"
CONTAINER = "token-meter"
KEY_VOLUME = "token-meter-key"
KEY_MOUNT = "/etc/token-meter/key"
KEY_FIELD = "apiKey"
NEXT_KEY_FIELD, PREVIOUS_KEY_FIELD = "nextApiKey", "previousApiKey"
"""Beside the key that the gateway shows: keys that the sidecar takes too, while one gives way to another."""
TLS_VARIABLE = "TOKEN_METER_TLS_DIR"
"""Tells the sidecar to speak TLS: certificate and key are in the key's Secret, beside it."""
CERTIFICATE_FIELD, PRIVATE_KEY_FIELD = "tls.crt", "tls.key"
DATA_PORT = 9180
ADMIN_PORT = 9181
MOVED_PORT = 9182
MAX_NAME = 253


def api_key_secret(isvc: str) -> str:
    """The Secret with the key that the gateway shows to the sidecar, in the InferenceService's namespace."""
    return fit(f"token-meter-{isvc}-key")


def fit(name: str, limit: int = MAX_NAME) -> str:
    """`name`, or where it is longer than `limit` its beginning and a hash of the whole: it stays unique."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-.')}-{digest}"
