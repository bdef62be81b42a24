"""Every request reaches the ledger once, whatever happens to the sidecar, its disk and the ledger."""

import json
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.processes import free_ports
from sidecar import segments
from tests.ledger.process import Ledger
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import (
    CHAT,
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    answer,
    chat_chunk,
    chunk,
    event,
    json_answer,
    usage,
    usage_chunk,
)

Json = dict[str, Any]
ASK = {"model": "m"}
STREAM = {"model": "m", "stream": True}
SMALL_FILE = 4096


@pytest.fixture
def receiver() -> Iterator[Upstream]:
    """Stands in for a ledger that misbehaves, by script."""
    server = Upstream()
    yield server
    server.stop()
    assert server.failures == []


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The real one, on a port that it has after a restart too."""
    (port,) = free_ports(1)
    with Ledger(f"sqlite:///{tmp_path}/ledger.db", tmp_path, PORT=str(port)) as running:
        yield running


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def to(port: int, spool: Path | None, **more: object) -> Json:
    """Settings of a sidecar that sends to this port."""
    settings: Json = {"base_path": "/v1", "server": "vllm", **more}
    if spool is not None:
        settings["spool_dir"] = spool
    return {"ledger_url": f"http://127.0.0.1:{port}", **settings}


def ask(sidecar: Sidecar, times: int = 1) -> None:
    """That many requests, one after the other, each answered."""
    with sidecar.client() as client:
        for _ in range(times):
            client.post(CHAT, ASK)
            assert client.response().status == 200


def completed(upstream: Upstream) -> None:
    """Every request is answered with 3 + 4 tokens."""
    upstream.answer(json_answer({"usage": usage(3, 4)}))


def stored(tmp_path: Path) -> list[Json]:
    """The rows of the ledger's events."""
    with sqlite3.connect(f"file:{tmp_path}/ledger.db?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("select * from events")]


def sent(receiver: Upstream) -> list[Json]:
    """All events of all batches."""
    return [one for request in list(receiver.received) for one in json.loads(request.body)]


def on_disk(spool: Path) -> segments.Contents:
    """What the spool's files say together."""
    return segments.read(b"".join(path.read_bytes() for path in sorted(spool.glob("*.spool"))))


class HeldStream:
    """Sends chunks with running usage up to a count, and the rest when its gate is open."""

    def __init__(self, count: int) -> None:
        self.gate = Gate()
        self._count = count

    def __call__(self, peer: Peer, _: Received) -> None:
        numbers = range(1, self._count + 1)
        peer.send(STREAM_HEAD, *[chunk(event(chat_chunk("a", usage=usage(5, n)))) for n in numbers])
        self.gate.pass_through()
        peer.send(*map(chunk, [event(chat_chunk(finish="stop")), event(usage_chunk(usage(5, 900))), DONE]))
        peer.send(LAST_CHUNK)


def test_the_ledger_stores_each_request_once_and_the_spool_is_empty_then(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path
) -> None:
    completed(upstream)
    sidecar = start_sidecar(**to(ledger.port, spool))
    ask(sidecar, 40)
    eventually(lambda: ledger.total() == (40, 280), "the ledger has all")
    eventually(lambda: sidecar.total("token_meter_spool_events") == 0, "the spool is empty")
    assert sidecar.total("token_meter_events_total", result="accepted") == 40
    assert on_disk(spool).closed == {}


def test_an_event_is_written_before_the_answer_ends(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path
) -> None:
    completed(upstream)
    receiver.stop()
    sidecar = start_sidecar(**to(receiver.port, spool))
    ask(sidecar, 3)
    sidecar.stop()  # kill -9
    assert [json.loads(one)["data"]["total_tokens"] for one in on_disk(spool).closed.values()] == [7] * 3


def test_what_a_killed_sidecar_had_open_is_closed_once_at_its_last_checkpoint(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path, tmp_path: Path
) -> None:
    script = HeldStream(300)
    upstream.answer(json_answer({"usage": usage(3, 4)}), script, script, json_answer({"usage": usage(3, 4)}))
    first = start_sidecar(**to(ledger.port, spool))
    ask(first)
    clients = [first.client(), first.client()]
    for client in clients:
        client.post(CHAT, STREAM)
        client.head()

    def checkpoints() -> list[int]:
        return [json.loads(one)["data"]["output_tokens"] for one in on_disk(spool).open.values()]

    eventually(lambda: checkpoints() == [300, 300], "both streams have a checkpoint")
    first.stop()
    script.gate.set()
    second = start_sidecar(**to(ledger.port, spool))
    ask(second)
    eventually(lambda: ledger.total()[0] == 4, "the ledger has all four")
    eventually(lambda: second.total("token_meter_spool_events") == 0, "the spool is empty")
    assert second.total("token_meter_spool_recovered_events_total") == 2
    rows = [row for row in stored(tmp_path) if row["outcome"] == "meter_restarted"]
    assert [(row["input_tokens"], row["output_tokens"], bool(row["exact"])) for row in rows] == [
        (5, 300, False)
    ] * 2
    for client in clients:
        client.close()


def test_a_stream_that_outlives_its_first_segment_is_known_after_a_kill(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path
) -> None:
    script = HeldStream(3)
    upstream.answer(script, json_answer({"usage": usage(3, 4)}))
    first = start_sidecar(**to(ledger.port, spool))
    with first.client() as client:
        client.post(CHAT, STREAM)
        client.head()
        ask(first)  # its segment is sent and deleted, the stream's record with it
        eventually(lambda: first.total("token_meter_spool_events") == 0, "the other request is sent")
        assert len(on_disk(spool).open) == 1
        first.stop()
    script.gate.set()
    start_sidecar(**to(ledger.port, spool))
    eventually(lambda: ledger.total()[0] == 2, "the ledger has both")


def test_a_torn_tail_and_a_damaged_record_cost_no_other(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, ledger: Ledger, spool: Path
) -> None:
    completed(upstream)
    receiver.stop()
    sidecar = start_sidecar(**to(receiver.port, spool))
    ask(sidecar, 5)
    sidecar.stop()
    (path,) = spool.glob("*.spool")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 10
    lines[3] = lines[3].replace(b"dev.token-meter", b"dev.token_meter")  # the second request's end
    path.write_bytes(b"".join(lines)[:-7])  # and the fifth one's
    second = start_sidecar(**to(ledger.port, spool))
    eventually(lambda: ledger.total()[0] == 5, "the ledger has all five")
    assert ledger.total() == (5, 21)  # the two are closed as they were admitted
    assert second.total("token_meter_spool_lost_events_total", reason="unreadable") == 1
    assert second.total("token_meter_spool_recovered_events_total") == 2


def test_a_disk_that_takes_no_more_costs_no_event_and_is_gone_back_to(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path
) -> None:
    completed(upstream)
    ledger.stop()
    sidecar = start_sidecar(**to(ledger.port, spool))
    _, hard = resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (SMALL_FILE, hard))
    ask(sidecar, 20)
    assert sidecar.total("token_meter_spool_in_memory") == 1
    assert sidecar.total("token_meter_spool_failures_total", what="write") >= 1
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    eventually(lambda: sidecar.total("token_meter_spool_in_memory") == 0, "it writes to the disk again")
    ask(sidecar, 5)
    assert sidecar.total("token_meter_spool_events") == 25
    ledger.start()
    eventually(lambda: ledger.total() == (25, 175), "the ledger has all")
    assert sidecar.total("token_meter_spool_lost_events_total") == 0


