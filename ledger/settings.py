"""What the ledger is started with: environment variables named TOKEN_METER_LEDGER_*, read once."""

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ledger.ratelimit import SERVER_NAME

PREFIX = "TOKEN_METER_LEDGER_"
_MIB = 1024 * 1024
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)$")

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Settings of one ledger; durations in seconds, sizes in bytes. A port 0 takes a free one, which the log names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="0.0.0.0", description="address to listen on")  # noqa: S104 pods send to it
    port: Port = Field(default=8080, description="events, usage and the page, HTTP")
    admin_port: Port = Field(default=8081, description="/healthz, /readyz and /metrics, HTTP")
    database_url: str = Field(
        default="sqlite:////var/lib/token-meter/ledger.db",
        description="sqlite:////absolute/path, or postgresql://USER:PASSWORD@HOST/DATABASE",
    )
    auth: Literal["kubernetes", "none"] = Field(
        default="kubernetes",
        description="who may write and read: what the API server says of a token; or, on a loopback alone, everybody",
    )
    audience: str = Field(default="token-meter", description="audience of the sidecars' tokens")
    kubernetes_url: str = Field(
        default="", description="the API server; in a pod https://KUBERNETES_SERVICE_HOST:PORT"
    )
    kubernetes_token_file: Path = Field(
        default=_ACCOUNT / "token", description="the ledger's own token, read again when it changes"
    )
    kubernetes_ca_file: Path = Field(
        default=_ACCOUNT / "ca.crt", description="CA of the API server's certificate"
    )
    retention_days: Annotated[float, Field(gt=0)] = Field(
        default=90.0,
        description="how long single events are kept, and how old one may be when it comes; sums by the hour stay",
    )
    max_body_bytes: int = Field(
        default=16 * _MIB, ge=1024, description="largest batch of events, decompressed"
    )
    gateway_charges: Literal["auto", "final", "running"] = Field(
        default="auto",
        description="what AI Gateway charges of a stream that did not end and had usage on the way: `final` nothing"
        " (1.1.0 and older), `running` the last count it saw, `auto` as `running`: rather a missed charge than two",
    )
    rate_limit: str = Field(
        default="",
        description="HOST:PORT of Envoy Gateway's rate limit service, which is told of the tokens that the gateway did"
        " not charge; empty: they are not charged",
    )
    rate_limit_server_name: str = Field(
        default=SERVER_NAME, min_length=1, description="the name in its certificate"
    )
    rate_limit_ca_secret: str = Field(
        default="envoy-gateway-system/envoy-rate-limit",
        pattern=r"^[^/]+/[^/]+$",
        description="NAMESPACE/NAME of the Secret whose `ca.crt` has signed that certificate",
    )
    rate_limit_ca_file: Path | None = Field(
        default=None, description="the CA in a file, instead of the Secret"
    )
    gateway_objects: Path | None = Field(
        default=None,
        description="JSON list of Gateways, AIGatewayRoutes and BackendTrafficPolicies, instead of the API server's",
    )
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="least to log")

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: str) -> str:
        scheme = value.partition("://")[0]
        if scheme == "sqlite" and not value.startswith("sqlite:////"):
            raise ValueError(
                "SQLite's file needs an absolute path, as in sqlite:////var/lib/token-meter/ledger.db"
            )
        if scheme not in ("sqlite", "postgresql", "postgres"):
            raise ValueError("must begin with sqlite:////, or with postgresql://")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _check_rate_limit(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError("must be HOST:PORT")
        return value

    @model_validator(mode="after")
    def _check_charging(self) -> Self:
        if not self.rate_limit or self.auth != "none":
            return self
        if self.gateway_objects is None:
            raise ValueError(
                f"{PREFIX}GATEWAY_OBJECTS: is needed for {PREFIX}RATE_LIMIT where {PREFIX}AUTH is none"
            )
        if self.rate_limit_ca_file is None and not loopback(self.rate_limit.rpartition(":")[0].strip("[]")):
            raise ValueError(
                f"{PREFIX}RATE_LIMIT_CA_FILE: is needed where {PREFIX}AUTH is none and {PREFIX}RATE_LIMIT is no"
                " loopback"
            )
        return self

    @model_validator(mode="after")
    def _check_open(self) -> Self:
        if self.auth == "none" and not loopback(self.host):
            raise ValueError(
                f"{PREFIX}HOST: must be a loopback address (127.0.0.1) where {PREFIX}AUTH is none: anybody who"
                " reaches it could write and read"
            )
        return self


class SettingsError(Exception):
    """A variable that cannot be used; the text names it and says why."""


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from an environment; an unknown or wrong variable is a SettingsError."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value != "" and not _is_service_link(name, value)
    }
    if host := environ.get("KUBERNETES_SERVICE_HOST"):
        host = f"[{host}]" if ":" in host else host
        given.setdefault("kubernetes_url", f"https://{host}:{environ.get('KUBERNETES_SERVICE_PORT', '443')}")
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_explain(item["loc"], item["msg"], item["type"]) for item in error.errors())
        ) from None


def described() -> Iterator[tuple[str, str, str]]:
    """Each setting's variable, default and meaning."""
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        yield PREFIX + name.upper(), "" if default is None else str(default), field.description or ""


def loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes sets such variables for the Service token-meter-ledger in every pod of its namespace."""
    return bool(_SERVICE_LINK.search(name)) or value.startswith(("tcp://", "udp://", "sctp://"))


def _explain(where: tuple[int | str, ...], message: str, kind: str) -> str:
    if not where:
        return message.removeprefix("Value error, ")
    name = PREFIX + str(where[0]).upper()
    if kind == "extra_forbidden":
        return f"{name}: no such setting; the settings are {', '.join(n for n, _, _ in described())}"
    return f"{name}: {message.removeprefix('Value error, ')}"
