"""What the webhook is started with: environment variables named TOKEN_METER_WEBHOOK_*, read once."""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

PREFIX = "TOKEN_METER_WEBHOOK_"
_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class CertMode(StrEnum):
    """Where the serving certificate comes from."""

    OWN = "own"
    """A CA of our own in a Secret, leaves minted in memory."""

    MOUNTED = "mounted"
    """Files that something else renews, as cert-manager; it looks after caBundle too."""


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    TEXT = "text"


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Settings of one replica; durations in seconds. A port 0 takes a free one, which the log names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        default="0.0.0.0",  # noqa: S104 the API server reaches it from outside the pod
        description="address to listen on, for both ports",
    )
    port: Port = Field(default=10250, description="admission, HTTPS; private clusters let 10250 through")
    admin_port: Port = Field(default=10251, description="/healthz, /readyz and /metrics, HTTP")
    namespace: str = Field(
        default="", description="where the webhook is installed; in a pod its own, else token-meter-system"
    )
    identity: str = Field(
        default="", description="this replica's name in the Lease; by default the host's and a random part"
    )
    service: str = Field(default="token-meter-webhook", description="the Service that the API server calls")
    extra_names: tuple[str, ...] = Field(
        default=(), description="more DNS names and addresses for the certificate, comma separated"
    )
    configuration: str = Field(
        default="token-meter-webhook", description="the MutatingWebhookConfiguration whose caBundle is kept"
    )
    config_map: str = Field(default="token-meter", description="the ConfigMap with the cluster's defaults")
    kserve_namespace: str = Field(default="kserve", description="where KServe's inferenceservice-config is")
    cert_mode: CertMode = Field(default=CertMode.OWN, description="own, or mounted (cert-manager)")
    cert_dir: Path = Field(
        default=Path("/etc/token-meter/tls"), description="tls.crt and tls.key, with cert_mode mounted"
    )
    secret: str = Field(default="token-meter-ca", description="the CA's Secret, with cert_mode own")
    lease: str = Field(default="token-meter-webhook", description="the Lease that the leader holds")
    ca_seconds: Seconds = Field(
        default=365 * 86400.0, description="life of a CA, renewed at two thirds of it"
    )
    leaf_seconds: Seconds = Field(
        default=7 * 86400.0, le=7 * 86400.0, description="life of a leaf, renewed at two thirds of it"
    )
    settle_seconds: Seconds = Field(
        default=10.0, description="how long a new CA is published before it is served"
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(
        default=5.0, description="after SIGTERM, not ready but still serving for so long"
    )
    close_seconds: Seconds = Field(default=10.0, description="then open requests may take so long")
    ledger_url: str = Field(
        default="",
        description="where sidecars send their usage, by default the ledger in our namespace; `off` sends none",
    )
    events: bool = Field(default=True, description="write Events on InferenceServices")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="least to log")
    log_format: LogFormat = Field(default=LogFormat.JSON, description="json or text")

    @field_validator("extra_names", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name for name in value.split(",") if name) if isinstance(value, str) else value

    @field_validator("ledger_url")
    @classmethod
    def _check_ledger_url(cls, value: str) -> str:
        url = urlsplit(value)
        bad = (
            url.scheme not in ("http", "https")
            or not url.hostname
            or url.username
            or url.query
            or url.fragment
        )
        if value not in ("", "off") and bad:
            raise ValueError(
                "must be http:// or https://HOST:PORT, as in http://token-meter-ledger:8080, or off"
            )
        _ = url.port  # raises ValueError where it is no port
        return value

    @property
    def ledger(self) -> str | None:
        """Where sidecars send their usage; None for nowhere."""
        if self.ledger_url == "off":
            return None
        return self.ledger_url or f"http://token-meter-ledger.{self.namespace}.svc:8080"

    @property
    def ca_life(self) -> timedelta:
        return timedelta(seconds=self.ca_seconds)

    @property
    def leaf_life(self) -> timedelta:
        return timedelta(seconds=self.leaf_seconds)


class SettingsError(Exception):
    """A variable that cannot be used; the text names it and says why."""


def read_settings(
    environ: Mapping[str, str] = os.environ, account_namespace: Path = _ACCOUNT_NAMESPACE
) -> Settings:
    """Read the settings from an environment; an unknown or wrong variable is a SettingsError."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value != "" and not _is_service_link(name, value)
    }
    given.setdefault("namespace", _own_namespace(account_namespace))
    host = environ.get("HOSTNAME") or socket.gethostname()
    given.setdefault("identity", f"{host}_{secrets.token_hex(4)}")  # of a pod's two lives only one leads
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        lines = [_explain(str(item["loc"][0]), item["msg"], item["type"]) for item in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def described() -> Iterator[tuple[str, str, str]]:
    """Each setting's variable, default and meaning."""
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        text = ",".join(default) if isinstance(default, tuple) else str(default)
        yield PREFIX + name.upper(), text, field.description or ""


def _own_namespace(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "token-meter-system"


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes sets such variables for the Service token-meter-webhook: ..._SERVICE_HOST, ..._PORT."""
    return "_SERVICE_" in name or "_TCP" in name or value.startswith(("tcp://", "udp://"))


def _explain(field: str, message: str, kind: str) -> str:
    name = PREFIX + field.upper()
    if kind == "extra_forbidden":
        return f"{name}: no such setting; the settings are {', '.join(n for n, _, _ in described())}"
    return f"{name}: {message}"
