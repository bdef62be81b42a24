"""The objects that say where the gateway counts: read from the API server, or from a file where there is none."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import orjson

from ledger.buckets import Object
from ledger.cluster import Cluster

_SERVICE, _NAMESPACE = "token-meter.dev/inferenceservice", "token-meter.dev/namespace"
_OURS = "?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dtoken-meter"
_ROUTES = tuple(f"/apis/aigateway.envoyproxy.io/{v}/aigatewayroutes{_OURS}" for v in ("v1beta1", "v1alpha1"))
_POLICIES = f"/apis/gateway.envoyproxy.io/v1alpha1/backendtrafficpolicies{_OURS}"
_GATEWAYS = "/apis/gateway.networking.k8s.io/v1/gateways"
_HELD_SECONDS = 5.0
Name = tuple[str, str]
Limit = tuple[Object, Object | None, Object | None]


class Snapshot:
    """Gateways, routes and policies of one moment."""

    def __init__(
        self, routes: Iterable[Object], policies: Iterable[Object], gateways: Iterable[Object]
    ) -> None:
        self._gateways = {_name(one): one for one in gateways}
        self._policies = {
            (one["metadata"]["namespace"], target.get("name")): one
            for one in policies
            for target in one["spec"].get("targetRefs") or ()
        }
        self._routes: defaultdict[Name, list[Object]] = defaultdict(list)
        for one in routes:
            labels = one["metadata"].get("labels") or {}
            self._routes[labels.get(_NAMESPACE, ""), labels.get(_SERVICE, "")].append(one)

    def limits(self, namespace: str, service: str) -> Sequence[Limit]:
        """Route, its Gateway and its policy, of each route of the InferenceService."""
        return [
            (route, self._gateway(route), self._policies.get(_name(route)))
            for route in self._routes.get((namespace, service), ())
        ]

    def _gateway(self, route: Object) -> Object | None:
        """The one that it hangs on, with the one listener where the route names it."""
        parents: Sequence[Object] = route["spec"].get("parentRefs") or ()
        if len(parents) != 1:
            return None
        parent = parents[0]
        found = self._gateways.get(
            (parent.get("namespace") or route["metadata"]["namespace"], parent["name"])
        )
        if found is None or not (section := parent.get("sectionName")):
            return found
        listeners = [one for one in found["spec"].get("listeners") or () if one["name"] == section]
        return {**found, "spec": {**found["spec"], "listeners": listeners}}


class Source(Protocol):
    """Where the objects come from."""

    async def read(self) -> Snapshot:
        """The objects, as they were a few seconds ago at most. Raises Unreachable."""


class FromCluster:
    """Lists of the API server, held for a few seconds: what a watch lost would never come back by itself."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._held: tuple[float, Snapshot] | None = None

    async def read(self) -> Snapshot:
        """A list each few seconds, and only while there is something to charge."""
        if self._held is None or self._clock() - self._held[0] >= _HELD_SECONDS:
            now = self._clock()
            routes, policies, gateways = await asyncio.gather(
                self._routes(), self._items(_POLICIES), self._items(_GATEWAYS)
            )
            self._held = now, Snapshot(routes or (), policies or (), gateways or ())
        return self._held[1]

    async def _routes(self) -> list[Object] | None:
        for path in _ROUTES:
            if (found := await self._items(path)) is not None:
                return found
        return None

    async def _items(self, path: str) -> list[Object] | None:
        answer = await self._cluster.get(path)
        return None if answer is None else list(answer.get("items") or ())


class FromFile:
    """A JSON list of objects, read once: without a cluster. Raises OSError, ValueError."""

    def __init__(self, file: Path) -> None:
        kinds: defaultdict[str, list[Object]] = defaultdict(list)
        for one in orjson.loads(file.read_bytes()):
            kinds[one["kind"]].append(one)
        self._snapshot = Snapshot(kinds["AIGatewayRoute"], kinds["BackendTrafficPolicy"], kinds["Gateway"])

    async def read(self) -> Snapshot:
        """What the file says."""
        return self._snapshot


def _name(obj: Object) -> Name:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
