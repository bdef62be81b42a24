"""AI Gateway's controller as far as the tests need it: what it makes of an AIGatewayRoute.

The real one cannot be had from a module registry. `outcome` is pure, and held to what AI Gateway 1.1.0 answered in
every recorded case (tests/data/recorded/ai-gateway); `Controller` applies it to an API server.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from tests.cluster.client import Client

GROUP = "aigateway.envoyproxy.io"
FINALIZER = f"{GROUP}/finalizer"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
SECONDS = 0.2
NOT_FOUND = (
    "No matching route found. It is likely because the model specified in your request is not configured in the "
    "Gateway."
)
Object = Mapping[str, Any]
World = Mapping[tuple[str, str, str], Object]
"""What there is, by kind, namespace and name."""


class Refused(Exception):
    """There can be no HTTPRoute; the text is AI Gateway's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an AIGatewayRoute becomes: `objects` to be applied, and its one condition."""

    objects: tuple[Object, ...]
    condition: Object


def accepted(what: str) -> Object:
    """The condition of what has been reconciled."""
    message = f"{what} reconciled successfully"
    return {"type": "Accepted", "status": "True", "reason": "ReconciliationSucceeded", "message": message}


def not_accepted(message: str) -> Object:
    """The condition of what has not; its type is another one too."""
    return {"type": "NotAccepted", "status": "False", "reason": "ReconciliationFailed", "message": message}


def key(obj: Object) -> tuple[str, str, str]:
    """Under which the object stands in a World."""
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def outcome(route: Object, world: World) -> Outcome:
    """What AI Gateway 1.1.0 makes of the route (internal/controller/ai_gateway_route.go)."""
    filters = (_host_rewrite(route), _route_not_found(route))
    try:
        objects = (*filters, _http_route(route, world))
    except Refused as error:
        return Outcome(filters, not_accepted(f"failed to construct a new HTTPRoute: {error}"))
    _, namespace, _ = key(route)
    for parent in route["spec"].get("parentRefs") or ():
        place, name = parent.get("namespace", namespace), parent["name"]
        if ("Gateway", place, name) not in world:
            missing = f'Gateway.gateway.networking.k8s.io "{name}" not found'
            text = f"failed to sync gw pods: gateway {place}/{name} not found: {missing}"
            return Outcome(objects, not_accepted(text))
    return Outcome(objects, accepted("AI Gateway Route"))


def _made(kind: str, api_version: str, name: str, route: Object) -> dict[str, Any]:
    metadata = route["metadata"]
    owner = {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "AIGatewayRoute",
        "name": metadata["name"],
        "controller": True,
        "blockOwnerDeletion": True,
    } | ({"uid": metadata["uid"]} if "uid" in metadata else {})
    head = {"name": name, "namespace": metadata["namespace"], "ownerReferences": [owner]}
    return {"apiVersion": api_version, "kind": kind, "metadata": head}


def _host_rewrite(route: Object) -> Object:
    name = f"ai-eg-host-rewrite-{route['metadata']['name']}"
    return _made("HTTPRouteFilter", "gateway.envoyproxy.io/v1alpha1", name, route) | {
        "spec": {"urlRewrite": {"hostname": {"type": "Backend"}}}
    }


def _route_not_found(route: Object) -> Object:
    name = f"ai-eg-route-not-found-response-{route['metadata']['name']}"
    body = {"type": "Inline", "inline": NOT_FOUND}
    return _made("HTTPRouteFilter", "gateway.envoyproxy.io/v1alpha1", name, route) | {
        "spec": {"directResponse": {"statusCode": 404, "body": body}}
    }


def _http_route(route: Object, world: World) -> Object:
    """The HTTPRoute of the route's own name, with the route's labels and annotations. Raises Refused."""
    _, _, name = key(route)
    spec = route["spec"]
    rules = [_rule(rule, route, world) for rule in spec["rules"]]
    everything = [{"path": {"type": "PathPrefix", "value": "/"}}]
    nothing_else = [_extension(f"ai-eg-route-not-found-response-{name}")]
    rules.append({"name": "route-not-found", "matches": everything, "filters": nothing_else})
    refs = [(i, ref) for i, rule in enumerate(spec["rules"]) for ref in rule.get("backendRefs") or ()]
    made = _made("HTTPRoute", "gateway.networking.k8s.io/v1", name, route)
    made["metadata"] |= {
        "labels": dict(route["metadata"].get("labels") or {}),
        "annotations": {
            **(route["metadata"].get("annotations") or {}),
            "gateway.envoyproxy.io/ai-gateway-generated": "true",
            "gateway.envoyproxy.io/backend-ref-priority": ",".join(
                f"{i}:{ref['name']}:{ref.get('priority', 0)}" for i, ref in refs
            ),
        },
    }
    return made | {"spec": {"parentRefs": spec.get("parentRefs") or [], "rules": rules}}


def _rule(rule: Object, route: Object, world: World) -> Object:
    """A rule of the HTTPRoute; streamIdleTimeout and modelNameOverride are for others to follow."""
    anywhere = {"path": {"type": "PathPrefix", "value": "/"}}
    return {
        "matches": [{**match, **anywhere} for match in rule.get("matches") or [{}]],
        "filters": [_extension(f"ai-eg-host-rewrite-{route['metadata']['name']}")],
        "backendRefs": [_backend_ref(ref, route, world) for ref in rule.get("backendRefs") or ()],
        "timeouts": {"request": "60s", **(rule.get("timeouts") or {})},
    }


