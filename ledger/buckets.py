"""Which of the rate limit service's buckets a request was counted in: as Envoy Gateway names them. Pure.

Envoy Gateway 1.9, internal/gatewayapi/helpers.go and internal/xds/translator/ratelimit.go: the domain is the listener,
`<gateway namespace>/<gateway>/<listener>`; the first entry is the route's match, key and value alike; then one entry
for each header of the rule's selector. tests/cluster/test_envoy_gateway.py holds it to what Envoy Gateway tells the
rate limit service.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
MODEL_HEADER = "x-ai-eg-model"
"""AI Gateway's header: the model by the name that the client sent."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What ShouldRateLimit is asked with. `entries` are (key, value), from the route inwards."""

    domain: str
    entries: tuple[tuple[str, str], ...]


def buckets(gateway: Object, route: Object, policy: Object, headers: Mapping[str, str]) -> tuple[Bucket, ...]:
    """The buckets of the policy on this (AIGateway- or HTTP) route that a request with these headers is in.

    Empty where the route has no rule for its model, where no rule of the policy fits, and where the request may have
    come by more than one listener: each has buckets of its own.
    """
    given = {name.lower(): value for name, value in headers.items()}
    listener, match = _listener(gateway), _match(route, given)
    if listener is None or match is None:
        return ()
    head = gateway["metadata"]
    domain = f"{head['namespace']}/{head['name']}/{listener['name']}"
    own = route["metadata"]
    host = str(listener.get("hostname") or "*").replace(".", "_")
    place = f"httproute/{own['namespace']}/{own['name']}/rule/{match[0]}/match/{match[1]}/{host}"
    return tuple(Bucket(domain, ((place, place), *entries)) for entries in _selected(policy, given))


def _listener(gateway: Object) -> Object | None:
    """The one that requests come by: the only one for HTTP, else the only one for HTTPS."""
    listeners = gateway["spec"].get("listeners") or ()
    spoken = [one for one in listeners if one.get("protocol") in ("HTTP", "HTTPS")]
    safe = [one for one in spoken if one["protocol"] == "HTTPS"]
    for found in (spoken, safe):
        if len(found) == 1:
            return found[0]  # type: ignore[no-any-return]
    return None


def _match(route: Object, headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Rule and match of the route that let the request through."""
    for i, rule in enumerate(route["spec"].get("rules") or ()):
        for j, match in enumerate(rule.get("matches") or ()):
            wanted = match.get("headers") or ()
            if wanted and all(_holds(header, headers) for header in wanted):
                return i, j
    return None


def _selected(policy: Object, headers: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], ...]]:
    """The entries of each rule that takes from a bucket by what the answer cost."""
    rate = policy["spec"].get("rateLimit") or {}
    rules = (rate.get("global") or {}).get("rules") or ()
    for r, rule in enumerate(rules):
        if rule.get("shared") or "response" not in (rule.get("cost") or {}):
            continue
        for selector in rule.get("clientSelectors") or ():
            wanted = selector.get("headers") or ()
            if wanted and all(_holds(header, headers) for header in wanted):
                yield tuple(_entry(r, m, header, headers) for m, header in enumerate(wanted))


def _entry(r: int, m: int, header: Object, headers: Mapping[str, str]) -> tuple[str, str]:
    key = f"rule-{r}-match-{m}"
    return key, headers[header["name"].lower()] if header.get("type") == "Distinct" else key


def _holds(header: Object, headers: Mapping[str, str]) -> bool:
    """Gateway API's and Envoy Gateway's header matches; a header that is not there fits only an inverted one."""
    value = headers.get(header["name"].lower())
    match header.get("type") or "Exact":
        case "Distinct":
            return value is not None
        case "RegularExpression":
            fits = value is not None and re.fullmatch(header["value"], value) is not None
        case _:
            fits = value == header.get("value")
    return fits is not bool(header.get("invert"))
