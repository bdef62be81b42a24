"""Events over HTTP: what is stored, once, and what the sender is told."""

import gzip
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.ledger.postgres import Server
from tests.ledger.process import BATCH, Ledger, event


def test_each_event_counts_once_however_often_it_comes(ledger: Ledger) -> None:
    one, two = event(), event()
    assert ledger.send([one, one]) == {"stored": 1, "duplicates": 1, "rejected": []}
    assert ledger.send([two, one]) == {"stored": 1, "duplicates": 1, "rejected": []}
    assert ledger.total() == (2, 14)


def test_the_same_id_from_another_pod_is_another_event(ledger: Ledger) -> None:
    ledger.send([event("a"), event("a", place="team-a/llama/llama-predictor-1")])
    assert ledger.total() == (2, 14)


def test_good_events_of_a_batch_are_stored_and_bad_ones_answered_one_by_one(ledger: Ledger) -> None:
    bad = event("bad", status=-1)
    answer = ledger.send([event(), bad, "nothing", event()])
    assert answer["stored"] == 2
    first, second = answer["rejected"]
    assert (first["index"], first["id"]) == (1, "bad")
    assert "data.status" in first["error"]
    assert second["index"] == 2
    assert ledger.total() == (2, 14)


def test_a_single_event_and_a_compressed_batch_are_taken(ledger: Ledger) -> None:
    single = json.dumps(event()).encode()
    headers = {"Content-Type": "application/cloudevents+json"}
    assert ledger.request("POST", "/api/v1/events", single, headers)[0] == 200
    batch = gzip.compress(json.dumps([event()]).encode())
    headers = {"Content-Type": f"{BATCH}; charset=UTF-8", "Content-Encoding": "gzip"}
    assert ledger.request("POST", "/api/v1/events", batch, headers)[0] == 200
    assert ledger.total() == (2, 14)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", BATCH, 400, "invalid_json"),
        (b"{}", BATCH, 400, "invalid_batch"),
        (b"[]", "text/plain", 415, "unsupported_media_type"),
        (b"[" + b" " * (17 << 20) + b"]", BATCH, 413, "body_too_large"),
        (json.dumps([0] * 10_001).encode(), BATCH, 413, "batch_too_large"),
    ],
)
def test_what_is_no_batch_is_refused_with_the_reason(
    tmp_path: Path, body: bytes, content_type: str, status: int, code: str
) -> None:
    with Ledger(f"sqlite:///{tmp_path}/l.db", tmp_path) as ledger:
        got, headers, answer = ledger.request("POST", "/api/v1/events", body, {"Content-Type": content_type})
        assert (got, json.loads(answer)["code"]) == (status, code)
        assert headers["content-type"] == "application/problem+json"


def test_an_event_older_than_what_is_kept_is_refused_for_it_may_have_been_counted(ledger: Ledger) -> None:
    old = (datetime.now(UTC) - timedelta(days=91)).isoformat()
    (rejected,) = ledger.send([event(time=old)])["rejected"]
    assert "90 days" in rejected["error"]
    assert ledger.total() == (0, 0)


def test_the_text_that_a_database_cannot_hold_is_refused_alone(ledger: Ledger) -> None:
    answer = ledger.send([event(), event("nul", user="a\0b")])
    assert (answer["stored"], [one["id"] for one in answer["rejected"]]) == (1, ["nul"])


def test_many_connections_at_once_store_each_event_once(ledger: Ledger) -> None:
    events = [event() for _ in range(200)]

    def send(offset: int) -> None:
        for start in range(0, 200, 20):
            at = (start + offset * 40) % 200
            ledger.send(events[at : at + 20][:: 1 if offset % 2 else -1])

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.total() == (200, 1400)


def test_what_was_acknowledged_outlives_kill_9(ledger: Ledger) -> None:
    acknowledged: list[str] = []
    sent: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            batch = [event() for _ in range(10)]
            sent.extend(one["id"] for one in batch)
            try:
                ledger.send(batch)
            except (OSError, AssertionError):
                return
            acknowledged.extend(one["id"] for one in batch)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 200:
        time.sleep(0.01)
    ledger.kill()
    stop.set()
    for thread in threads:
        thread.join()
    ledger.start()
    again = ledger.send([event(name) for name in acknowledged])
    assert (again["stored"], again["duplicates"]) == (0, len(acknowledged))
    assert len(acknowledged) <= ledger.total()[0] <= len(sent)


def test_a_database_that_is_away_means_send_again_later(postgres_server: Server, tmp_path: Path) -> None:
    url = postgres_server.create("away")
    with Ledger(url, tmp_path) as ledger:
        first, second = event(), event()
        ledger.send([first])
        postgres_server.stop()
        try:
            status, headers, body = ledger.try_send([second])
            assert (status, json.loads(body)["code"]) == (503, "database_unavailable")
            assert int(headers["retry-after"]) > 0
            assert ledger.request("GET", "/readyz", port=ledger.admin_port)[0] == 503
        finally:
            postgres_server.start()
        assert ledger.send([first, second]) == {"stored": 1, "duplicates": 1, "rejected": []}
        assert ledger.request("GET", "/readyz", port=ledger.admin_port)[0] == 200


def test_a_ledger_waits_for_a_database_that_is_not_there_yet(postgres_server: Server, tmp_path: Path) -> None:
    url = postgres_server.create("later")
    postgres_server.stop()
    ledger = Ledger(url, tmp_path)
    try:
        ledger.start(wait=False)
        assert ledger.request("GET", "/readyz", port=ledger.admin_port)[0] == 503
        while "the database is not there yet" not in ledger.log:
            time.sleep(0.05)
    finally:
        postgres_server.start()
    while ledger.request("GET", "/readyz", port=ledger.admin_port)[0] != 200:
        time.sleep(0.05)
    ledger.stop()


def test_it_counts_what_it_takes(ledger: Ledger) -> None:
    ledger.send([event("a"), event("a"), "x"])
    metrics = ledger.request("GET", "/metrics", port=ledger.admin_port)[2].decode()
    for result in ("stored", "duplicate", "rejected"):
        assert f'token_meter_ledger_events_total{{result="{result}"}} 1.0' in metrics
