"""What the controller is started with: environment variables named TOKEN_METER_GATEWAY_*, read once."""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "TOKEN_METER_GATEWAY_"
_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Settings(BaseModel):
    """Settings of one replica. A port 0 takes a free one, which the log names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="0.0.0.0", description="address to listen on")  # noqa: S104 the kubelet asks
    admin_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=10252, description="/healthz, /readyz and /metrics, HTTP"
    )
    namespace: str = Field(
        default="", description="where token-meter is installed; in a pod its own, else token-meter-system"
    )
    identity: str = Field(
        default="", description="this replica's name in the Lease; by default the host's and a random part"
    )
    config_map: str = Field(default="token-meter", description="the ConfigMap with the cluster's defaults")
    lease: str = Field(default="token-meter-gateway", description="the Lease that the leader holds")
    rate_limit: Literal["auto", "true", "false"] = Field(
        default="auto",
        description="auto withdraws limits while Envoy Gateway has no rate limit backend and would answer 500;"
        " true never does, false applies none",
    )
    resync_seconds: Annotated[float, Field(gt=0)] = Field(
        default=300.0, description="how often everything is compared again"
    )
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="least to log")


class SettingsError(Exception):
    """A variable that cannot be used; the text names it and says why."""


def read_settings(
    environ: Mapping[str, str] = os.environ, account_namespace: Path = _ACCOUNT_NAMESPACE
) -> Settings:
    """Read the settings from an environment; an unknown or wrong variable is a SettingsError."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value != ""
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
        yield PREFIX + name.upper(), str(field.get_default()), field.description or ""


def _own_namespace(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "token-meter-system"


def _explain(field: str, message: str, kind: str) -> str:
    name = PREFIX + field.upper()
    if kind == "extra_forbidden":
        return f"{name}: no such setting; the settings are {', '.join(n for n, _, _ in described())}"
    return f"{name}: {message}"
