"""List and watch of one resource: a copy of what the API server has, kept current.

Bookmarks keep the place where nothing changes; a place that the server has forgotten (410) means listing again, and
so does the resync; failures are retried with jittered back-off; a resource whose CRD is missing is asked for until
it is there.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from certs.api import FAILED, Api, ApiError, Object

_LOG = logging.getLogger(__name__)
_PAGE = "500"
Key = tuple[str, str]
"""Namespace ("" for what has none) and name."""


class Backoff:
    """Delays that double from `first` to `most` seconds, each cut by up to half at random."""

    def __init__(self, first: float = 0.2, most: float = 30.0) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def next(self) -> float:
        delay = min(self._most, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 not for secrets

    def reset(self) -> None:
        self._failures = 0


class Watch:
    """One resource's objects by namespace and name.

    `path` is the list's (`/api/v1/namespaces`), `selector` its labelSelector or fieldSelector; `trim` says what of
    an object is worth keeping; `changed` is called after every change, and once after the first list; whether the
    resource is served at all is part of it.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        selector: Mapping[str, str] | None = None,
        trim: Callable[[Object], Object] = lambda obj: obj,
        changed: Callable[[], None] = lambda: None,
        period: float = 300.0,
        resync: int = 6,
        absent_period: float = 10.0,
    ) -> None:
        self._api = api
        self._path = path
        self._selector = dict(selector or {})
        self._trim = trim
        self._changed = changed
        self._period = period
        self._resync = resync
        self._absent_period = absent_period
        self._objects: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        self.served = False

    def get(self, name: str, namespace: str = "") -> Object | None:
        """The object, or None; it is shared, not to be changed."""
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[Object]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    async def run(self) -> None:
        """Follow until cancelled."""
        backoff = Backoff()
        while True:
            try:
                version = await self._list()
                for _ in range(self._resync):
                    began = time.monotonic()
                    version = await self._follow(version)
                    if time.monotonic() - began >= 1.0:
                        backoff.reset()
                    else:  # a server that ends each watch at once is not asked a thousand times a second
                        await asyncio.sleep(backoff.next())
            except ApiError as error:
                if error.status == 404:
                    self._absent()
                    await asyncio.sleep(self._absent_period * random.uniform(0.5, 1.0))  # noqa: S311
                elif error.status == 410:
                    _LOG.debug("watch of %s is too old; listing again", self._path)
                    await asyncio.sleep(backoff.next())
                else:
                    await self._retry(error, backoff)
            except FAILED as error:
                await self._retry(error, backoff)

    async def refresh(self) -> None:
        """List now, beside the watch; raises what a request raises."""
        await self._list()

    async def _retry(self, error: Exception, backoff: Backoff) -> None:
        delay = backoff.next()
        text = str(error) or type(error).__name__
        _LOG.warning("cannot follow %s: %s; again in %.1f s", self._path, text, delay)
        await asyncio.sleep(delay)

    def _absent(self) -> None:
        """The API server does not serve it (yet): that is an answer too."""
        had = bool(self._objects) or not self.synced.is_set() or self.served
        self._objects.clear()
        self.served = False
        self.synced.set()
        if had:
            _LOG.info("%s is not served by the API server; it is asked for again", self._path)
            self._changed()

    async def _list(self) -> str:
        found: dict[Key, Object] = {}
        params = {"limit": _PAGE, **self._selector}
        while True:
            page = await self._api.get(self._path, **params)
            for item in page.get("items") or ():
                found[_key(item)] = self._trim(item)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            params["continue"] = metadata["continue"]
        differs = found != self._objects or not self.synced.is_set() or not self.served
        self._objects = found
        self.served = True
        self.synced.set()
        if differs:
            self._changed()
        return str(metadata.get("resourceVersion", ""))

    async def _follow(self, version: str) -> str:
        """One watch from `version` to its end; returns where it ended."""
        seconds = self._period * random.uniform(0.75, 1.25)  # noqa: S311
        params = {
            **self._selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        async for event in self._api.watch(self._path, silence=seconds + 30, **params):
            obj: dict[str, Any] = event.get("object") or {}
            match event.get("type"):
                case "ADDED" | "MODIFIED":
                    self._objects[_key(obj)] = self._trim(obj)
                    self._changed()
                case "DELETED":
                    self._objects.pop(_key(obj), None)
                    self._changed()
                case "ERROR":
                    raise ApiError(obj.get("code", 500), obj.get("reason", ""), obj.get("message", ""))
            version = obj.get("metadata", {}).get("resourceVersion", version)
        return version


def _key(obj: Object) -> Key:
    metadata = obj.get("metadata") or {}
    return metadata.get("namespace") or "", metadata.get("name") or ""
