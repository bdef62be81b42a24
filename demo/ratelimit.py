"""The rate limit service: its configuration from the traffic policy's rules, its process, its buckets.

Descriptors are those of Envoy Gateway 1.9: first the route's name (key and value alike), then for header m
of rule r the key `rule-<r>-match-<m>`; its value is the header's own for Distinct, else the key itself.
"""

from collections.abc import Mapping
from typing import Any

from demo.traffic import Gateway, Header, Limit


def descriptor_key(rule: int, match: int) -> str:
    """The descriptor's key for one header of one rule."""
    return f"rule-{rule}-match-{match}"


def configuration(gateway: Gateway) -> dict[str, Any]:
    """The service's configuration file as a dictionary: one domain, a tree of descriptors for each route."""
    return {
        "domain": gateway.domain,
        "descriptors": [
            {
                "key": route.name,
                "value": route.name,
                "descriptors": [_nested(limit, rule, 0) for rule, limit in enumerate(route.limits)],
            }
            for route in gateway.routes
            if route.limits
        ],
    }


def _nested(limit: Limit, rule: int, match: int) -> dict[str, Any]:
    key = descriptor_key(rule, match)
    entry: dict[str, Any] = {"key": key}
    if not _distinct(limit.headers[match]):
        entry["value"] = key
    if match + 1 < len(limit.headers):
        return {**entry, "descriptors": [_nested(limit, rule, match + 1)]}
    return {**entry, "rate_limit": {"unit": limit.unit.lower(), "requests_per_unit": limit.requests}}


def _distinct(header: Header) -> bool:
    return header.type == "Distinct"


def environment(
    folder: str, valkey_port: int, grpc_port: int, http_port: int, debug_port: int
) -> dict[str, str]:
    """The service's settings: its configuration is in `folder`/config, its buckets in valkey."""
    return {
        "RUNTIME_ROOT": folder,
        "RUNTIME_SUBDIRECTORY": ".",
        "RUNTIME_WATCH_ROOT": "false",
        "RUNTIME_IGNOREDOTFILES": "true",
        "BACKEND_TYPE": "redis",
        "REDIS_SOCKET_TYPE": "tcp",
        "REDIS_URL": f"127.0.0.1:{valkey_port}",
        "DISABLE_STATS": "true",
        "LOG_LEVEL": "warn",
        "HOST": "127.0.0.1",
        "PORT": str(http_port),
        "GRPC_HOST": "127.0.0.1",
        "GRPC_PORT": str(grpc_port),
        "DEBUG_HOST": "127.0.0.1",
        "DEBUG_PORT": str(debug_port),
    }


def charged(buckets: Mapping[str, int], domain: str) -> int:
    """The sum of all buckets of a domain. A bucket's key: `<domain>_<descriptors>_<start of its window>`."""
    return sum(value for key, value in buckets.items() if key.startswith(f"{domain}_"))
