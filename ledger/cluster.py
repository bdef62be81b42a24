"""The Kubernetes API as the ledger uses it: reviews of tokens and of what they allow, and lists of objects."""

import ssl
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

_TOKEN_SECONDS = 60.0  # the kubelet writes a new token long before the old one expires
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
Object = dict[str, Any]


class Unreachable(Exception):
    """The API server has not answered, or not with what was asked for; the text says how."""


class Cluster:
    """The API server, with the ledger's own ServiceAccount."""

    def __init__(self, url: str, *, token_file: Path, ca_file: Path, timeout: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._token = ""
        self._read_at = float("-inf")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Raises OSError where token or CA cannot be read."""
        self._header()
        context = (
            ssl.create_default_context(cafile=str(self._ca_file)) if self._url.startswith("https:") else True
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=self._timeout,
            headers={"User-Agent": "token-meter-ledger"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def get(self, path: str) -> Object | None:
        """An object, or None where there is none, or no such kind. Raises Unreachable."""
        return await self._call("GET", path, None)

    async def metadata(self, path: str) -> Object | None:
        """An object's metadata and nothing else of it, or None where there is none. Raises Unreachable."""
        found = await self._call("GET", path, None, accept=_METADATA)
        return found and found.get("metadata")

    async def create(self, path: str, body: Object) -> Object:
        """What the API server makes of it. Raises Unreachable."""
        made = await self._call("POST", path, body)
        if made is None:
            raise Unreachable(f"{path}: the API server does not know it")
        return made

    async def _call(
        self, method: str, path: str, body: Object | None, accept: str = "application/json"
    ) -> Object | None:
        if self._session is None:
            raise Unreachable("not connected")
        data = orjson.dumps(body) if body is not None else None
        headers = self._header() | {"Accept": accept} | ({"Content-Type": "application/json"} if data else {})
        try:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers
            ) as response:
                answer = await response.read()
                if response.status == 404:
                    return None
                found: Object = orjson.loads(answer)
                if response.status >= 400:
                    raise Unreachable(f"{path}: {response.status} {found.get('message', '')}")
                return found
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise Unreachable(f"the API server at {self._url}: {error or type(error).__name__}") from None

    def _header(self) -> dict[str, str]:
        now = time.monotonic()
        if now - self._read_at >= _TOKEN_SECONDS:
            self._token = self._token_file.read_text().strip()
            self._read_at = now
        return {"Authorization": f"Bearer {self._token}"}
