"""The ledger's own Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from ledger.tables import Charge


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

        self.charges = Counter(
            "token_meter_ledger_charges",
            "Events that the gateway had not charged: charged by the ledger, missed, or uncertain (the call may have"
            " arrived and is not repeated).",
            ("result",),
            registry=self.registry,
        )
        self.charged_tokens = Counter(
            "token_meter_ledger_charged_tokens",
            "The tokens of those events.",
            ("result",),
            registry=self.registry,
        )
        self.misses = Counter(
            "token_meter_ledger_missed_charges",
            "Why events were missed.",
            ("reason",),
            registry=self.registry,
        )
        self._pending = Gauge(
            "token_meter_ledger_pending_charges", "Events that wait to be charged.", registry=self.registry
        )
        self._pending_age = Gauge(
            "token_meter_ledger_pending_charge_age_seconds",
            "How long the oldest of them has waited.",
            registry=self.registry,
        )
        for result in (Charge.CHARGED, Charge.MISSED, Charge.UNCERTAIN):
            self.charges.labels(result.value)
            self.charged_tokens.labels(result.value)

    def waiting(self, count: int, oldest: int | None, now: float) -> None:
        """What waits to be charged; `oldest` in milliseconds, `now` in seconds since 1970."""
        self._pending.set(count)
        self._pending_age.set(0 if oldest is None else max(0.0, now - oldest / 1000))

    def text(self) -> bytes:
        """The exposition, text format 0.0.4."""
        return generate_latest(self.registry)
