"""The gateway objects, read: objects in, a `Gateway` out. Pure.

Names are those that AI Gateway 1.1 and Envoy Gateway 1.9 give: the domain `<gateway namespace>/<gateway>/<listener>`,
the route `httproute/<namespace>/<name>/rule/<i>/match/<j>/*`. What Envoy's own filters cannot play is refused by
name (`UnsupportedError`), never silently left out.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from demo.traffic import CIRCUIT_BREAKER, Backend, Gateway, Header, Limit, Route
from demo.values import UnsupportedError, bytes_of, only, seconds

Object = Mapping[str, Any]

TOKEN_FIELDS: Mapping[str, tuple[str, ...]] = {
    "InputToken": ("usage", "prompt_tokens"),
    "OutputToken": ("usage", "completion_tokens"),
    "TotalToken": ("usage", "total_tokens"),
    "CachedInputToken": ("usage", "prompt_tokens_details", "cached_tokens"),
    "ReasoningToken": ("usage", "completion_tokens_details", "reasoning_tokens"),
}
# Envoy Gateway 1.9 where a ClientTrafficPolicy says nothing, and AI Gateway 1.1 where a rule says nothing.
DEFAULT_BUFFER = 32 * 1024
DEFAULT_TIMEOUT = 60.0


def read(gateway: Object, objects: Iterable[Object]) -> Gateway:
    """What the objects make of this Gateway's first listener; raises UnsupportedError."""
    index = {(item["kind"], _namespace(item), item["metadata"]["name"]): item for item in objects}
    space, name = _namespace(gateway), gateway["metadata"]["name"]
    routes: list[Route] = []
    costs: dict[str, tuple[str, ...]] = {}
    for (kind, namespace, route_name), item in index.items():
        if kind == "AIGatewayRoute" and _is_parent(item, namespace, space, name):
            for cost in item["spec"].get("llmRequestCosts", []):
                path = _cost(cost)
                if costs.setdefault(cost["metadataKey"], path) != path:
                    raise UnsupportedError(f"two routes mean different counts by {cost['metadataKey']}")
            policy = _target(index, "BackendTrafficPolicy", namespace, "HTTPRoute", route_name)
            routes += _routes(item, namespace, policy, index)
    client_policy = _target(index, "ClientTrafficPolicy", space, "Gateway", name)
    only("ClientTrafficPolicy", client_policy, "targetRefs", "connection")
    only("connection of ClientTrafficPolicy", client_policy.get("connection", {}), "bufferLimit")
    buffer_limit = client_policy.get("connection", {}).get("bufferLimit", DEFAULT_BUFFER)
    listener = gateway["spec"]["listeners"][0]["name"]
    return Gateway(f"{space}/{name}/{listener}", bytes_of(buffer_limit), costs, tuple(routes))


def _routes(
    item: Object, namespace: str, policy: Object, index: Mapping[tuple[str, str, str], Object]
) -> list[Route]:
    found = []
    only(f"AIGatewayRoute {item['metadata']['name']}", item["spec"], "parentRefs", "rules", "llmRequestCosts")
    only("BackendTrafficPolicy", policy, "targetRefs", "rateLimit", "circuitBreaker", "retry")
    only("circuitBreaker", policy.get("circuitBreaker", {}), *CIRCUIT_BREAKER)
    only("retry", policy.get("retry", {}), "numRetries", "retryOn")
    limits = _limits(policy)
    for number, rule in enumerate(item["spec"].get("rules", [])):
        only(
            "a rule of AIGatewayRoute",
            rule,
            "name",
            "matches",
            "backendRefs",
            "timeouts",
            "streamIdleTimeout",
        )
        only("timeouts", rule.get("timeouts", {}), "request")
        if len(refs := rule.get("backendRefs", [])) != 1:
            raise UnsupportedError(
                f"AIGatewayRoute {item['metadata']['name']}: rule {number} has {len(refs)} backends, not one"
            )
        backend = _backend(refs[0], namespace, index)
        timeout = rule.get("timeouts", {}).get("request")
        idle = rule.get("streamIdleTimeout")
        for position, match in enumerate(rule.get("matches", [])):
            found.append(
                Route(
                    name=f"httproute/{namespace}/{item['metadata']['name']}/rule/{number}/match/{position}/*",
                    headers=tuple(_header(header) for header in match.get("headers", [])),
                    backend=backend,
                    timeout=seconds(timeout) if timeout else DEFAULT_TIMEOUT,
                    idle_timeout=seconds(idle) if idle else None,
                    limits=limits,
                    circuit_breaker=policy.get("circuitBreaker", {}),
                    retry=policy.get("retry", {}),
                )
            )
    return found


