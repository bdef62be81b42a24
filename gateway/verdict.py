"""What AI Gateway and Envoy Gateway say of an object, read from its conditions. Pure.

AI Gateway keeps them in `status.conditions`, Envoy Gateway in those of each Gateway below `status.ancestors` (policies)
or `status.parents` (routes). A condition that names an older generation is about what the object was before.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.notices import Notice, Reason

Object = Mapping[str, Any]
JUDGED = (
    "Backend",
    "BackendTLSPolicy",
    "AIServiceBackend",
    "BackendSecurityPolicy",
    "AIGatewayRoute",
    "HTTPRoute",
    "BackendTrafficPolicy",
    "ClientTrafficPolicy",
)
"""Kinds that have such conditions."""
_AWAITED = ("AIGatewayRoute", "HTTPRoute", "BackendTrafficPolicy")
"""Kinds that have to be accepted before requests pass; of the others some releases say nothing when all is well."""
_HAS_TO_HOLD = ("Accepted", "NotAccepted", "ResolvedRefs")
"""AI Gateway says no by a type of its own, NotAccepted, whose status is False all the same."""
_MUST_NOT_HOLD = ("Overridden", "Conflicted")
_UNLIMITED = re.compile(r"enable rate ?limit", re.IGNORECASE)  # Envoy Gateway 1.9, backendtrafficpolicy.go
_REASONS = {
    "NotAllowedByListeners": Reason.NOT_ALLOWED_BY_LISTENERS,
    "RefNotPermitted": Reason.REF_NOT_PERMITTED,
    "Conflicted": Reason.POLICY_CONFLICTED,
    "Overridden": Reason.POLICY_OVERRIDDEN,
}
_OTHERWISE = {
    "AIGatewayRoute": Reason.ROUTE_NOT_ACCEPTED,
    "HTTPRoute": Reason.ROUTE_NOT_ACCEPTED,
    "BackendTrafficPolicy": Reason.POLICY_NOT_ACCEPTED,
    "ClientTrafficPolicy": Reason.POLICY_NOT_ACCEPTED,
}


class State(StrEnum):
    """Where an object stands with those who carry it out."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state and, where it is refused, why: conditions of the object's present generation."""

    state: State
    refusals: tuple[Object, ...] = ()


def verdict(obj: Object) -> Verdict:
    """What is said of the object as it now stands."""
    said = list(_conditions(obj))
    refusals = tuple(condition for condition in said if _refuses(condition))
    if refusals:
        return Verdict(State.REFUSED, refusals)
    accepted = any((one.get("type"), one.get("status")) == ("Accepted", "True") for one in said)
    return Verdict(State.ACCEPTED if accepted else State.PENDING)


def lacks_rate_limit_backend(policy: Object) -> bool:
    """Whether Envoy Gateway refuses a traffic policy because it has no rate limit backend: its route answers 500."""
    return "rateLimit" in (policy.get("spec") or {}) and any(
        condition.get("reason") == "Invalid" and _UNLIMITED.search(str(condition.get("message")))
        for condition in verdict(policy).refusals
    )


def ready(objects: Iterable[Object]) -> bool:
    """Whether requests pass: nothing is refused, every route has become an HTTPRoute and is accepted."""
    states = [(obj["kind"], _place(obj), verdict(obj).state) for obj in objects if obj["kind"] in JUDGED]
    routes = {place for kind, place, _ in states if kind == "AIGatewayRoute"}
    return (
        bool(routes)
        and routes <= {place for kind, place, _ in states if kind == "HTTPRoute"}
        and not any(state is State.REFUSED for _, _, state in states)
        and all(state is State.ACCEPTED for kind, _, state in states if kind in _AWAITED)
    )


def refusals(objects: Iterable[Object]) -> tuple[Notice, ...]:
    """What is to be said of those that are refused, each cause once."""
    notices = (
        Notice(
            _REASONS.get(condition.get("reason", ""))
            or _OTHERWISE.get(obj["kind"], Reason.BACKEND_NOT_ACCEPTED),
            f"{obj['kind']} {'/'.join(_place(obj))}: {condition.get('message') or condition.get('reason')}",
        )
        for obj in objects
        if obj["kind"] in JUDGED
        for condition in verdict(obj).refusals
    )
    return tuple(dict.fromkeys(notices))


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _conditions(obj: Object) -> Iterator[Object]:
    """Those of this generation. RouteRulesOverlap is none that counts: in the rule that answers 404 all routes do."""
    status = obj.get("status") or {}
    generation = obj["metadata"].get("generation")
    for keeper in (status, *(status.get("ancestors") or ()), *(status.get("parents") or ())):
        for condition in keeper.get("conditions") or ():
            if condition.get("observedGeneration", generation) == generation:
                yield condition


def _refuses(condition: Object) -> bool:
    kind, status = condition.get("type"), condition.get("status")
    return (kind in _HAS_TO_HOLD and status == "False") or (kind in _MUST_NOT_HOLD and status == "True")
