"""The Gateways: is there one, are our routes and policies accepted, do bodies fit, who writes the user's header?"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cli.checks.finding import Check, Finding, State, ok
from cli.checks.snapshot import Object, Snapshot
from gateway.buffers import too_small
from gateway.choice import CONTROLLER
from gateway.intent import targets
from gateway.owned import owner_of
from gateway.verdict import State as Judged
from gateway.verdict import verdict

ROUTES = ("aigatewayroutes", "httproutes")
_KINDS = {
    "aigatewayroutes": "AIGatewayRoute",
    "httproutes": "HTTPRoute",
    "backendtrafficpolicies": "BackendTrafficPolicy",
    "clienttrafficpolicies": "ClientTrafficPolicy",
}


def checks() -> tuple[Check, ...]:
    """In the order in which they are shown."""
    return (
        Check("gateway", ("gateways", "gatewayclasses"), there_is_one),
        Check("routes", ROUTES, routes),
        Check("policies", ("backendtrafficpolicies", "clienttrafficpolicies"), policies),
        Check("buffer", ("aigatewayroutes", "clienttrafficpolicies"), buffers),
        Check("user-header", ("aigatewayroutes", "backendtrafficpolicies", "securitypolicies"), user_header),
    )


def there_is_one(snapshot: Snapshot) -> Finding:
    """A Gateway of Envoy Gateway's, and whether somebody has to choose."""
    classes = {
        obj["metadata"]["name"]
        for obj in snapshot.of("gatewayclasses")
        if (obj.get("spec") or {}).get("controllerName") == CONTROLLER
    }
    found = sorted(
        "/".join(_place(obj))
        for obj in snapshot.of("gateways")
        if (obj.get("spec") or {}).get("gatewayClassName") in classes
    )
    if not found:
        return Finding(
            State.FAILURE,
            "there is no Gateway whose class is Envoy Gateway's",
            "kubectl apply -f demo/gateway.yaml   (with its GatewayClass; or a Gateway of your own)",
        )
    if len(found) > 1:
        return Finding(
            State.WARNING,
            f"{len(found)} Gateways: who names none by token-meter.dev/gateway gets no route",
            "set `gateway` in ConfigMap token-meter-system/token-meter, or annotate the namespaces",
            tuple(found),
        )
    return ok(found[0])


def routes(snapshot: Snapshot) -> Finding:
    """What AI Gateway and Envoy Gateway say of our routes."""
    mine = list(_ours(snapshot, "aigatewayroutes"))
    names = {_place(obj) for obj in mine}
    made = [{**obj, "kind": "HTTPRoute"} for obj in snapshot.of("httproutes") if _place(obj) in names]
    return _judged(
        [*mine, *made], len(mine), "route", "kubectl describe the route; docs/controller.md lists the causes"
    )


def policies(snapshot: Snapshot) -> Finding:
    """What Envoy Gateway says of our policies."""
    mine = [*_ours(snapshot, "backendtrafficpolicies"), *_ours(snapshot, "clienttrafficpolicies")]
    return _judged(
        mine, len(mine), "policy", "kubectl describe the policy; docs/controller.md lists the causes"
    )


def buffers(snapshot: Snapshot) -> Finding:
    """A client policy of the user's on a Gateway in use that leaves the default of 32 KiB."""
    others = [obj for obj in snapshot.of("clienttrafficpolicies") if owner_of(obj) is None]
    used = list(_in_use(snapshot, _ours(snapshot, "aigatewayroutes")))
    wrong = [
        notice.detail
        for gateway in used
        for notice in too_small(one for one in others if targets(one, "Gateway", gateway, whole=False))
    ]
    if wrong:
        text = "long prompts are answered 413, long answers 500"
        return Finding(State.FAILURE, text, "set connection.bufferLimit there", tuple(wrong))
    return ok(f"large enough on {len(used)} Gateway{'s' if len(used) != 1 else ''} in use")


