"""What the gateway objects say about traffic, in the few values that Envoy and the rate limit service need.

Pure: objects in, a `Gateway` out. Names are those that AI Gateway 1.1 and Envoy Gateway 1.9 give: the domain
`<gateway namespace>/<gateway>/<listener>`, the route `httproute/<namespace>/<name>/rule/<i>/match/<j>/*`.
What Envoy's own filters cannot play is refused by name (`UnsupportedError`), never silently left out.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]

MODEL_HEADER = "x-ai-eg-model"
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


class UnsupportedError(ValueError):
    """The objects ask for what Envoy's own filters cannot do, or name what is not there."""


@dataclass(frozen=True, slots=True)
class Header:
    """One header selector of a match or a rate limit rule. `type`: Exact, RegularExpression or Distinct."""

    name: str
    type: str = "Exact"
    value: str = ""
    invert: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """One rate limit rule: `requests` units of cost in each `unit` (Second to Year) for each bucket."""

    headers: tuple[Header, ...]
    requests: int
    unit: str
    request_cost: int = 1
    response_cost: tuple[str, str] | None = None
    """Namespace and key of the dynamic metadata with the cost, charged when the answer has ended."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a route's requests go: the host and port of the Backend, the key that the gateway presents."""

    host: str
    port: int
    prefix: str = "v1"
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One match of one rule of one AIGatewayRoute. Times in seconds, 0 for none."""

    name: str
    headers: tuple[Header, ...]
    backend: Backend
    timeout: float
    idle_timeout: float | None
    limits: tuple[Limit, ...]
    circuit_breaker: Mapping[str, int]
    retry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A Gateway's listener and all its routes. `costs`: metadata key -> path of the count in an answer."""

    domain: str
    buffer_limit: int
    costs: Mapping[str, tuple[str, ...]]
    routes: tuple[Route, ...]


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
    buffer_limit = client_policy.get("connection", {}).get("bufferLimit", DEFAULT_BUFFER)
    listener = gateway["spec"]["listeners"][0]["name"]
    return Gateway(f"{space}/{name}/{listener}", bytes_of(buffer_limit), costs, tuple(routes))


def _routes(
    item: Object, namespace: str, policy: Object, index: Mapping[tuple[str, str, str], Object]
) -> list[Route]:
    found = []
    limits = _limits(policy)
    for number, rule in enumerate(item["spec"].get("rules", [])):
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
    if ref.get("kind", "AIServiceBackend") != "AIServiceBackend":
        raise UnsupportedError(f"a backend of kind {ref['kind']}")
    space = ref.get("namespace", namespace)
    service = _get(index, "AIServiceBackend", space, ref["name"])["spec"]
    if service["schema"]["name"] != "OpenAI":
        raise UnsupportedError(f"the schema {service['schema']['name']} of AIServiceBackend {ref['name']}")
    target = _get(
        index, "Backend", service["backendRef"].get("namespace", space), service["backendRef"]["name"]
    )
    if len(endpoints := target["spec"]["endpoints"]) != 1 or "fqdn" not in endpoints[0]:
        raise UnsupportedError(f"Backend {service['backendRef']['name']}: endpoints other than one fqdn")
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


def bytes_of(quantity: str | int) -> int:
    """A Kubernetes quantity (`50Mi`, `1M`, 32768) in bytes."""
    if not (found := re.fullmatch(r"(\d+)([KMG]i?|k)?", str(quantity))):
        raise UnsupportedError(f"the quantity {quantity}")
    unit = (found[2] or "").upper()
    base = 1024 if unit.endswith("I") else 1000
    return int(found[1]) * int(base ** " KMG".index(unit[:1] or " "))


def seconds(duration: str) -> float:
    """A Gateway API duration (`1h`, `5m30s`, `600s`, `250ms`) in seconds."""
    parts = re.findall(r"(\d+)(ms|h|m|s)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise UnsupportedError(f"the duration {duration}")
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1, "ms": 0.001}[unit] for number, unit in parts)
