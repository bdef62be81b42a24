"""The controller's work while it leads: watches, a work queue and a few workers, begun again when the APIs change."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable

from certs.api import FAILED, ApiError
from certs.watch import Watch
from gateway.cases import Case, Key, Stage
from gateway.certificates import Certificates
from gateway.client import Client
from gateway.events import Events
from gateway.facts import Capabilities, UnsupportedAPI
from gateway.metrics import Metrics
from gateway.owned import Owner
from gateway.queue import WorkQueue
from gateway.reconcile import Conflict, Reconciler
from gateway.settings import Settings
from gateway.world import World

_LOG = logging.getLogger(__name__)
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
READ_CRDS = (
    "aigatewayroutes.aigateway.envoyproxy.io",
    "referencegrants.gateway.networking.k8s.io",
    "llminferenceservices.serving.kserve.io",
    "backendtlspolicies.gateway.networking.k8s.io",
)
_WORKERS = 4


class Controller:
    """`run` is what the leader does, until cancelled."""

    def __init__(self, api: Client, settings: Settings, metrics: Metrics) -> None:
        self._api = api
        self._settings = settings
        self._metrics = metrics
        self._events = Events(api, settings.identity)
        self._queue: WorkQueue[Owner] = WorkQueue()
        self._world: World | None = None

    @property
    def failing(self) -> int:
        """Keys whose last reconcile failed."""
        return self._queue.failing

    def services(self) -> dict[str, int]:
        """InferenceServices by stage."""
        if self._world is None:
            return {}
        return Counter(_stage(key, case, self._world) for key, case in self._world.cases.items())

    def objects(self) -> dict[tuple[str, str], int]:
        """Objects by kind and by whether they are accepted."""
        return Counter(self._world.states()) if self._world else {}

    async def run(self) -> None:
        """Follow the installed APIs; all the rest begins anew when they change."""
        changed = asyncio.Event()
        crds = [self._crd(name, changed) for name in READ_CRDS]
        following: list[asyncio.Future[None]] = [asyncio.ensure_future(crd.run()) for crd in crds]
        try:
            await asyncio.gather(*(crd.synced.wait() for crd in crds))
            while True:
                changed.clear()
                await self._under(_capabilities(crds), crds, changed)
        finally:
            await _end(following)

    def _crd(self, name: str, changed: asyncio.Event) -> Watch:
        selector = {"fieldSelector": f"metadata.name={name}"}
        return Watch(self._api, _CRDS, selector=selector, changed=changed.set)

    async def _under(
        self, capabilities: Capabilities | None, crds: list[Watch], changed: asyncio.Event
    ) -> None:
        """Work with these APIs until there are others."""
        running = [] if capabilities is None else self._start(capabilities)
        try:
            while _capabilities(crds, quiet=True) == capabilities:
                changed.clear()
                waiting = asyncio.ensure_future(_set(changed))
                await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                for task in running:
                    if task.done():  # none ends by itself
                        task.result()
            _LOG.info("the installed APIs have changed; everything is looked at again")
        finally:
            await _end(running)
            self._queue.close()
            self._world = None

    def _start(self, capabilities: Capabilities) -> list["asyncio.Future[None]"]:
        _LOG.info("AI Gateway's API is %s", capabilities.ai_gateway)
        self._queue = WorkQueue()
        world = World(
            self._api,
            capabilities,
            namespace=self._settings.namespace,
            config_map=self._settings.config_map,
            enqueue=self._queue.add,
        )
        self._world = world
        certificates = Certificates(self._api, self._settings.namespace)
        reconciler = Reconciler(
            self._api, world, self._events, certificates, rate_limit=self._settings.rate_limit
        )

        async def handle(owner: Owner) -> bool:
            return await self._handle(reconciler, world, owner)

        work: list[Awaitable[None]] = [watch.run() for watch in world]
        work += [world.follow(), self._resync(world)]
        work += [self._queue.work(handle) for _ in range(_WORKERS)]
        return [asyncio.ensure_future(one) for one in work]

    async def _handle(self, reconciler: Reconciler, world: World, owner: Owner) -> bool:
        """One key; whatever is wrong with it stays its own trouble."""
        began = time.perf_counter()
        try:
            if await reconciler.reconcile(owner):
                for gateway in world.gateways():
                    self._queue.add(gateway)
        except Conflict as error:
            _LOG.warning("%s: %s", owner, error)
            self._metrics.failed("conflict")
        except FAILED as error:
            _LOG.warning("%s: %s", owner, str(error) or type(error).__name__)
            self._metrics.failed(error.reason or "refused" if isinstance(error, ApiError) else "unreachable")
        except Exception:  # noqa: BLE001 a fault of ours with one object must not stop the others
            _LOG.exception("%s: reconcile failed", owner)
            self._metrics.failed("internal")
        else:
            self._metrics.reconciled(time.perf_counter() - began)
            return True
        return False

    async def _resync(self, world: World) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds * random.uniform(0.9, 1.1))  # noqa: S311 not for secrets
            if all(watch.synced.is_set() for watch in world):
                world.resync()


def _capabilities(crds: list[Watch], *, quiet: bool = False) -> Capabilities | None:
    """What the CRDs have; None, with a line in the log, where AI Gateway is not there or too old."""
    try:
        return Capabilities.from_crds(obj for crd in crds for obj in crd)
    except UnsupportedAPI as error:
        if not quiet:
            _LOG.warning("nothing is made yet: %s", error)
        return None


def _stage(key: Key, case: Case, world: World) -> str:
    if case.problem:
        return "unreadable"
    stage = case.stage(routed=any(kind == "AIGatewayRoute" for kind, _, _ in world.owned.of(key)))
    return "ready" if stage is Stage.ROUTED and world.ready(key) else stage


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _end(tasks: list["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