def user_header(snapshot: Snapshot) -> Finding:
    """Whether a client may write the header by which users are told apart."""
    setters = list(snapshot.of("securitypolicies"))
    forged = []
    for policy in _ours(snapshot, "backendtrafficpolicies"):
        place, headers = _place(policy), _limited_by(policy)
        gateways = list(_in_use(snapshot, _at(_ours(snapshot, "aigatewayroutes"), place)))
        routes = [route["metadata"] for route in _at(snapshot.of("httproutes"), place)]
        near = [
            one
            for one in setters
            if any(targets(one, "HTTPRoute", route, whole=True) for route in routes)
            or any(targets(one, "Gateway", gateway, whole=True) for gateway in gateways)
        ]
        written = {header for one in near for header in _written(one["spec"])}
        forged += [f"{'/'.join(place)}: {header}" for header in sorted(headers - written)]
    if forged:
        return Finding(
            State.WARNING,
            "clients write the user's header themselves, so a limit binds only the honest",
            "attach a SecurityPolicy to the Gateway that sets it (jwt.claimToHeaders, extAuth.headersToBackend,"
            " apiKeyAuth.forwardClientIDHeader)",
            tuple(forged),
        )
    return ok("the user's header is set by a SecurityPolicy, or nothing is limited")


def _judged(objects: Iterable[Object], count: int, what: str, todo: str) -> Finding:
    refused, pending = [], []
    for obj in objects:
        said = verdict(obj)
        name = f"{obj['kind']} {'/'.join(_place(obj))}"
        if said.state is Judged.REFUSED:
            refused += [f"{name}: {c.get('reason')}: {c.get('message', '')}" for c in said.refusals]
        elif said.state is Judged.PENDING:
            pending.append(f"{name}: nobody has said anything of it yet")
    plural = {"route": "routes", "policy": "policies"}[what]
    if refused:
        return Finding(State.FAILURE, f"{len(refused)} refusals among {count} {plural}", todo, tuple(refused))
    if pending:
        return Finding(
            State.WARNING,
            f"{len(pending)} of {count} {plural} wait",
            "see that the gateways run",
            tuple(pending),
        )
    return ok(f"{count} {plural if count != 1 else what}, all accepted" if count else f"no {what} yet")


def _ours(snapshot: Snapshot, name: str) -> Iterator[dict[str, Any]]:
    for obj in snapshot.of(name):
        if owner_of(obj) is not None:
            yield {**obj, "kind": _KINDS[name]}  # lists leave it out


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _at(objects: Iterable[Object], place: tuple[str, str]) -> Iterator[Object]:
    return (obj for obj in objects if _place(obj) == place)


def _in_use(snapshot: Snapshot, routes: Iterable[Object]) -> Iterator[Mapping[str, Any]]:
    """The metadata of each Gateway that these routes name."""
    named = {
        (ref.get("namespace") or route["metadata"]["namespace"], ref["name"])
        for route in routes
        for ref in (route.get("spec") or {}).get("parentRefs") or ()
    }
    for place in sorted(named):
        yield from (gateway["metadata"] for gateway in _at(snapshot.of("gateways"), place))


def _limited_by(policy: Object) -> set[str]:
    """The headers with a limit for each of their values."""
    rate = ((policy.get("spec") or {}).get("rateLimit") or {}).get("global") or {}
    return {
        header["name"].lower()
        for rule in rate.get("rules") or ()
        for selector in rule.get("clientSelectors") or ()
        for header in selector.get("headers") or ()
        if header.get("type") == "Distinct" and not header["name"].lower().startswith("x-ai-eg-")
    }


def _written(spec: Mapping[str, Any]) -> Iterator[str]:
    """The headers that a SecurityPolicy sets over what a client sent."""
    for provider in (spec.get("jwt") or {}).get("providers") or ():
        yield from (claim["header"].lower() for claim in provider.get("claimToHeaders") or ())
    outside = spec.get("extAuth") or {}
    yield from (header.lower() for header in (outside.get("http") or {}).get("headersToBackend") or ())
    if header := (spec.get("apiKeyAuth") or {}).get("forwardClientIDHeader"):
        yield header.lower()
