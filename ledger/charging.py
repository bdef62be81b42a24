"""What becomes of an event's charge: which buckets it is taken from, and for how long it may be tried. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.buckets import MODEL_HEADER, Bucket, Object, buckets

SECONDS = {
    "Second": 1,
    "Minute": 60,
    "Hour": 3600,
    "Day": 86_400,
    "Week": 7 * 86_400,
    "Month": 30 * 86_400,
    "Year": 365 * 86_400,
}
"""The rate limit service's windows (envoyproxy/ratelimit, utils.UnitToDivider), counted from 1970, UTC."""


@dataclass(frozen=True, slots=True)
class Due:
    """An event that is to be charged; `ended` in seconds since 1970, `user` empty where there was none."""

    seq: int
    namespace: str
    service: str
    gateway_model: str
    user: str
    tokens: int
    ended: float


@dataclass(frozen=True, slots=True)
class Take:
    """Buckets of one domain to take from, all in one call, before `until` (seconds since 1970)."""

    buckets: tuple[Bucket, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Miss:
    """Nothing can be charged. `reason` is one of a few words, for a metric."""

    reason: str


class Objects(Protocol):
    """The gateway's objects as they are now."""

    def limits(self, namespace: str, service: str) -> Sequence[tuple[Object, Object | None, Object | None]]:
        """Route, its Gateway and its policy, of each route of the InferenceService."""


def decide(due: Due, objects: Objects, now: float) -> Take | Miss:
    """What to do with an event now.

    Envoy charges a request when it ends, so the window is the one of that moment; a charge after it would burden
    another one. Where it is not sure which bucket the gateway counts in, none is charged.
    """
    found = [_on(due, *one) for one in objects.limits(due.namespace, due.service)]
    takes = [one for one in found if isinstance(one, Take)]
    if not takes:
        return next((one for one in found if isinstance(one, Miss)), Miss("no_route"))
    all_buckets = tuple(bucket for take in takes for bucket in take.buckets)
    if len({bucket.domain for bucket in all_buckets}) > 1:
        return Miss("two_gateways")
    until = min(take.until for take in takes)
    return Take(all_buckets, until) if now < until else Miss("window_over")


def _on(due: Due, route: Object, gateway: Object | None, policy: Object | None) -> Take | Miss:
    """The same for one route, whether or not its window is over."""
    if gateway is None:
        return Miss("no_gateway")
    if policy is None or not policy["spec"].get("rateLimit"):
        return Miss("no_limit")
    if _refused(policy):
        return Miss("policy_not_accepted")
    headers = {MODEL_HEADER: due.gateway_model}
    if due.user:
        # The event has the user and not the header's name: of two, which one it was is not known.
        names = _user_headers(policy)
        if len(names) > 1:
            return Miss("two_headers")
        headers |= dict.fromkeys(names, due.user)
    found = buckets(gateway, route, policy, headers)
    if not found:
        return Miss("no_bucket")
    return Take(found, min(_window_end(due.ended, rule["limit"]["unit"]) for rule in _rules(policy)))


def _window_end(moment: float, unit: str) -> float:
    seconds = SECONDS[unit]
    return (moment // seconds + 1) * seconds


def _rules(policy: Object) -> Sequence[Mapping[str, Any]]:
    return (policy["spec"]["rateLimit"].get("global") or {}).get("rules") or ()


def _user_headers(policy: Object) -> set[str]:
    """The headers that the limit goes by, beside the model's, in lower case."""
    return {
        header["name"].lower()
        for rule in _rules(policy)
        for selector in rule.get("clientSelectors") or ()
        for header in selector.get("headers") or ()
    } - {MODEL_HEADER}


def _refused(policy: Object) -> bool:
    """Envoy Gateway does not go by it: another policy on the same route is older, or it is not valid."""
    return any(
        condition.get("type") == "Accepted" and condition.get("status") == "False"
        for ancestor in (policy.get("status") or {}).get("ancestors") or ()
        for condition in ancestor.get("conditions") or ()
    )
