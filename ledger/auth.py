"""Who may write and who may read: what the API server says of a caller's token.

A pod's sidecar sends its projected ServiceAccount token of our own audience, and writes for its own pod and the
InferenceService that KServe has labelled it with only (a pod's name may be cut short, or hold the predictor's). A
reader sends the token it has for the API server, and sees the namespaces where it may `get usage` in
`usage.token-meter.dev`.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.cluster import Cluster, Unreachable
from ledger.event import Event
from ledger.problems import Problem

GROUP, RESOURCE, VERB = "usage.token-meter.dev", "usage", "get"
_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_SERVICE_LABEL = "serving.kserve.io/inferenceservice"
_ACCOUNT_PREFIX = "system:serviceaccount:"
_GOOD_SECONDS, _BAD_SECONDS = 60.0, 5.0
_MOST_CACHED = 10_000
_MOST_ASKED = 500
"""Namespaces that one reader is asked about, one by one."""
Permit = Callable[[Event], str | None]


class Gate(Protocol):
    """Lets callers through, or raises Problem."""

    async def writer(self, token: str | None) -> Permit:
        """What the caller may write."""

    async def reader(self, token: str | None, among: Callable[[], Collection[str]]) -> frozenset[str] | None:
        """The namespaces that the caller may see, of those that there are; None for all."""


class OpenGate:
    """Everybody on this machine: for a ledger on a loopback."""

    async def writer(self, token: str | None) -> Permit:
        return lambda event: None

    async def reader(self, token: str | None, among: Callable[[], Collection[str]]) -> frozenset[str] | None:
        return None


@dataclass(frozen=True, slots=True)
class User:
    """As a TokenReview names it."""

    name: str
    uid: str
    groups: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]

    @property
    def pod(self) -> tuple[str, str] | None:
        """Namespace and name of the pod whose ServiceAccount token it is."""
        namespace, _, account = self.name.removeprefix(_ACCOUNT_PREFIX).partition(":")
        pods = self.extra.get(_POD_NAME, ())
        if not self.name.startswith(_ACCOUNT_PREFIX) or not account or len(pods) != 1:
            return None
        return namespace, pods[0]


class ClusterGate:
    """Asks the API server, and remembers its answers for a minute."""

    def __init__(self, cluster: Cluster, audience: str) -> None:
        self._cluster = cluster
        self._audience = audience
        self._users = _Cache()
        self._services = _Cache()
        self._rights = _Cache()

    async def writer(self, token: str | None) -> Permit:
        user = await self._user(token, (self._audience,))
        pod = user.pod
        if pod is None:
            raise Problem(
                403, "not_a_pod", f"The token is {user.name}'s, which is no pod's: only sidecars write."
            )
        service = await self._service(*pod)
        return lambda event: _foreign(event, pod, service)

    async def reader(self, token: str | None, among: Callable[[], Collection[str]]) -> frozenset[str] | None:
        user = await self._user(token, ())
        if await self._may(user, ""):
            return None
        names = sorted(await asyncio.to_thread(among))[:_MOST_ASKED]
        allowed = await asyncio.gather(*(self._may(user, name) for name in names))
        seen = frozenset(name for name, may in zip(names, allowed, strict=True) if may)
        if not seen:
            raise Problem(
                403,
                "forbidden",
                f"{user.name} may not {VERB} {RESOURCE} of {GROUP} in any namespace with usage; a Role with that"
                " (docs/ledger.md) lets it.",
            )
        return seen

    async def _user(self, token: str | None, audiences: tuple[str, ...]) -> User:
        if not token:
            raise Problem(401, "no_token", "No token was given; send Authorization: Bearer TOKEN.")
        key = hashlib.sha256(f"{audiences}{token}".encode()).digest()
        found = self._users.get(key)
        if found is None:
            spec: dict[str, Any] = {"token": token}
            if audiences:
                spec["audiences"] = list(audiences)
            status = await self._review(_REVIEWS, "TokenReview", "authentication.k8s.io/v1", spec)
            good = bool(status.get("authenticated")) and (
                not audiences or bool(set(audiences) & set(status.get("audiences") or ()))
            )
            found = self._users.put(key, _read_user(status.get("user") or {}) if good else False, good)
        if not isinstance(found, User):
            raise Problem(
                401, "invalid_token", "The token is not valid here: expired, or of another audience."
            )
        return found

    async def _service(self, namespace: str, pod: str) -> str:
        """The InferenceService that a pod serves, "" for none."""
        key = hashlib.sha256(f"{namespace}/{pod}".encode()).digest()
        found = self._services.get(key)
        if found is None:
            try:
                metadata = await self._cluster.metadata(f"/api/v1/namespaces/{namespace}/pods/{pod}")
            except Unreachable as error:
                raise _nobody(error) from None
            if metadata is None:
                raise Problem(401, "invalid_token", f"Pod {namespace}/{pod}, whose token it is, is gone.")
            service = (metadata.get("labels") or {}).get(_SERVICE_LABEL, "")
            found = self._services.put(key, service, bool(service))
        return str(found)

    async def _may(self, user: User, namespace: str) -> bool:
        key = hashlib.sha256(repr((user, namespace)).encode()).digest()
        found = self._rights.get(key)
        if found is None:
            attributes = {"group": GROUP, "resource": RESOURCE, "verb": VERB}
            spec = {
                "user": user.name,
                "uid": user.uid,
                "groups": list(user.groups),
                "extra": {name: list(values) for name, values in user.extra.items()},
                "resourceAttributes": attributes | ({"namespace": namespace} if namespace else {}),
            }
            status = await self._review(_ACCESS, "SubjectAccessReview", "authorization.k8s.io/v1", spec)
            allowed = bool(status.get("allowed"))
            found = self._rights.put(key, allowed, allowed)
        return bool(found)

    async def _review(self, path: str, kind: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
        try:
            made = await self._cluster.create(path, {"apiVersion": version, "kind": kind, "spec": spec})
        except Unreachable as error:
            raise _nobody(error) from None
        status: dict[str, Any] = made.get("status") or {}
        return status


def _nobody(error: Unreachable) -> Problem:
    return Problem(503, "no_api_server", f"Nobody can be let in now: {error}.", retry_after=5)


def _foreign(event: Event, pod: tuple[str, str], of_pod: str) -> str | None:
    """Why this pod, which serves `of_pod`, may not write this event."""
    namespace, service, name = event.place
    if (namespace, name) != pod:
        return f"source: the token is that of pod {pod[0]}/{pod[1]}, which writes for itself only"
    if service != of_pod:
        return f"source: pod {name} is none of InferenceService {service}"
    return None


def _read_user(value: dict[str, Any]) -> User:
    extra = {name: tuple(values) for name, values in (value.get("extra") or {}).items()}
    return User(value.get("username", ""), value.get("uid", ""), tuple(value.get("groups") or ()), extra)


class _Cache:
    """Answers for a while, bounded; a good one longer than a bad one, which a new Role may change."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()

    def get(self, key: bytes) -> Any:
        held = self._held.get(key)
        return held[1] if held and held[0] > time.monotonic() else None

    def put(self, key: bytes, value: Any, good: bool) -> Any:
        self._held[key] = (time.monotonic() + (_GOOD_SECONDS if good else _BAD_SECONDS), value)
        self._held.move_to_end(key)
        while len(self._held) > _MOST_CACHED:
            self._held.popitem(last=False)
        return value
