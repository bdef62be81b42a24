"""What the controller knows of the cluster, kept current by watches, and which keys a change concerns."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from certs.api import Object
from certs.watch import Key as ObjectKey
from certs.watch import Watch
from gateway import cases, creation, defaults, verdict
from gateway.cases import Case, Cluster, Key, Standing
from gateway.client import Client
from gateway.facts import GATEWAY_API_GROUP, Capabilities
from gateway.names import label
from gateway.notices import Notice
from gateway.objects.metadata import MANAGED_BY
from gateway.objects.route import MODEL_HEADER
from gateway.owned import CLUSTER, Owned, Owner, owner_of
from gateway.resources import PLURALS, api_version, collection
from gateway.trim import trim
from isvc import (
    INJECTION_LABEL,
    LLM_KIND,
    GatewayRef,
    InferenceService,
    LLMInferenceService,
)

_LOG = logging.getLogger(__name__)
_GATHER = 0.02
"""Changes come in swarms: so long are they gathered, in seconds."""
_SHARED = ("BackendTrafficPolicy", "ClientTrafficPolicy")
"""Kinds of which those of others count too."""
_OURS = {"labelSelector": ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())}
_KSERVE = "/apis/serving.kserve.io"
_GATEWAY_API = f"/apis/{GATEWAY_API_GROUP}/v1"


class World:
    """Runs the watches; `cases`, `owned` and `foreign` are what they add up to.

    `enqueue` gets whom a change concerns.
    """

    def __init__(
        self,
        api: Client,
        capabilities: Capabilities,
        *,
        namespace: str,
        config_map: str,
        enqueue: Callable[[Owner], None],
    ) -> None:
        self.capabilities = capabilities
        self.cases: dict[Key, Case] = {}
        self.owned = Owned()
        self._config_map = (config_map, namespace)
        self._enqueue = enqueue
        self._changed = asyncio.Event()
        self._dirty: set[str] = set()
        self._was_whole = False
        self._seen: dict[str, dict[ObjectKey, Object]] = {}
        self._read: dict[Key, tuple[str, InferenceService | LLMInferenceService | Notice]] = {}
        named = {"fieldSelector": f"metadata.name={config_map}"}
        self._watches = {
            name: self._watch(api, name, path, selector)
            for name, path, selector in (
                ("InferenceService", f"{_KSERVE}/v1beta1/inferenceservices", None),
                ("Namespace", "/api/v1/namespaces", {"labelSelector": INJECTION_LABEL}),
                ("Gateway", f"{_GATEWAY_API}/gateways", None),
                ("GatewayClass", f"{_GATEWAY_API}/gatewayclasses", None),
                ("ServingRuntime", f"{_KSERVE}/v1alpha1/servingruntimes", None),
                ("ClusterServingRuntime", f"{_KSERVE}/v1alpha1/clusterservingruntimes", None),
                ("ConfigMap", f"/api/v1/namespaces/{namespace}/configmaps", named),
            )
        }
        if capabilities.llm:
            path = f"{_KSERVE}/{capabilities.llm}/llminferenceservices"
            self._watches[LLM_KIND] = self._watch(api, LLM_KIND, path, None)
        self._own = {
            kind: self._watch(
                api,
                kind,
                collection(kind, api_version(kind, capabilities)),
                None if kind in _SHARED else _OURS,
            )
            for kind in PLURALS
        }

    def _watch(self, api: Client, name: str, path: str, selector: Mapping[str, str] | None) -> Watch:
        def changed() -> None:
            self._dirty.add(name)
            self._changed.set()

        return Watch(api, path, selector=selector, trim=trim(name), changed=changed)

    def __iter__(self) -> Iterator[Watch]:
        yield from self._watches.values()
        yield from self._own.values()

    @property
    def whole(self) -> bool:
        """Whether it can be told who is there: nothing is taken away because a CRD is not served for a while."""
        return all(self._watches[name].served for name in ("InferenceService", "Namespace", "Gateway"))

    def foreign(self, kind: str) -> list[Object]:
        """The policies of that kind that are not ours."""
        return [obj for obj in self._own[kind] if owner_of(obj) is None]

    def gateway(self, ref: GatewayRef) -> Mapping[str, Any]:
        """The Gateway's metadata; of one that is not there its name."""
        found = self._watches["Gateway"].get(ref.name, ref.namespace)
        return found["metadata"] if found else {"namespace": ref.namespace, "name": ref.name}

    def ready(self, key: Key) -> bool:
        """Whether all that it needs behind its Gateway is accepted."""
        return verdict.ready(self.owned.of(key).values())

    def withheld(self, gateway: GatewayRef) -> bool:
        """Whether limits wait for a rate limit backend: the probe stands and Envoy Gateway has not accepted it."""
        mine = self.owned.of(GatewayRef(gateway.namespace, label(gateway.name)))
        return any(
            verdict.verdict(obj).state is not verdict.State.ACCEPTED
            for (kind, _, _), obj in mine.items()
            if kind == "BackendTrafficPolicy"
        )

    def unlimited(self, gateway: GatewayRef) -> bool:
        """Whether the probe is needed: limits are withheld already, or are refused for want of a backend."""
        return self.withheld(gateway) or any(
            verdict.lacks_rate_limit_backend(obj)
            for key, case in self.cases.items()
            if case.choice.gateway == gateway
            for obj in self.owned.of(key).values()
        )

    def states(self) -> Iterator[tuple[str, str]]:
        """Kind and state of each of the controller's objects that others accept or refuse."""
        for owner in self.owned:
            for (kind, _, _), obj in self.owned.of(owner).items():
                if kind in verdict.JUDGED:
                    yield kind, verdict.verdict(obj).state

    def standing(self, key: Key) -> Standing | None:
        """Its route, where it has one."""
        routes = [obj for obj in self.owned.of(key).values() if obj["kind"] == "AIGatewayRoute"]
        parents = [ref for obj in routes for ref in (obj.get("spec") or {}).get("parentRefs") or ()]
        if not parents:
            return None
        gateway = GatewayRef(
            parents[0].get("namespace") or routes[0]["metadata"]["namespace"], parents[0].get("name") or ""
        )
        return Standing(gateway, tuple(name for obj in routes for name in _asked_for(obj)))

    def serves(self, gateway: GatewayRef) -> GatewayRef | None:
        """The Gateway of that name, which a label may have cut, where anybody has a route to it."""
        for owner in self.owned:
            if isinstance(owner, Key) and (route := self.standing(owner)):
                ref = route.gateway
                if GatewayRef(ref.namespace, label(ref.name)) == gateway:
                    return ref
        return None

    async def follow(self) -> None:
        """Turn changes into keys, once everything has been read a first time; until cancelled."""
        await asyncio.gather(*(watch.synced.wait() for watch in self))
        while True:
            self._changed.clear()
            dirty, self._dirty = self._dirty, set()
            self._take(dirty)
            await self._changed.wait()
            await asyncio.sleep(_GATHER)

    def resync(self) -> None:
        """Take everything as the watches have it, and look at every key again."""
        self.owned.clear()
        for kind in PLURALS:
            self._seen.pop(kind, None)
        self._take({*self._watches, *self._own})
        self._enqueue_all()

    def gateways(self) -> set[GatewayRef]:
        """Those in use, and those that we have a policy for; names as a label has them."""
        chosen = {ref for case in self.cases.values() if (ref := case.choice.gateway)}
        found = {GatewayRef(ref.namespace, label(ref.name)) for ref in chosen}
        return found | {owner for owner in self.owned if isinstance(owner, GatewayRef)}

    def asked_for(self) -> Iterator[tuple[Object, Object | None]]:
        """The Gateway and its class that the settings ask for, each with what stands there."""
        config = self._watches["ConfigMap"].get(*self._config_map) or {}
        if (ref := defaults.creation(config.get("data") or {})) is None:
            return
        for obj in creation.wanted(ref, list(self._watches["Gateway"]), list(self._watches["GatewayClass"])):
            yield (
                obj,
                self._watches[obj["kind"]].get(obj["metadata"]["name"], obj["metadata"].get("namespace", "")),
            )

    def _enqueue_all(self) -> None:
        self._enqueue(CLUSTER)
        for owner in {*self.cases, *self.owned, *self.gateways()}:
            self._enqueue(owner)

    def _take(self, dirty: set[str]) -> None:
        for kind in PLURALS:
            if kind in dirty:
                self._take_own(kind)
        if dirty & {"Gateway", "GatewayClass", "ConfigMap"}:
            self._enqueue(CLUSTER)
        if dirty & self._watches.keys() and self.whole:
            if dirty & {"ServingRuntime", "ClusterServingRuntime"}:
                self._read.clear()
            self._take_cases()
        was_whole, self._was_whole = self._was_whole, self.whole
        if self.whole and not was_whole:
            # What came up in between was passed over.
            self._enqueue_all()

    def _take_own(self, kind: str) -> None:
        before, after = self._seen.get(kind, {}), {_key(obj): obj for obj in self._own[kind]}
        self._seen[kind] = after
        for key in {**before, **after}:
            old, new = before.get(key), after.get(key)
            if old and new and _version(old) == _version(new):
                continue
            if old and (owner := owner_of(old)) and not (new and _same(old, new)):
                self.owned.drop(owner, old)
                self._enqueue(owner)
            if new and (owner := owner_of(new)):
                self.owned.put(owner, new)
                self._enqueue(owner)
            if kind == "AIGatewayRoute" and not (old and new):
                # What stands for a Gateway follows from its routes, and not all of them go by our own hand.
                for gateway in self.gateways():
                    self._enqueue(gateway)
            if kind == "BackendTrafficPolicy" and any(
                obj and isinstance(owner_of(obj), GatewayRef) for obj in (old, new)
            ):
                # The probe of a Gateway, which says whether those behind it can be limited.
                self._enqueue_all()
            if any(obj and owner_of(obj) is None for obj in (old, new)):
                # Another's policy, which any of ours may have to give way to.
                self._enqueue_all()

    def _take_cases(self) -> None:
        former = self.cases
        services = [obj for kind in ("InferenceService", LLM_KIND) for obj in self._watches.get(kind, ())]
        self._read = {cases.key_of(obj): self._read_again(obj) for obj in services}
        standing = {key: route for key in self._read if (route := self.standing(key))}
        read = ((obj, self._read[cases.key_of(obj)][1]) for obj in services)
        self.cases = cases.cases(read, self._cluster(), standing)
        for key in {**former, **self.cases}:
            if former.get(key) != self.cases.get(key):
                self._enqueue(key)

    def _read_again(self, obj: Object) -> tuple[str, InferenceService | LLMInferenceService | Notice]:
        known = self._read.get(cases.key_of(obj))
        return known if known and known[0] == _version(obj) else (_version(obj), self._read_one(obj))

    def _read_one(self, obj: Object) -> InferenceService | LLMInferenceService | Notice:
        if obj["kind"] == LLM_KIND:
            return cases.read_llm(obj, self.capabilities.llm or "")
        return cases.read(obj, self._runtimes())

    def _runtimes(self) -> list[Object] | None:
        watches = [self._watches["ServingRuntime"], self._watches["ClusterServingRuntime"]]
        return [obj for watch in watches for obj in watch] if any(one.served for one in watches) else None

    def _cluster(self) -> Cluster:
        config = self._watches["ConfigMap"].get(*self._config_map) or {}
        return Cluster(
            namespaces={obj["metadata"]["name"]: obj for obj in self._watches["Namespace"]},
            gateways=list(self._watches["Gateway"]),
            classes=list(self._watches["GatewayClass"]),
            defaults=defaults.allowed(config.get("data") or {}),
        )


def _asked_for(route: Mapping[str, Any]) -> Iterator[str]:
    for rule in (route.get("spec") or {}).get("rules") or ():
        for match in rule.get("matches") or ():
            for header in match.get("headers") or ():
                if header.get("name") == MODEL_HEADER:
                    yield str(header.get("value"))


def _key(obj: Object) -> ObjectKey:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _same(old: Object, new: Object) -> bool:
    return owner_of(old) == owner_of(new) and bool(old["metadata"].get("uid") == new["metadata"].get("uid"))


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion"))
