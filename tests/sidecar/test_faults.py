"""What goes wrong around a sidecar: descriptors, names, disks, clocks, and a model server that does the unexpected."""

import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.endpoints import Endpoint
from sidecar.event import Source, closed_event
from sidecar.record import Record
from tests.ledger.process import Ledger
from tests.sidecar.client import Broken, Client
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.test_spool import ask, completed, ledger, spool, to
from tests.sidecar.upstream import Gate, Peer, Received, Script, Upstream
from tests.sidecar.wire import CHAT, DONE, LAST_CHUNK, STREAM_HEAD, chunk, json_answer

__all__ = ["ledger", "spool"]  # fixtures
BODY = {"model": "m", "messages": []}


def held(gate: Gate) -> Script:
    """A stream that goes on when its gate is open."""

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(b"data: 1\n\n"))
        gate.pass_through()
        peer.send(chunk(DONE), LAST_CHUNK)

    return script


# -- descriptors


@pytest.mark.parametrize("left", [0, 1])
def test_at_the_limit_of_descriptors_new_requests_are_refused_and_old_streams_live(
    start_sidecar: StartSidecar, upstream: Upstream, left: int
) -> None:
    """With one descriptor left a client is accepted, and there is none for its way to the model."""
    gate = Gate()
    upstream.answer(held(gate), json_answer({"n": 1}))
    sidecar = start_sidecar(base_path="/v1")
    with sidecar.client() as old:
        old.post(CHAT, {**BODY, "stream": True})
        old.head()
        assert old.body_until(b"\n\n") == b"data: 1\n\n"
        limits = resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE)
        open_now = len(list(Path(f"/proc/{sidecar.process.pid}/fd").iterdir()))
        resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, (open_now + left, limits[1]))
        assert {_status(sidecar) for _ in range(5)} <= {503, "refused"}
        gate.set()
        assert old.rest() == b"data: 1\n\ndata: [DONE]\n\n"
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_NOFILE, limits)
    assert _status(sidecar) == 200
    sidecar.terminate()
    assert sidecar.wait() == 0
    assert sidecar.errors() == ""


def _status(sidecar: Sidecar) -> int | str:
    try:
        with sidecar.client() as client:
            client.post(CHAT, BODY)
            return client.response().status
    except (Broken, ConnectionError):
        return "refused"


# -- names


def test_503_while_the_model_server_s_name_is_not_known(
    start_sidecar: StartSidecar, upstream: Upstream
) -> None:
    lost = start_sidecar(base_path="/v1", upstream="http://model.invalid:8080", wait=False)
    eventually(lost.listens, "it listens")
    for _ in range(2):
        with lost.client() as client:
            client.post(CHAT, BODY)
            response = client.response()
        assert (response.status, response.error["code"]) == (503, "model_not_ready")
    assert lost.admin("/readyz")[0] == 503


def test_a_ledger_whose_name_is_not_known_costs_no_event(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, spool: Path
) -> None:
    completed(upstream)
    lost = start_sidecar(**{**to(1, spool), "ledger_url": "http://ledger.invalid:8080"})
    ask(lost, 3)
    assert lost.total("token_meter_spool_events") == 3
    lost.process.kill()
    lost.process.wait()
    start_sidecar(**to(ledger.port, spool))
    eventually(lambda: ledger.total() == (3, 21), "the ledger has all")


# -- disks and clocks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("only root can mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_file_system_costs_no_event_and_is_written_to_once_it_can_be(
    start_sidecar: StartSidecar, upstream: Upstream, ledger: Ledger, disk: Path
) -> None:
    completed(upstream)
    ledger.stop()
    remount(disk, "ro")
    sidecar = start_sidecar(**to(ledger.port, disk / "spool"))
    ask(sidecar, 3)
    assert sidecar.total("token_meter_spool_in_memory") == 1
    remount(disk, "rw")
    eventually(lambda: sidecar.total("token_meter_spool_in_memory") == 0, "it writes to the disk")
    ask(sidecar, 2)
    assert list((disk / "spool").iterdir())
    ledger.start()
    eventually(lambda: ledger.total() == (5, 35), "the ledger has all")
    assert sidecar.total("token_meter_spool_lost_events_total") == 0


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


def test_a_clock_that_jumps_makes_no_event_that_the_ledger_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durations are the event loop's; the clock tells only when a request came, within what a date can be."""
    for now in (-1e12, 0.0, 4e9, 1e18):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        record = Record(endpoint=Endpoint.CHAT_COMPLETIONS, started=time.monotonic(), request_id="r")
        record.ended = record.started + 1
        event = closed_event(record, Source.of("n", "s", "p"))
        assert event["data"]["duration_ms"] == 1000


# -- a model server that does the unexpected


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_a_server_that_half_closes_after_its_answer_has_answered(
    client: Client, upstream: Upstream, target: str
) -> None:
    def script(peer: Peer, _: Received) -> None:
        peer.send(json_answer({"n": 1}))
        peer.finish_sending()

    upstream.answer(script)
    for _ in range(3):
        client.post(target, BODY)
        assert client.response().json == {"n": 1}


@pytest.mark.parametrize("target", [CHAT, "/other"])
def test_a_server_that_half_closes_within_its_answer_is_not_taken_for_done(
    client: Client, upstream: Upstream, target: str
) -> None:
    def script(peer: Peer, _: Received) -> None:
        peer.send(json_answer({"n": 1})[:-3])
        peer.finish_sending()
        peer.wait_closed()

    upstream.answer(script)
    client.post(target, BODY)
    with pytest.raises(Broken):
        client.response()


def test_an_answer_that_comes_byte_by_byte_with_its_head_is_whole(client: Client, upstream: Upstream) -> None:
    whole = STREAM_HEAD + chunk(b"data: 1\n\n") + chunk(DONE) + LAST_CHUNK

    def script(peer: Peer, _: Received) -> None:
        peer.send(*(whole[at : at + 1] for at in range(len(whole))))

    upstream.answer(script)
    client.post(CHAT, {**BODY, "stream": True})
    assert client.response().body == b"data: 1\n\ndata: [DONE]\n\n"


def test_100_mib_in_one_event_pass_in_bounded_memory(
    sidecar: Sidecar, client: Client, upstream: Upstream
) -> None:
    piece, pieces = chunk(b"x" * 65536), 1600

    def script(peer: Peer, _: Received) -> None:
        peer.send(STREAM_HEAD, chunk(b"data: "), *[piece] * pieces, chunk(b"\n\n"), LAST_CHUNK)

    upstream.answer(script)
    before = sidecar.resident_bytes()
    client.post("/v1/responses", {**BODY, "stream": True})
    client.head()
    received = 0
    while data := client.receive_some(1 << 20):
        received += len(data)
        if data.endswith(LAST_CHUNK):
            break
    assert received > 65536 * (pieces - 2)  # the rest came with the head
    assert sidecar.resident_bytes() - before < 48 * 1024 * 1024