def _extension(name: str) -> Object:
    ref = {"group": "gateway.envoyproxy.io", "kind": "HTTPRouteFilter", "name": name}
    return {"type": "ExtensionRef", "extensionRef": ref}


def _backend_ref(ref: Object, route: Object, world: World) -> Object:
    """The Backend behind an AIServiceBackend; raises Refused where the route cannot have it."""
    _, own, _ = key(route)
    name, namespace = ref["name"], ref.get("namespace", own)
    wanted = f"failed to get AIServiceBackend {name}.{namespace}"
    if namespace != own and not _granted(own, namespace, world):
        raise Refused(
            f"{wanted}: cross-namespace reference from AIGatewayRoute in namespace {own} to AIServiceBackend {name} "
            f"in namespace {namespace} is not permitted: no valid ReferenceGrant found in namespace {namespace}. "
            f"A ReferenceGrant must allow AIGatewayRoute from namespace {own} to reference AIServiceBackend in "
            f"namespace {namespace}"
        )
    if (backend := world.get(("AIServiceBackend", namespace, name))) is None:
        raise Refused(f"{wanted}: AIServiceBackend {name}.{namespace} not found")
    there = {"namespace": namespace} if "namespace" in ref else {}
    return {**backend["spec"]["backendRef"], **there, "weight": ref.get("weight", 1)}


def _granted(origin: str, namespace: str, world: World) -> bool:
    """Whether a ReferenceGrant there lets AIGatewayRoutes of `origin` name AIServiceBackends, whichever they are."""
    source = {"group": GROUP, "kind": "AIGatewayRoute", "namespace": origin}
    return any(
        source in grant["spec"]["from"]
        and any((to["group"], to["kind"]) == (GROUP, "AIServiceBackend") for to in grant["spec"]["to"])
        for (kind, place, _), grant in world.items()
        if (kind, place) == ("ReferenceGrant", namespace)
    )


class Controller:
    """Runs while the block lasts. Its finalizers go with it, so that what it leaves can be deleted."""

    def __init__(self, client: Client, version: str = "v1beta1") -> None:
        self._client = client
        self._paths = {
            "AIGatewayRoute": f"/apis/{GROUP}/{version}/aigatewayroutes",
            "AIServiceBackend": f"/apis/{GROUP}/{version}/aiservicebackends",
            "Gateway": "/apis/gateway.networking.k8s.io/v1/gateways",
            "ReferenceGrant": "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
            "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/httproutes",
            "HTTPRouteFilter": "/apis/gateway.envoyproxy.io/v1alpha1/httproutefilters",
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ai-gateway", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for obj in self._read().values():
            self._release(obj)

    def _run(self) -> None:
        seen: set[tuple[str, str]] | None = None
        while not self._ended.wait(SECONDS):
            try:
                world = self._read()
                now = {(obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]) for obj in world.values()}
                if now != seen:
                    self._reconcile(world)
                    seen = now
            except OSError:  # the API server is away; all is looked at again when it is back
                seen = None

    def _read(self) -> World:
        kinds = ("AIGatewayRoute", "AIServiceBackend", "Gateway", "ReferenceGrant")
        return {key(obj): obj for kind in kinds for obj in self._list(kind)}

    def _list(self, kind: str) -> Iterator[Object]:
        answer = self._client.request("GET", self._paths[kind])
        if answer.status == 200:  # else its CRD is not there
            for obj in answer.body["items"]:
                yield {**obj, "kind": kind}

    def _reconcile(self, world: World) -> None:
        for obj in world.values():
            if obj["metadata"].get("deletionTimestamp"):
                self._release(obj)
            elif obj["kind"] == "AIServiceBackend":
                self._hold(obj)
                self._say(obj, accepted("AIServiceBackend"))
            elif obj["kind"] == "AIGatewayRoute":
                self._hold(obj)
                self._follow(obj, self._outcome(obj, world))

    def _outcome(self, route: Object, world: World) -> Outcome:
        return outcome(route, world)

    def _follow(self, route: Object, found: Outcome) -> None:
        condition = found.condition
        for obj in found.objects:
            answer = self._client.request(
                "PATCH", f"{self._path(obj)}?fieldManager=ai-gateway&force=true", obj, APPLY
            )
            if answer.status not in {200, 201}:
                condition = not_accepted(f"failed to apply the {obj['kind']}: {answer.body['message']}")
        self._say(route, condition)

    def _path(self, obj: Object) -> str:
        kind, namespace, name = key(obj)
        root, _, plural = self._paths[kind].rpartition("/")
        return f"{root}/namespaces/{namespace}/{plural}/{name}"

    def _say(self, obj: Object, condition: Object) -> None:
        before = obj.get("status", {}).get("conditions") or [{}]
        if any(before[0].get(field) != value for field, value in condition.items()):
            status = {"conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
            self._client.request("PATCH", f"{self._path(obj)}/status", {"status": status}, MERGE)

    def _hold(self, obj: Object) -> None:
        held = obj["metadata"].get("finalizers") or []
        if FINALIZER not in held:
            self._set_finalizers(obj, [*held, FINALIZER])

    def _release(self, obj: Object) -> None:
        held = obj["metadata"].get("finalizers") or []
        if FINALIZER in held:
            self._set_finalizers(obj, [name for name in held if name != FINALIZER])

    def _set_finalizers(self, obj: Object, names: list[str]) -> None:
        self._client.request("PATCH", self._path(obj), {"metadata": {"finalizers": names}}, MERGE)
