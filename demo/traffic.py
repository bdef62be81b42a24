"""Traffic as the gateway objects want it, in the few values that Envoy and the rate limit service need."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODEL_HEADER = "x-ai-eg-model"
# Field of a BackendTrafficPolicy -> field of Envoy's thresholds.
CIRCUIT_BREAKER: Mapping[str, str] = {
    "maxConnections": "max_connections",
    "maxPendingRequests": "max_pending_requests",
    "maxParallelRequests": "max_requests",
    "maxParallelRetries": "max_retries",
}


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