def _backend(ref: Object, namespace: str, index: Mapping[tuple[str, str, str], Object]) -> Backend:
    if override := ref.get("modelNameOverride"):
        raise UnsupportedError(
            f"modelNameOverride ({override}): AI Gateway writes it into the request's body, Envoy's filters "
            "cannot; give the InferenceService a name that no other one serves"
        )
    only("a backendRef of AIGatewayRoute", ref, "name", "namespace", "group", "kind", "weight", "priority")
    if ref.get("kind", "AIServiceBackend") != "AIServiceBackend":
        raise UnsupportedError(f"a backend of kind {ref['kind']}")
    space = ref.get("namespace", namespace)
    service = _get(index, "AIServiceBackend", space, ref["name"])["spec"]
    only(f"AIServiceBackend {ref['name']}", service, "schema", "backendRef")
    if service["schema"]["name"] != "OpenAI":
        raise UnsupportedError(f"the schema {service['schema']['name']} of AIServiceBackend {ref['name']}")
    target = _get(
        index, "Backend", service["backendRef"].get("namespace", space), service["backendRef"]["name"]
    )
    if len(endpoints := target["spec"]["endpoints"]) != 1 or "fqdn" not in endpoints[0]:
        raise UnsupportedError(f"Backend {service['backendRef']['name']}: endpoints other than one fqdn")
    if any(kind == "BackendTLSPolicy" for kind, _, _ in index):
        raise UnsupportedError("TLS to the backend (BackendTLSPolicy)")
    fqdn = endpoints[0]["fqdn"]
    prefix = str(service["schema"].get("prefix", "v1")).strip("/")
    policy = _target(index, "BackendSecurityPolicy", space, "AIServiceBackend", ref["name"])
    return Backend(fqdn["hostname"], fqdn["port"], prefix, _key(policy, space, index) if policy else None)


def _key(policy: Object, namespace: str, index: Mapping[tuple[str, str, str], Object]) -> str:
    if policy["type"] != "APIKey":
        raise UnsupportedError(f"a BackendSecurityPolicy of type {policy['type']}")
    ref = policy["apiKey"]["secretRef"]
    secret = _get(index, "Secret", ref.get("namespace", namespace), ref["name"])
    if "apiKey" in secret.get("stringData", {}):
        return str(secret["stringData"]["apiKey"])
    if "apiKey" in secret.get("data", {}):
        return base64.b64decode(secret["data"]["apiKey"]).decode()
    raise UnsupportedError(f"Secret {ref['name']} has no apiKey")


def _limits(policy: Object) -> tuple[Limit, ...]:
    if not (rate := policy.get("rateLimit")):
        return ()
    if rate.get("type") != "Global":
        raise UnsupportedError(f"a rate limit of type {rate.get('type')}")
    return tuple(_limit(rule) for rule in rate["global"]["rules"])


def _limit(rule: Object) -> Limit:
    if rule.get("shared"):
        raise UnsupportedError("a rate limit rule with shared: true")
    selectors = rule.get("clientSelectors", [])
    if len(selectors) != 1 or set(selectors[0]) != {"headers"}:
        raise UnsupportedError("a rate limit rule with other than one selector of headers")
    cost = rule.get("cost", {})
    request, response = cost.get("request", {}), cost.get("response")
    if request.get("from", "Number") != "Number" or (response and response["from"] != "Metadata"):
        raise UnsupportedError("a request cost from metadata, or a response cost that is a number")
    return Limit(
        headers=tuple(_header(header) for header in selectors[0]["headers"]),
        requests=rule["limit"]["requests"],
        unit=rule["limit"]["unit"],
        request_cost=request.get("number", 1),
        response_cost=(response["metadata"]["namespace"], response["metadata"]["key"]) if response else None,
    )


def _header(header: Object) -> Header:
    return Header(
        header["name"], header.get("type", "Exact"), header.get("value", ""), header.get("invert", False)
    )


def _cost(cost: Object) -> tuple[str, ...]:
    if cost["type"] not in TOKEN_FIELDS:
        raise UnsupportedError(
            f"llmRequestCosts of type {cost['type']}: Envoy's own filters cannot compute it"
        )
    return TOKEN_FIELDS[cost["type"]]


def _is_parent(route: Object, namespace: str, gateway_namespace: str, gateway: str) -> bool:
    refs = route["spec"].get("parentRefs", [])
    return any((ref.get("namespace", namespace), ref["name"]) == (gateway_namespace, gateway) for ref in refs)


def _target(
    index: Mapping[tuple[str, str, str], Object], kind: str, namespace: str, target: str, name: str
) -> Mapping[str, Any]:
    """The spec of the policy of this kind on that target; empty where there is none."""
    for (own, space, _), item in index.items():
        refs = item["spec"].get("targetRefs", []) if own == kind and space == namespace else []
        if any((ref["kind"], ref["name"]) == (target, name) for ref in refs):
            return dict(item["spec"])
    return {}


def _get(index: Mapping[tuple[str, str, str], Object], kind: str, namespace: str, name: str) -> Object:
    if (found := index.get((kind, namespace, name))) is None:
        raise UnsupportedError(f"{kind} {namespace}/{name} is named by another object and is not there")
    return found


def _namespace(item: Object) -> str:
    return str(item["metadata"].get("namespace", "default"))
