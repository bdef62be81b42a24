"""The four counts of tokens, each from the one who counted: model server, sidecar, rate limit service, ledger."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

import valkey
from prometheus_client.parser import text_string_to_metric_families

from demo.ratelimit import charged

MODEL_COUNTERS = (
    "llamacpp:prompt_tokens_total",
    "llamacpp:prompt_tokens_cached_total",
    "llamacpp:tokens_predicted_total",
)
MODEL_BUSY = "llamacpp:requests_processing"
LEDGER_CHARGES = "token_meter_ledger_charges_total"
SIDECAR_COUNTER = "token_meter_tokens_total"


def model_tokens(exposition: str) -> int:
    """All tokens that llama.cpp has read and written, by its own counters."""
    return int(sum(value for name, _, value in _samples(exposition) if name in MODEL_COUNTERS))


def sidecar_tokens(exposition: str) -> int:
    """All input and output tokens in the sidecar's metrics."""
    return int(
        sum(
            value
            for name, labels, value in _samples(exposition)
            if name == SIDECAR_COUNTER and labels.get("direction") in {"input", "output"}
        )
    )


def gateway_tokens(port: int, domain: str) -> int:
    """All tokens that the rate limit service has charged: the sum of its buckets in valkey."""
    with valkey.Valkey(port=port, decode_responses=True) as client:
        keys = [str(key) for key in client.scan_iter()]
        values = client.mget(keys) if keys else []
    return charged(
        {key: int(value) for key, value in zip(keys, values, strict=True) if value is not None}, domain
    )


def model_is_idle(exposition: str) -> bool:
    """Whether llama.cpp has no request: only then its counters have all tokens."""
    return not any(value for name, _, value in _samples(exposition) if name == MODEL_BUSY)


def ledger_tokens(port: int) -> int:
    """All tokens that the ledger has recorded."""
    return int(usage(port)["total"]["total_tokens"])


def charged_events(exposition: str) -> dict[str, int]:
    """What became of the events that the gateway had not charged: how many are charged, missed, uncertain."""
    return {
        labels["result"]: int(value) for name, labels, value in _samples(exposition) if name == LEDGER_CHARGES
    }


def usage(port: int, **query: str) -> Any:
    """The ledger's answer to a query of the last day."""
    url = f"http://127.0.0.1:{port}/api/v1/usage?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def scrape(port: int) -> str:
    """The Prometheus page of a local port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _samples(exposition: str) -> Iterable[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
