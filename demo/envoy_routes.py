"""One route of Envoy's: which requests, where to, for how long, with which key and under which limits."""

from typing import Any

from demo.ratelimit import descriptor_key
from demo.traffic import Header, Limit, Route

type_url = "type.googleapis.com/envoy.extensions.{}".format


def route_to(route: Route, cluster: str) -> dict[str, Any]:
    """Envoy's route, with its rate limits."""
    action: dict[str, Any] = {
        "cluster": cluster,
        "timeout": _duration(route.timeout),
        "host_rewrite_literal": route.backend.host,
    }
    if route.idle_timeout is not None:
        action["idle_timeout"] = _duration(route.idle_timeout)
    if route.backend.prefix != "v1":
        pattern = {"pattern": {"regex": "^/v1/"}, "substitution": f"/{route.backend.prefix}/"}
        action["regex_rewrite"] = pattern
    if route.retry:
        action["retry_policy"] = _retry(route)
    rendered: dict[str, Any] = {
        "name": route.name,
        "match": {"prefix": "/", "headers": [_header_match(header) for header in route.headers]},
        "route": action,
    }
    if route.backend.key is not None:
        header = {"key": "authorization", "value": f"Bearer {route.backend.key}"}
        rendered["request_headers_to_add"] = [
            {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    if route.limits:
        limits = [
            entry for rule, limit in enumerate(route.limits) for entry in _rate_limits(route, rule, limit)
        ]
        per_route = {"@type": type_url("filters.http.ratelimit.v3.RateLimitPerRoute"), "rate_limits": limits}
        rendered["typed_per_filter_config"] = {"envoy.filters.http.ratelimit": per_route}
    return rendered


def _rate_limits(route: Route, rule: int, limit: Limit) -> list[dict[str, Any]]:
    """The check before the request and the charge after the answer (Envoy Gateway, ratelimit.go)."""
    named = {"generic_key": {"descriptor_key": route.name, "descriptor_value": route.name}}
    actions = [
        named,
        *(_action(header, descriptor_key(rule, match)) for match, header in enumerate(limit.headers)),
    ]
    entries: list[dict[str, Any]] = [{"actions": actions, "hits_addend": {"number": limit.request_cost}}]
    if limit.response_cost:
        space, key = limit.response_cost
        cost = {"format": f"%DYNAMIC_METADATA({space}:{key})%"}
        entries.append({"actions": actions, "hits_addend": cost, "apply_on_stream_done": True})
    return entries


def _action(header: Header, key: str) -> dict[str, Any]:
    if header.type == "Distinct":
        return {"request_headers": {"header_name": header.name, "descriptor_key": key}}
    match = _header_match(Header(header.name, header.type, header.value))
    value = {
        "descriptor_key": key,
        "descriptor_value": key,
        "expect_match": not header.invert,
        "headers": [match],
    }
    return {"header_value_match": value}


def _header_match(header: Header) -> dict[str, Any]:
    exact = {"exact": header.value}
    regex = {"safe_regex": {"regex": header.value}}
    return {"name": header.name, "string_match": regex if header.type == "RegularExpression" else exact}


def _retry(route: Route) -> dict[str, Any]:
    on = route.retry.get("retryOn", {})
    policy: dict[str, Any] = {
        "num_retries": route.retry.get("numRetries", 2),
        "retry_on": ",".join(on.get("triggers", ["connect-failure"])),
    }
    if codes := on.get("httpStatusCodes"):
        policy["retriable_status_codes"] = codes
    return policy


def _duration(value: float) -> str:
    return f"{value:.3f}s"
