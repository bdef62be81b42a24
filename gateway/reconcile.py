"""One InferenceService or Gateway at a time: what is to stand is compared with what stands, the rest is written.

First everything that is wanted is applied, then everything else of its is deleted: a route that moves is never
missing. Whatever ends it in between, the next run begins from what stands and finishes it.
"""

import base64
import binascii
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from certs.api import Api, ApiError, Object
from certs.keys import service_names
from gateway import resources, verdict
from gateway.cases import Case, Key, Stage
from gateway.certificates import Certificates
from gateway.client import Client
from gateway.difference import differs
from gateway.events import Events
from gateway.facts import Material
from gateway.intent import Id, buffer_notices, id_of, intent, of_gateway
from gateway.names import label
from gateway.names import service as own_service
from gateway.notices import Notice, Reason
from gateway.owned import Owner, WholeCluster
from gateway.target import speaks_tls
from gateway.trim import generated, trim
from gateway.world import World
from isvc import GatewayRef, InferenceService, LLMInferenceService
from isvc.names import KEY_FIELD, api_key_secret

_LOG = logging.getLogger(__name__)
MANAGER = "token-meter-gateway"
_CONFLICT = re.compile(r'conflicts? with "([^"]+)"')


class Conflict(Exception):
    """Another manager keeps fields of ours; the text says which object and who."""


