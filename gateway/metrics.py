"""What Prometheus is told of the controller."""

from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)


class Metrics:
    """Counters of one controller, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._duration = Histogram(
            "token_meter_gateway_reconcile_seconds",
            "One InferenceService or Gateway, from its key to the end of its writes.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._errors = Counter(
            "token_meter_gateway_errors",
            "Reconciles that failed and are tried again, by reason.",
            ["reason"],
            registry=self._registry,
        )
        self._writes = Gauge(
            "token_meter_gateway_writes",
            "Requests that write gateway objects since the process began.",
            ["verb"],
            registry=self._registry,
        )
        self._services = Gauge(
            "token_meter_gateway_inferenceservices",
            "InferenceServices by how far their objects go (nothing, early, routed, ready) or unreadable.",
            ["stage"],
            registry=self._registry,
        )
        self._objects = Gauge(
            "token_meter_gateway_objects",
            "Gateway objects by kind and by what AI Gateway and Envoy Gateway say (accepted, refused, pending).",
            ["kind", "state"],
            registry=self._registry,
        )
        self._failing = Gauge(
            "token_meter_gateway_failing", "Keys whose last reconcile failed.", registry=self._registry
        )
        self._leading = Gauge(
            "token_meter_gateway_leader", "1 on the replica that writes.", registry=self._registry
        )

    def reconciled(self, seconds: float) -> None:
        """One reconcile that ended well."""
        self._duration.observe(seconds)

    def failed(self, reason: str) -> None:
        """One that did not."""
        self._errors.labels(reason).inc()

    def render(
        self,
        *,
        leading: bool,
        failing: int,
        writes: Mapping[str, int],
        services: Mapping[str, int],
        objects: Mapping[tuple[str, str], int],
    ) -> bytes:
        """The text of /metrics."""
        self._leading.set(leading)
        self._failing.set(failing)
        for verb, count in writes.items():
            self._writes.labels(verb).set(count)
        self._services.clear()
        for stage, count in services.items():
            self._services.labels(stage).set(count)
        self._objects.clear()
        for (kind, state), count in objects.items():
            self._objects.labels(kind, state).set(count)
        return generate_latest(self._registry)
