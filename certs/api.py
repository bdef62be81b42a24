"""A small Kubernetes client on aiohttp: JSON in and out, server-side apply, watches as they come.

In a pod it is configured by the ServiceAccount, elsewhere by a kubeconfig (read by the official client, which is
imported only then: it costs memory).
"""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 60.0  # the kubelet writes a new token long before the old one expires
_APPLY = "application/apply-patch+yaml"  # JSON is YAML

Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused; `status` is the HTTP status, `reason` Kubernetes' word for it (AlreadyExists)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status} {reason}: {message}")


UNREACHABLE = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
"""What comes out where there is no answer at all."""
FAILED = (ApiError, *UNREACHABLE)


class ConfigError(Exception):
    """There is no way to reach an API server; the text says what to set."""


@dataclass(frozen=True, slots=True)
class Config:
    """Where the API server is, how it is verified (None: it speaks plain HTTP), who we are."""

    url: str
    tls: ssl.SSLContext | None = None
    authorization: Callable[[], str | None] = field(default=lambda: None)


def load_config(environ: Mapping[str, str] = os.environ, account: Path = ACCOUNT) -> Config:
    """KUBECONFIG where it is set, else the pod's ServiceAccount, else ~/.kube/config. Raises ConfigError."""
    if not environ.get("KUBECONFIG") and environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(environ, account)
    return from_kubeconfig(environ.get("KUBECONFIG") or None)


def in_cluster(environ: Mapping[str, str], account: Path = ACCOUNT) -> Config:
    """The pod's own ServiceAccount; its token is read again each minute."""
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = _FileToken(account / "token")
    try:
        context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        token()
    except OSError as error:
        raise ConfigError(
            f"the pod has no ServiceAccount token in {account}: {error}; mount it (automountServiceAccountToken)"
        ) from None
    return Config(f"https://{f'[{host}]' if ':' in host else host}:{port}", context, token)


def from_kubeconfig(path: str | None) -> Config:
    """A kubeconfig's current context, whatever its way to log in."""
    from kubernetes import client, config  # noqa: PLC0415 40 MiB that no pod needs

    read = client.Configuration()
    try:
        config.load_kube_config(config_file=path, client_configuration=read)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise ConfigError(
            f"no way to an API server: {error}; set KUBECONFIG, or run it in a pod with a ServiceAccount"
        ) from None
    if not read.host.startswith("https:"):
        return Config(read.host.rstrip("/"))
    context = ssl.create_default_context(cafile=read.ssl_ca_cert)
    if read.cert_file:
        context.load_cert_chain(read.cert_file, read.key_file)
    if not read.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return Config(
        read.host.rstrip("/"),
        context,
        lambda: read.get_api_key_with_prefix("BearerToken", alias="authorization"),
    )


class _FileToken:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = float("-inf")
        self._text = ""

    def __call__(self) -> str:
        now = time.monotonic()
        if now - self._read_at >= _TOKEN_SECONDS:
            self._text = f"Bearer {self._path.read_text().strip()}"
            self._read_at = now
        return self._text


class Api:
    """The API server, by paths (`/api/v1/namespaces/x/secrets/y`). Raises ApiError, or one of UNREACHABLE."""

    def __init__(self, config: Config, *, timeout: float = 10.0) -> None:
        self._config = config
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return self._config.url

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._config.tls if self._config.tls else True)
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": "token-meter", "Accept": "application/json"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def get(self, path: str, **params: str) -> Object:
        """Read one object or list."""
        return await self._call("GET", path, params)

    async def put(self, path: str, body: Object) -> Object:
        """Replace; with its resourceVersion in it, a change in between is a 409."""
        return await self._call("PUT", path, {}, body)

    async def post(self, path: str, body: Object) -> Object:
        """Create."""
        return await self._call("POST", path, {}, body)

    async def apply(self, path: str, body: Object, *, manager: str) -> Object:
        """Server-side apply of the fields in `body`, taking them over from whoever has them."""
        return await self._call("PATCH", path, {"fieldManager": manager, "force": "true"}, body, _APPLY)

    async def watch(self, path: str, *, silence: float, **params: str) -> AsyncIterator[Object]:
        """The events of a watch until the server ends it; `silence` seconds without a byte are a TimeoutError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=silence)
        async with self._request("GET", path, {"watch": "true", **params}, timeout=timeout) as response:
            await _check(response)
            rest = b""
            # Not by the reader's own lines: those are limited in length, an object is not.
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _decoded(line)

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": content_type} if data else {}
        async with self._request(method, path, params, timeout=timeout, data=data, headers=headers) as answer:
            await _check(answer)
            return _decoded(await answer.read())

    def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None:
            raise RuntimeError("the client is not open; use `async with`")
        authorization = self._config.authorization()
        sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
        url = self._config.url + path
        return self._session.request(
            method, url, params=params, timeout=timeout, data=data, headers=sent, allow_redirects=False
        )


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < 300:
        return
    text = (await response.content.read(65536)).decode(errors="replace")
    try:
        status = orjson.loads(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError):
        reason, message = response.reason or "", text[:200]
    raise ApiError(response.status, reason, message)


def _decoded(data: bytes) -> Object:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ApiError(502, "BadAnswer", f"the API server's answer is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(502, "BadAnswer", "the API server's answer is not an object")
    return value