class Reconciler:
    """Brings one owner's objects to what they should be; raises what a request raises, and Conflict."""

    def __init__(
        self, api: Client, world: World, events: Events, certificates: Certificates, *, rate_limit: str
    ) -> None:
        self._api = api
        self._certificates = certificates
        self._world = world
        self._events = events
        self._rate_limit = rate_limit

    async def reconcile(self, owner: Owner) -> bool:
        """Do it once; whether anything had to be written."""
        if not self._world.whole:
            return False
        if isinstance(owner, WholeCluster):
            return await self._cluster()
        if isinstance(owner, GatewayRef):
            return await self._gateway(owner)
        return await self._service(owner)

    async def _service(self, key: Key) -> bool:
        case, live = self._world.cases.get(key), self._world.owned.of(key)
        if case is None:
            return await self._settle(key, (), live, ())
        service = case.service
        if case.problem and case.opted and not case.leaving:
            # What cannot be read is no reason to take anything away.
            if service:
                await self._events.tell(service, (case.problem,))
            return False
        if service is None:
            return await self._settle(key, (), live, ())
        gateway = case.choice.gateway
        if gateway and any(map(verdict.lacks_rate_limit_backend, live.values())):
            # The probe comes first: it is what keeps the limit away.
            await self._gateway(GatewayRef(gateway.namespace, label(gateway.name)))
        stage = case.stage(routed=any(kind == "AIGatewayRoute" for kind, _, _ in live))
        wanted = intent(
            case,
            stage,
            await self._key(service, live) if stage is not Stage.NOTHING else None,
            self._world.capabilities,
            self._world.foreign("BackendTrafficPolicy"),
            rate_limit=self._limits(gateway),
            tls=await self._tls(case, live) if stage is not Stage.NOTHING else None,
        )
        try:
            wrote = await self._settle(key, wanted.objects, live, _kept(case))
        except (Conflict, ApiError) as error:
            reason = Reason.FIELD_CONFLICT if isinstance(error, Conflict) else Reason.APPLY_FAILED
            await self._events.tell(service, (*wanted.notices, Notice(reason, str(error))))
            raise
        found = self._found(key, gateway) if gateway and stage is Stage.ROUTED else ()
        await self._events.tell(service, wanted.notices + found)
        return wrote

    def _found(self, key: Key, gateway: GatewayRef) -> tuple[Notice, ...]:
        """What is to be said of one that has its objects: how others have taken them."""
        ready = (Notice(Reason.GATEWAY_READY, str(gateway)),) if self._world.ready(key) else ()
        return (
            Notice(Reason.GATEWAY_OBJECTS_APPLIED, str(gateway)),
            *buffer_notices(self._world.gateway(gateway), self._world.foreign("ClientTrafficPolicy")),
            *verdict.refusals(self._world.owned.of(key).values()),
            *ready,
        )

    def _limits(self, gateway: GatewayRef | None) -> bool:
        """Whether limits can be applied behind that Gateway."""
        if self._rate_limit != "auto":
            return self._rate_limit == "true"
        return gateway is None or not self._world.withheld(gateway)

    async def _cluster(self) -> bool:
        """The Gateway that the settings ask for. What the watches do not show yet is applied again, to no effect."""
        wrote = False
        for obj, standing in self._world.asked_for():
            if differs(obj, standing):
                await self._apply(obj, standing)
                _LOG.info("%s is made: the settings ask for it", resources.path(obj))
                wrote = True
        return wrote

    async def _gateway(self, owner: GatewayRef) -> bool:
        """The Gateway's policy stands as long as anybody has a route to it."""
        gateway = self._world.serves(owner)
        if gateway is None:
            return await self._settle(owner, (), self._world.owned.of(owner), ())
        probed = self._rate_limit == "auto" and self._world.unlimited(gateway)
        policies = self._world.foreign("ClientTrafficPolicy")
        wanted = of_gateway(self._world.gateway(gateway), policies, probed=probed)
        return await self._settle(owner, wanted, self._world.owned.of(owner), ())

    async def _settle(
        self, owner: Owner, wanted: Iterable[Object], live: Mapping[Id, Mapping[str, Any]], kept: Iterable[Id]
    ) -> bool:
        """Apply what differs, then delete what is neither wanted nor kept, the route before what it names."""
        stays = {*kept, *(name for name, obj in live.items() if generated(obj))}
        wrote = False
        for obj in wanted:
            stays.add(id_of(obj))
            former = live.get(id_of(obj))
            if differs(obj, former):
                self._world.owned.put(owner, trim(obj["kind"])(await self._apply(obj, former)))
                wrote = True
        order = list(resources.PLURALS)
        for standing in sorted(live.values(), key=lambda one: order.index(one["kind"]), reverse=True):
            if id_of(standing) not in stays:
                await self._delete(standing)
                self._world.owned.drop(owner, standing)
                wrote = True
        return wrote

    async def _apply(self, obj: Object, standing: Mapping[str, Any] | None) -> Object:
        """Applied without force; somebody's edit is taken back, another's apply is not fought."""
        where = resources.path(obj)
        try:
            return await self._api.write(where, obj, manager=MANAGER, force=False)
        except ApiError as error:
            if error.status != 409:
                raise
            others = set(_CONFLICT.findall(str(error)))
            edits = {
                n
                for n, how in (standing or {"metadata": {}})["metadata"].get("managers", ())
                if how != "Apply"
            }
            if standing is None or not others or not others <= edits:
                raise Conflict(f"{resources.path(obj)}: {error}") from None
            _LOG.info("%s was edited by %s; it is put right", where, ", ".join(sorted(others)))
            return await self._api.write(where, obj, manager=MANAGER, force=True)

    async def _delete(self, obj: Mapping[str, Any]) -> None:
        version = resources.api_version(obj["kind"], self._world.capabilities)
        try:
            await self._api.delete(resources.path({**obj, "apiVersion": version}), obj["metadata"]["uid"])
        except ApiError as error:
            if error.status not in (404, 409):  # gone already, or another one of the same name
                raise

    async def _key(
        self, service: InferenceService | LLMInferenceService, live: Mapping[Id, Mapping[str, Any]]
    ) -> str | None:
        """The API key: the one that stands, else a new random one. A watch may be behind, so it is asked for."""
        if isinstance(service, LLMInferenceService):
            return None
        name = api_key_secret(service.name)
        standing = live.get(("Secret", service.namespace, name)) or await _get(
            self._api, f"/api/v1/namespaces/{service.namespace}/secrets/{name}"
        )
        return _value(standing) or secrets.token_hex(32)

    async def _tls(self, case: Case, live: Mapping[Id, Mapping[str, Any]]) -> Material | None:
        """Certificate, key and CAs of a sidecar that speaks TLS. All its Services' names are in the certificate."""
        service = case.service
        if not isinstance(service, InferenceService) or not speaks_tls(service, case.settings):
            return None
        standing = live.get(("Secret", service.namespace, api_key_secret(service.name))) or {}
        names = service_names(own_service(service.name), service.namespace)
        return await self._certificates.material(standing.get("data") or {}, names)


def _kept(case: Case) -> tuple[Id, ...]:
    """A sidecar that is there goes on asking for its key, whatever the namespace says since."""
    service = case.service
    if not isinstance(service, InferenceService) or case.leaving or not service.injected:
        return ()
    return (("Secret", service.namespace, api_key_secret(service.name)),)


async def _get(api: Api, path: str) -> Object | None:
    try:
        return await api.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _value(secret: Mapping[str, Any] | None) -> str:
    """The key in a Secret, "" where there is none that can be sent in a header."""
    try:
        text = base64.b64decode(((secret or {}).get("data") or {}).get(KEY_FIELD) or "").decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return text if text.isprintable() and " " not in text else ""