def test_a_folder_that_cannot_be_written_to_leaves_memory(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, tmp_path: Path
) -> None:
    completed(upstream)
    (tmp_path / "file").touch()
    sidecar = start_sidecar(**to(ledger.port, tmp_path / "file" / "spool"))
    assert sidecar.total("token_meter_spool_failures_total", what="open") >= 1
    ask(sidecar, 3)
    eventually(lambda: ledger.total() == (3, 21), "the ledger has all")


def test_a_full_spool_drops_its_oldest_events_and_counts_them(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path
) -> None:
    long = {"usage": usage(3, 4)}
    upstream.answer(json_answer(long))
    receiver.stop()
    sidecar = start_sidecar(**to(receiver.port, spool, spool_max_bytes=2 * 1024 * 1024))
    asked = 0
    while not (lost := sidecar.total("token_meter_spool_lost_events_total", reason="full")):
        ask(sidecar, 100)
        asked += 100
        assert asked < 5000
    assert lost + sidecar.total("token_meter_spool_events") == asked
    assert sum(path.stat().st_size for path in spool.iterdir()) <= 2 * 1024 * 1024


def test_a_ledger_that_comes_back_gets_everything(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path
) -> None:
    completed(upstream)
    sidecar = start_sidecar(**to(ledger.port, spool))
    ask(sidecar, 3)
    eventually(lambda: ledger.total()[0] == 3, "the ledger has the first")
    ledger.kill()
    ask(sidecar, 10)
    eventually(lambda: sidecar.total("token_meter_ledger_failures_total") > 0, "it has tried")
    ledger.start()
    eventually(lambda: ledger.total() == (13, 91), "the ledger has all")


def test_a_batch_is_sent_again_after_a_503_and_after_a_cut_and_the_token_is_the_files(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path, tmp_path: Path
) -> None:
    completed(upstream)
    token = tmp_path / "token"
    token.write_text("one\n")

    def cut(peer: Peer, _: Received) -> None:
        token.write_text("two\n")
        peer.reset()

    receiver.answer(answer(status="503 Busy"), cut, answer(status="204 No Content"))
    sidecar = start_sidecar(**to(receiver.port, spool, ledger_token_file=token))
    ask(sidecar)
    eventually(lambda: sidecar.total("token_meter_events_total", result="accepted") == 1, "it is taken")
    assert len({one["id"] for one in sent(receiver)}) == 1
    assert len(receiver.received) == 3
    heads = [dict(request.headers) for request in receiver.received]
    assert [head[b"authorization"] for head in heads] == [b"Bearer one", b"Bearer one", b"Bearer two"]
    assert {head[b"content-type"] for head in heads} == {b"application/cloudevents-batch+json"}
    assert {request.target for request in receiver.received} == {b"/api/v1/events"}


