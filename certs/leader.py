"""Who leads: a Lease that one process holds and renews (coordination.k8s.io/v1).

The holder stops its work before anybody else may take the Lease: it gives up after `deadline` seconds without a
renewal, others take over after `life`. Times are measured by each process's own monotonic clock from when it saw the
Lease change, as client-go does; the clocks of nodes are never compared.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from certs.api import FAILED, Api, ApiError, Object
from certs.watch import Backoff

_LOG = logging.getLogger(__name__)
MANAGER = "token-meter-leader"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: how long the Lease holds, when its holder gives up renewing, how often it is tried."""

    life: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.deadline < self.life:
            raise ValueError("a Lease needs retry < deadline < life")


@dataclass(slots=True)
class Seen:
    """The Lease as it was last seen to change, and when."""

    spec: Object | None = None
    at: float = 0.0

    def note(self, spec: Object, now: float) -> None:
        """Take note of the Lease's spec; the time counts from its last change."""
        if spec != self.spec:
            self.spec, self.at = spec, now

    def free(self, identity: str, now: float) -> bool:
        """It may be taken: nobody's, ours already, or not renewed for as long as its holder said."""
        spec = self.spec or {}
        holder = spec.get("holderIdentity")
        return (
            not holder or holder == identity or now >= self.at + float(spec.get("leaseDurationSeconds") or 0)
        )


class Elector:
    """Runs work while this process holds the Lease, and on one process at a time."""

    def __init__(
        self, api: Api, namespace: str, name: str, identity: str, times: Times | None = None
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._times = times or Times()
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        self._seen = Seen()
        self._until = 0.0

    @property
    def leading(self) -> bool:
        """Whether it may do the leader's work at this moment; one that was frozen learns here that it may not."""
        return time.monotonic() < self._until

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, run `work`, cancel it when the Lease is lost, and again; until cancelled.

        Work that fails gives the Lease away, with back-off, so that another process may try.
        """
        backoff = Backoff(first=1.0)
        while True:
            await self._acquire()
            _LOG.info("leading: %s holds the Lease %s", self._identity, self._name)
            task = asyncio.ensure_future(work())
            try:
                await self._hold(task)
            finally:
                self._until = 0.0
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await asyncio.shield(self._release())
            if task.cancelled() or task.exception() is None:
                backoff.reset()
            else:
                _LOG.error("the leader's work failed", exc_info=task.exception())
            await asyncio.sleep(backoff.next())

    async def _acquire(self) -> None:
        while True:
            began = time.monotonic()
            if await self._try():
                self._until = began + self._times.deadline
                return
            # Never longer than `retry`: so soon does another follow one that has ended.
            await asyncio.sleep(self._times.retry * random.uniform(0.6, 0.9))  # noqa: S311 not for secrets

    async def _hold(self, task: "asyncio.Future[None]") -> None:
        """Renew until the work ends or no renewal came through in time."""
        while not task.done():
            await asyncio.wait([task], timeout=self._times.retry)
            began = time.monotonic()
            left = self._until - began
            if left <= 0:
                _LOG.warning("the Lease %s could not be renewed in time; no longer leading", self._name)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    if await self._try():
                        self._until = began + self._times.deadline
                    elif not self._seen.free(self._identity, time.monotonic()):
                        _LOG.warning("the Lease %s was taken by another; no longer leading", self._name)
                        return

    async def _try(self) -> bool:
        """Take or renew the Lease once; False where it is another's or the API server does not let us."""
        try:
            lease = await self._read()
            spec: dict[str, Any] = lease.get("spec") or {}
            self._seen.note(spec, time.monotonic())
            if not self._seen.free(self._identity, time.monotonic()):
                return False
            taken = await self._api.put(self._path, {**lease, "spec": self._spec(spec)})
            self._seen.note(taken.get("spec") or {}, time.monotonic())
        except ApiError as error:
            if error.status != 409:  # 409: another was faster
                _LOG.warning("cannot take the Lease %s: %s", self._name, error)
            return False
        except FAILED as error:
            _LOG.warning("cannot take the Lease %s: %s", self._name, str(error) or type(error).__name__)
            return False
        return True

    async def _read(self) -> Object:
        """The Lease; made where it is missing, by apply, which RBAC can limit to its name."""
        try:
            return await self._api.get(self._path)
        except ApiError as error:
            if error.status != 404:
                raise
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
        }
        return await self._api.apply(self._path, body, manager=MANAGER)

    def _spec(self, former: Object) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = former.get("holderIdentity") == self._identity
        transitions = int(former.get("leaseTransitions") or 0)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._times.life)),
            "acquireTime": former.get("acquireTime") or now if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours else transitions + 1,
        }

    async def _release(self) -> None:
        """Leave the Lease to the next one at once."""
        try:
            async with asyncio.timeout(2.0):
                lease = await self._api.get(self._path)
                spec = lease.get("spec") or {}
                if spec.get("holderIdentity") == self._identity:
                    left = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._api.put(self._path, {**lease, "spec": left})
        except FAILED as error:
            _LOG.debug("the Lease was not released: %s", error)
