"""What Prometheus is told of the webhook."""

import time
from datetime import datetime
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from webhook.admission import Answer

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_BYTES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Expiring(Protocol):
    """Something with certificates that end."""

    @property
    def expiry(self) -> dict[str, datetime]:
        """When what ends."""


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "token_meter_admission_requests",
            "Admission requests by path and HTTP status.",
            ["path", "code"],
            registry=self._registry,
        )
        self._duration = Histogram(
            "token_meter_admission_duration_seconds",
            "From a request's head to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._decisions = Counter(
            "token_meter_admission_decisions",
            "Answers by outcome (injected, unchanged, skipped, denied, failed) and reason.",
            ["path", "outcome", "reason", "dry_run"],
            registry=self._registry,
        )
        self._patch = Histogram(
            "token_meter_admission_patch_bytes",
            "Size of the patches as JSON, where there is one.",
            buckets=_BYTES,
            registry=self._registry,
        )
        self._expiry = Gauge(
            "token_meter_certificate_not_after_seconds",
            "When the certificate ends, in seconds of Unix time.",
            ["certificate"],
            registry=self._registry,
        )
        self._leading = Gauge(
            "token_meter_leader", "1 on the replica that looks after the CA.", registry=self._registry
        )
        self._draining = Gauge("token_meter_draining", "1 after SIGTERM.", registry=self._registry)

    def answered(self, path: str, answer: Answer, size: int, *, dry_run: bool) -> None:
        """One decision; `size` is that of its patch."""
        labels = (path, answer.outcome.value, answer.reason, "true" if dry_run else "false")
        self._decisions.labels(*labels).inc()
        if size:
            self._patch.observe(size)

    def responded(self, path: str, code: int, began: float) -> None:
        """One HTTP answer to a request that began at `began` (time.perf_counter)."""
        self._requests.labels(path, str(code)).inc()
        self._duration.labels(path).observe(time.perf_counter() - began)

    def render(self, certificates: Expiring, *, leading: bool, draining: bool) -> bytes:
        """The text of /metrics."""
        for name, until in certificates.expiry.items():
            self._expiry.labels(name).set(until.timestamp())
        self._leading.set(leading)
        self._draining.set(draining)
        return generate_latest(self._registry)
