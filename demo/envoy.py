"""Envoy in the AI Gateway's place: its bootstrap, made from what the gateway objects say.

AI Gateway does its work in an external processor; here Envoy's own filters do it, for requests that need no
translation: the model's name from the body into x-ai-eg-model, the route by that header, the usage of JSON
answers and of streams into io.envoy.ai_gateway metadata, the rate limit charged when the answer has ended.
Pure: it renders a dictionary and starts nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from demo.envoy_routes import route_to, type_url
from demo.traffic import CIRCUIT_BREAKER, MODEL_HEADER, Backend, Gateway, Route

METADATA = "io.envoy.ai_gateway"
# AI Gateway 1.1, the HTTPRouteFilter of its catch-all rule.
NO_ROUTE = (
    "No matching route found. It is likely because the model specified in your request "
    "is not configured in the Gateway."
)
EVENT_BYTES = 1024 * 1024
"""The longest SSE event whose usage is still read; Envoy's own default of 8 KiB is too short for logprobs."""

Resolve = Callable[[Backend], int]
"""Which local port plays a Backend's host: the demo's DNS, Service and kube-proxy."""


def bootstrap(
    gateway: Gateway, *, port: int, admin_port: int, ratelimit_port: int, resolve: Resolve
) -> dict[str, Any]:
    """Envoy's whole configuration; every address is loopback."""
    routes = list(enumerate(gateway.routes))
    return {
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": gateway.domain,
                    "address": _address(port),
                    "per_connection_buffer_limit_bytes": gateway.buffer_limit,
                    "filter_chains": [{"filters": [_connection_manager(gateway)]}],
                }
            ],
            "clusters": [
                *(
                    _model_cluster(_cluster_name(number), route, resolve(route.backend))
                    for number, route in routes
                ),
                _ratelimit_cluster(ratelimit_port),
            ],
        },
    }


def _connection_manager(gateway: Gateway) -> dict[str, Any]:
    routes = [route_to(route, _cluster_name(number)) for number, route in enumerate(gateway.routes)]
    not_found = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404, "body": {"inline_string": NO_ROUTE}},
    }
    host = {"name": "demo", "domains": ["*"], "routes": [*routes, not_found]}
    filters = [
        *ai_gateway_filters(gateway.costs),
        _filter("ratelimit", "http.ratelimit.v3.RateLimit", _ratelimit_filter(gateway)),
        _filter("router", "http.router.v3.Router", {"suppress_envoy_headers": True}),
    ]
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": type_url("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "demo",
            "generate_request_id": True,
            "route_config": {"name": "demo", "virtual_hosts": [host]},
            "http_filters": filters,
        },
    }


def ai_gateway_filters(costs: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """Envoy's own HTTP filters that do what AI Gateway's processor does; `costs` as in traffic.Gateway."""
    return [
        _filter("json_to_metadata", "http.json_to_metadata.v3.JsonToMetadata", _json_rules(costs)),
        _filter("sse_to_metadata", "http.sse_to_metadata.v3.SseToMetadata", _sse_rules(costs)),
        _filter("header_mutation", "http.header_mutation.v3.HeaderMutation", _header_rules()),
    ]


def _filter(name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"envoy.filters.http.{name}",
        "typed_config": {"@type": type_url(f"filters.{kind}"), **config},
    }


def _count_rules(costs: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """One rule for each of llmRequestCosts: this path of the answer into that metadata key."""
    return [
        {
            "selectors": [{"key": step} for step in path],
            "on_present": {"metadata_namespace": METADATA, "key": key, "type": "NUMBER"},
        }
        for key, path in costs.items()
    ]


def _json_rules(costs: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    model = {"selectors": [{"key": "model"}], "on_present": {"metadata_namespace": METADATA, "key": "model"}}
    # The filter's own list is the bare `application/json`; many servers and clients add a charset.
    types = {"allow_content_types_regex": {"regex": "application/json.*"}}
    rules: dict[str, Any] = {"request_rules": {"rules": [model], **types}}
    if counts := _count_rules(costs):
        rules["response_rules"] = {"rules": counts, **types}
    return rules


def _sse_rules(costs: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    parser = {
        "name": "json",
        "typed_config": {
            "@type": type_url("content_parsers.json.v3.JsonContentParser"),
            "rules": [{"rule": rule} for rule in _count_rules(costs)],
        },
    }
    return {"response_rules": {"content_parser": parser, "max_event_size": EVENT_BYTES}}


def _header_rules() -> dict[str, Any]:
    """The headers that AI Gateway's processor sets. What a client sent under these names is overwritten."""
    values = {
        MODEL_HEADER: f"%DYNAMIC_METADATA({METADATA}:model)%",
        "x-ai-eg-original-path": "%REQ(:PATH)%",
        "x-ai-eg-internal-req-id": "%STREAM_ID%",
    }
    # Removed first: a header whose value cannot be had (no model in the body) would stay as the client sent it.
    mutations: list[dict[str, Any]] = [{"remove": key} for key in values]
    mutations += [
        {"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
        for key, value in values.items()
    ]
    return {"mutations": {"request_mutations": mutations}}


def _ratelimit_filter(gateway: Gateway) -> dict[str, Any]:
    service = {"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "ratelimit"}}}
    return {
        "domain": gateway.domain,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        "timeout": "5s",
        "failure_mode_deny": True,
        "rate_limit_service": service,
    }


def _model_cluster(name: str, route: Route, port: int) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "10s",
        "load_assignment": _endpoint(name, port),
    }
    if threshold := {CIRCUIT_BREAKER[key]: value for key, value in route.circuit_breaker.items()}:
        cluster["circuit_breakers"] = {"thresholds": [threshold]}
    return cluster


def _ratelimit_cluster(port: int) -> dict[str, Any]:
    options = "upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": type_url(options), "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": "ratelimit",
        "type": "STATIC",
        "typed_extension_protocol_options": {f"envoy.extensions.{options}": http2},
        "load_assignment": _endpoint("ratelimit", port),
    }


def _cluster_name(number: int) -> str:
    return f"model-{number}"


def _endpoint(cluster: str, port: int) -> dict[str, Any]:
    return {
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