def test_rejected_events_are_told_and_not_sent_again(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path
) -> None:
    completed(upstream)

    def reject(peer: Peer, request: Received) -> None:
        (only,) = json.loads(request.body)
        rejected = [{"index": 0, "id": only["id"], "error": "source: no such pod"}]
        peer.send(json_answer({"stored": 0, "duplicates": 0, "rejected": rejected}))

    receiver.answer(reject)
    sidecar = start_sidecar(**to(receiver.port, spool))
    ask(sidecar)
    eventually(lambda: sidecar.total("token_meter_events_total", result="rejected") == 1, "it is counted")
    eventually(lambda: [one for one in sidecar.lines() if one["event"] == "event_rejected"], "it is logged")
    assert sidecar.total("token_meter_spool_events") == 0
    assert len(receiver.received) == 1


def test_a_server_that_refuses_whole_batches_loses_the_bad_event_alone(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path
) -> None:
    completed(upstream)
    receiver.stop()
    sidecar = start_sidecar(**to(receiver.port, spool))
    ask(sidecar, 6)
    bad = json.loads(list(on_disk(spool).closed.values())[3])["id"]
    good: list[str] = []

    def judge(peer: Peer, request: Received) -> None:
        ids = [one["id"] for one in json.loads(request.body)]
        if bad in ids:
            peer.send(json_answer({"detail": "bad"}, status="400 Bad Request"))
        else:
            good.extend(ids)
            peer.send(answer(status="204 No Content"))

    receiver.answer(judge)
    receiver.start()
    eventually(lambda: sidecar.total("token_meter_events_total", result="rejected") == 1, "one is refused")
    eventually(lambda: sidecar.total("token_meter_events_total", result="accepted") == 5, "five are taken")
    assert len(set(good)) == len(good) == 5


def test_a_400_that_is_not_about_the_events_loses_none(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path
) -> None:
    completed(upstream)
    receiver.answer(
        answer(b"this port speaks TLS", status="400 Bad Request"), answer(status="204 No Content")
    )
    sidecar = start_sidecar(**to(receiver.port, spool))
    ask(sidecar)
    eventually(lambda: sidecar.total("token_meter_events_total", result="accepted") == 1, "it is taken")


def test_a_slow_ledger_holds_up_no_request(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path
) -> None:
    completed(upstream)
    gate = Gate()

    def wait(peer: Peer, _: Received) -> None:
        gate.pass_through()
        peer.send(answer(status="204 No Content"))

    receiver.answer(wait)
    sidecar = start_sidecar(**to(receiver.port, spool))
    ask(sidecar)
    eventually(lambda: receiver.received, "a batch is on its way")
    ask(sidecar, 20)
    gate.set()
    eventually(lambda: sidecar.total("token_meter_events_total", result="accepted") == 21, "all are taken")


@pytest.mark.parametrize("on_disk_too", [True, False], ids=["spool", "memory"])
def test_sigterm_sends_what_is_left(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path, on_disk_too: bool
) -> None:
    completed(upstream)
    sidecar = start_sidecar(**to(ledger.port, spool if on_disk_too else None))
    ask(sidecar, 3)
    sidecar.terminate()
    assert sidecar.wait() == 0
    assert ledger.total() == (3, 21)
    assert sidecar.lines()[-2]["unsent"] == 0
    assert not on_disk_too or list(spool.iterdir()) == []


def test_sigterm_with_the_ledger_away_keeps_the_spool_for_the_next_start(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, ledger: Ledger, spool: Path
) -> None:
    completed(upstream)
    receiver.stop()
    sidecar = start_sidecar(**to(receiver.port, spool, drain_seconds=1))
    ask(sidecar, 3)
    sidecar.terminate()
    assert sidecar.wait() == 0
    assert sidecar.lines()[-2]["unsent"] == 3
    start_sidecar(**to(ledger.port, spool))
    eventually(lambda: ledger.total() == (3, 21), "the next start sends them")


def test_events_keep_the_pod_that_made_them(
    start_sidecar: StartSidecar, upstream: Upstream, receiver: Upstream, spool: Path
) -> None:
    completed(upstream)
    receiver.stop()
    first = start_sidecar(**to(receiver.port, spool, pod_name="llama-predictor-a"))
    ask(first)
    first.stop()
    receiver.answer(answer(status="204 No Content"))
    receiver.start()
    second = start_sidecar(**to(receiver.port, spool, pod_name="llama-predictor-b"))
    ask(second)
    eventually(lambda: second.total("token_meter_spool_events") == 0, "the spool is empty")
    assert sorted({one["source"].rpartition("/")[2] for one in sent(receiver)}) == [
        "llama-predictor-a",
        "llama-predictor-b",
    ]
