"""Counters and histograms, kept cheaply and written out in Prometheus' text format when scraped.

Names after OpenTelemetry's GenAI conventions (gen_ai.server.*, in seconds) where these have one, else
token_meter_*. No user is a label unless asked for, and no label takes more than a bounded number of values.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.record import Outcome, Record

OTHER = "_other"
_MOST_MODELS = 64
# gen_ai.server.request.duration and its siblings: the buckets of the conventions.
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_OVERHEAD = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1)


class Histogram:
    """Counts of observations by bucket, for each set of label values."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._buckets = buckets
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Count one observation."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = ([0] * (len(self._buckets) + 1), [0.0])
        found[0][bisect_left(self._buckets, value)] += 1
        found[1][0] += value

    def collect(self) -> Metric:
        """The family as Prometheus has it: cumulative buckets, and their sum."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, (counts, total) in self._series.items():
            below = 0
            buckets = []
            for bound, count in zip((*map(str, self._buckets), "+Inf"), counts, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric(labels, buckets, total[0])
        return family


class Metrics(Collector):
    """Everything that one sidecar counts."""

    def __init__(self, models: Iterable[str] = (), *, users: int = 0) -> None:
        self.in_flight = 0
        self.open_connections = 0
        self.tasks = 0
        self.ready = False
        self.lost_log_lines = 0
        self.others: list[Callable[[], Iterable[Metric]]] = []
        self._models = set(models)
        self._users: set[str] = set()
        self._most_users = users
        self._tokens: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
        self._user_tokens: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._requests: defaultdict[tuple[str, str, str, str, str], int] = defaultdict(int)
        labels = ("gen_ai_request_model", "gen_ai_operation_name")
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from request to the answer's last byte.",
            labels,
            _DURATION,
        )
        self._first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to a stream's first chunk.",
            labels,
            _FIRST_TOKEN,
        )
        self._per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time between a stream's tokens, after the first.",
            labels,
            _PER_TOKEN,
        )
        self._overhead = Histogram(
            "token_meter_overhead_seconds",
            "Time a request spent in the sidecar before it was sent on.",
            (),
            _OVERHEAD,
        )
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def count(self, record: Record) -> None:
        """Count a request that has ended."""
        model = self._bounded(record)
        endpoint, outcome = record.endpoint.value, record.outcome.value
        usage = record.usage
        if usage.total or record.outcome is Outcome.COMPLETED:
            self._tokens[model, endpoint, "input", outcome] += usage.input
            self._tokens[model, endpoint, "output", outcome] += usage.output
        self._requests[model, endpoint, record.channel.value, outcome, str(record.status)] += 1
        labels = (model, endpoint)
        self._duration.observe(labels, record.ended - record.started)
        if record.stream and record.first_token:
            self._first_token.observe(labels, record.first_token - record.started)
            if usage.output > 1:
                self._per_token.observe(labels, (record.last_token - record.first_token) / (usage.output - 1))
        if record.sent:
            self._overhead.observe((), record.overhead)
        if self._most_users and record.user is not None:
            if record.user not in self._users and len(self._users) < self._most_users:
                self._users.add(record.user)
            user = record.user if record.user in self._users else OTHER
            self._user_tokens[user, "input"] += usage.input
            self._user_tokens[user, "output"] += usage.output

    def text(self) -> bytes:
        """The exposition, text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """prometheus_client's collector protocol."""
        tokens = CounterMetricFamily(
            "token_meter_tokens", "Tokens counted.", labels=("model", "endpoint", "direction", "outcome")
        )
        for key, value in self._tokens.items():
            tokens.add_metric(key, value)
        yield tokens
        requests = CounterMetricFamily(
            "token_meter_requests",
            "Metered requests that have ended.",
            labels=("model", "endpoint", "channel", "outcome", "status"),
        )
        for request, value in self._requests.items():
            requests.add_metric(request, value)
        yield requests
        if self._most_users:
            users = CounterMetricFamily(
                "token_meter_user_tokens", "Tokens by user.", labels=("user", "direction")
            )
            for by_user, value in self._user_tokens.items():
                users.add_metric(by_user, value)
            yield users
        yield GaugeMetricFamily(
            "token_meter_requests_in_flight", "Metered requests under way.", self.in_flight
        )
        yield GaugeMetricFamily(
            "token_meter_client_connections", "Open client connections.", self.open_connections
        )
        yield GaugeMetricFamily(
            "token_meter_tasks", "Tasks of the event loop: one for each request, and a few.", self.tasks
        )
        yield GaugeMetricFamily(
            "token_meter_model_ready", "1 while the model server answers.", int(self.ready)
        )
        yield CounterMetricFamily(
            "token_meter_log_lines_lost", "Request lines that the log could not take.", self.lost_log_lines
        )
        for histogram in (self._duration, self._first_token, self._per_token, self._overhead):
            yield histogram.collect()
        for collect in self.others:
            yield from collect()

    def _bounded(self, record: Record) -> str:
        """The model's label: a client can ask for any name, so only names that were served make new values."""
        model = record.model
        if model in self._models:
            return model
        if 200 <= record.status < 300 and model and len(self._models) < _MOST_MODELS:
            self._models.add(model)
            return model
        return OTHER
