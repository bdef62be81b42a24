"""What the injection tells the sidecar: environment variables named TOKEN_METER_*, read once."""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

PREFIX = "TOKEN_METER_"
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)$")
_MIB = 1024 * 1024


class ServerKind(StrEnum):
    """The model server behind the sidecar, as far as its dialect matters to the count."""

    VLLM = "vllm"
    HUGGINGFACE = "huggingface"
    SGLANG = "sglang"
    TGI = "tgi"
    LLAMA_CPP = "llama.cpp"
    OLLAMA = "ollama"
    OVMS = "ovms"
    GENERIC = "generic"


Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """Settings of one sidecar; durations in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "0.0.0.0"  # noqa: S104 a pod's ports are reached from other pods
    port: Port = 9180
    admin_port: Port = 9181
    upstream: str = "http://127.0.0.1:8080"
    base_path: str | None = None
    server: ServerKind = ServerKind.GENERIC
    namespace: str = ""
    inference_service: str = ""
    models: tuple[str, ...] = ()
    gateway: str = ""
    api_key_file: Path | None = None
    tls_dir: Path | None = Field(
        default=None, description="tls.crt and tls.key; the data port speaks TLS then"
    )
    user_header: str = Field(default="x-user-id", pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
    wait_for_model: bool = False
    readiness_path: str = Field(default="/v1/models", pattern=r"^/[!-~]*$")
    max_header_bytes: int = Field(default=64 * 1024, ge=1024)
    max_body_bytes: int = Field(default=64 * _MIB, ge=1024)
    max_buffered_bytes: int = Field(default=512 * _MIB, ge=1024)
    max_upstream_connections: int = Field(default=8192, ge=1)
    header_timeout: Seconds = 10.0
    body_timeout: Seconds = 60.0
    connect_timeout: Seconds = 5.0
    upstream_timeout: Seconds = 3600.0
    stream_idle_timeout: Seconds = 300.0
    # uvicorn closes an idle connection after 5 s (vLLM and KServe run on it): stay under that.
    upstream_keepalive: Seconds = 4.0
    drain_seconds: Annotated[float, Field(ge=0)] = 25.0
    ledger_url: str | None = None
    ledger_token_file: Path | None = None
    ledger_ca_file: Path | None = None
    pod_name: str = Field(default="", description="the pod's, which HOSTNAME may cut short")
    spool_dir: Path | None = None
    spool_max_bytes: int = Field(default=256 * _MIB, ge=2 * _MIB)
    model_dir: Path = Field(
        default=Path("/mnt/models"),
        description="the model's files; its tokenizer counts where the server does not",
    )
    finish_abandoned: int = Field(
        default=0, ge=0, description="answers finished at once after their clients went; 0 is none"
    )
    finish_abandoned_seconds: Seconds = 60.0
    user_metrics: int = Field(default=0, ge=0, description="users with metrics of their own; 0 is none")

    @field_validator("upstream")
    @classmethod
    def _check_upstream(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme != "http" or not url.hostname or url.path not in ("", "/"):
            raise ValueError("must be http://HOST:PORT, as in http://127.0.0.1:8080")
        _ = url.port  # raises ValueError where it is no port
        return value

    @field_validator("ledger_url")
    @classmethod
    def _check_ledger_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = urlsplit(value)
        if (
            url.scheme not in ("http", "https")
            or not url.hostname
            or url.username
            or url.query
            or url.fragment
        ):
            raise ValueError("must be http:// or https://HOST:PORT, as in http://token-meter-ledger:8080")
        _ = url.port  # raises ValueError where it is no port
        return value

    @field_validator("base_path")
    @classmethod
    def _check_base_path(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError("must begin with a slash and not end with one, as in /openai/v1")
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        return tuple(name for name in value.split(",") if name) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.ledger_url and not (self.namespace and self.inference_service):
            raise ValueError(
                "needs TOKEN_METER_NAMESPACE and TOKEN_METER_INFERENCE_SERVICE: events name them"
            )
        return self

    @property
    def upstream_address(self) -> tuple[str, int]:
        """Host and port of the model server."""
        url = urlsplit(self.upstream)
        return url.hostname or "127.0.0.1", url.port or 80


class SettingsError(Exception):
    """A variable that cannot be used; the text names it and says why."""


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from an environment; an unknown or wrong TOKEN_METER_ variable is a SettingsError."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and value != "" and not _is_service_link(name, value)
    }
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        lines = [
            _explain(".".join(map(str, item["loc"])), item["msg"], item["type"]) for item in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from None


def _is_service_link(name: str, value: str) -> bool:
    """Kubernetes sets such variables for each Service of the namespace, also for one called token-meter-x."""
    return bool(_SERVICE_LINK.search(name)) or value.startswith(("tcp://", "udp://", "sctp://"))


def _explain(field: str, message: str, kind: str) -> str:
    name = PREFIX + (field.split(".", maxsplit=1)[0].upper() or "LEDGER_URL")
    if kind == "extra_forbidden":
        return f"{name}: no such setting; the settings are {', '.join(sorted(_names()))}"
    return f"{name}: {message}"


def _names() -> list[str]:
    return [PREFIX + field.upper() for field in Settings.model_fields]
