"""The ledger's own Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, generate_latest


class Metrics:
    """Counters of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "token_meter_ledger_events",
            "Usage events received: stored, duplicate, or rejected.",
            ("result",),
            registry=self.registry,
        )
        self.unavailable = Counter(
            "token_meter_ledger_unavailable",
            "Batches that could not be stored when they came; their senders send them again.",
            registry=self.registry,
        )
        self.deleted = Counter(
            "token_meter_ledger_deleted_events",
            "Single events deleted at the end of their time.",
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The exposition, text format 0.0.4."""
        return generate_latest(self.registry)
