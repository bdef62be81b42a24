"""TLS on the data port: the same proxy, whose certificate may come late and change under it."""

import contextlib
import json
import socket
import ssl
import threading
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from certs import keys
from tests.sidecar.conftest import StartSidecar
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Upstream
from tests.sidecar.wire import json_answer, usage

CA = keys.make_ca(datetime.now(UTC), subject="sidecar")
NAME = "token-meter-llama.models.svc"
REPLY = json_answer({"id": "x", "choices": [], "usage": usage(3, 4)})
CHAT = json.dumps({"model": "m", "messages": []})


def put(folder: Path) -> keys.Pair:
    """A new certificate, as a Secret's volume brings it: both files at once."""
    leaf = keys.mint_leaf(CA, [NAME], datetime.now(UTC), subject="sidecar")
    for name, content in (("tls.crt", leaf.certificate_pem), ("tls.key", leaf.key_pem)):
        (folder / f"{name}.new").write_bytes(content)
    for name in ("tls.key", "tls.crt"):
        (folder / f"{name}.new").rename(folder / name)
    return leaf


@pytest.fixture(autouse=True)
def scripted(upstream: Upstream) -> None:
    """Every request is answered alike."""
    upstream.answer(REPLY)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    put(tmp_path)
    return tmp_path


def trust(ca: keys.Pair = CA) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca.certificate_pem.decode())
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection(HTTPSConnection):
    """To this machine, under the Service's name."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(NAME, port, timeout=20, context=context)
        self._trust = context

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.sock = self._trust.wrap_socket(plain, server_hostname=NAME)

    def ask(self, method: str = "GET", path: str = "/health", body: str | None = None) -> tuple[int, bytes]:
        self.request(method, path, body, {"content-type": "application/json"})
        answer = self.getresponse()
        return answer.status, answer.read()


def asked(sidecar: Sidecar) -> int:
    """The status of a request in a connection of its own."""
    with contextlib.closing(Connection(sidecar.port, trust())) as connection:
        return connection.ask()[0]


def served(sidecar: Sidecar) -> bytes:
    """The certificate that a new connection gets."""
    connection = Connection(sidecar.port, trust())
    connection.connect()
    with connection.sock as sock:
        found: bytes = sock.getpeercert(binary_form=True) or b""
    return found


def test_requests_and_large_bodies_pass_over_one_connection(start_sidecar: StartSidecar, files: Path) -> None:
    sidecar = start_sidecar(tls_dir=files, base_path="/v1")
    connection = Connection(sidecar.port, trust())
    large = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 3_000_000}]})
    for body in (CHAT, large, CHAT):
        status, answer = connection.ask("POST", "/v1/chat/completions", body)
        assert (status, "usage" in json.loads(answer)) == (200, True)
    sock = connection.sock
    assert isinstance(sock, ssl.SSLSocket)
    assert sock.version() in {"TLSv1.2", "TLSv1.3"}
    assert sock.selected_alpn_protocol() == "http/1.1"
    connection.close()


def test_who_does_not_trust_the_ca_gets_nothing(start_sidecar: StartSidecar, files: Path) -> None:
    sidecar = start_sidecar(tls_dir=files)
    other = trust(keys.make_ca(datetime.now(UTC)))
    plain = socket.create_connection(("127.0.0.1", sidecar.port), timeout=20)
    with plain, pytest.raises(ssl.SSLCertVerificationError):
        other.wrap_socket(plain, server_hostname=NAME)


@pytest.mark.parametrize(
    "sent", [b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 300]
)
def test_plain_http_and_garbage_end_their_connection_alone(
    sent: bytes, start_sidecar: StartSidecar, files: Path
) -> None:
    sidecar = start_sidecar(tls_dir=files, base_path="/v1")
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=20) as sock:
        sock.sendall(sent)
        answer = b""
        try:
            while data := sock.recv(4096):
                answer += data
        except ConnectionError:
            pass
        assert b"HTTP/1.1" not in answer
    assert asked(sidecar) == 200


def test_a_certificate_that_comes_late_is_waited_for(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    """It is not ready, and says why; it need not start again."""
    sidecar = start_sidecar(wait=False, tls_dir=tmp_path, base_path="/v1")
    status, why = eventually(lambda: (found := sidecar.admin("/readyz"))[0] == 503 and found, "not ready")  # type: ignore[misc]
    assert (status, "there is no certificate" in why) == (503, True)
    assert sidecar.admin("/healthz")[0] == 200
    put(tmp_path)
    eventually(lambda: sidecar.admin("/readyz")[0] == 200, "ready")
    assert asked(sidecar) == 200


def test_a_renewal_under_load_fails_no_request_and_ends_no_connection(
    start_sidecar: StartSidecar, files: Path
) -> None:
    sidecar = start_sidecar(tls_dir=files, base_path="/v1")
    kept = Connection(sidecar.port, trust())
    assert kept.ask()[0] == 200
    failed: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                connection = Connection(sidecar.port, trust())
                status, _ = connection.ask("POST", "/v1/chat/completions", CHAT)
                connection.close()
                if status != 200:
                    failed.append(str(status))
            except OSError as error:
                failed.append(repr(error))

    workers = [threading.Thread(target=load) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(3):
            leaf = put(files)
            der = ssl.PEM_cert_to_DER_cert(leaf.certificate_pem.decode())
            eventually(lambda der=der: served(sidecar) == der, "the new certificate")  # type: ignore[misc]
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert failed == []
    assert kept.ask()[0] == 200
    kept.close()


def test_half_a_pair_leaves_the_last_good_one(start_sidecar: StartSidecar, files: Path) -> None:
    sidecar = start_sidecar(tls_dir=files, base_path="/v1")
    before = served(sidecar)
    other = keys.mint_leaf(CA, [NAME], datetime.now(UTC))
    (files / "tls.crt").write_bytes(other.certificate_pem)
    (files / "tls.key").write_bytes(b"garbage")
    seen = sidecar.admin("/readyz")[0]
    assert (seen, served(sidecar)) == (200, before)
    (files / "tls.key").write_bytes(other.key_pem)
    eventually(lambda: served(sidecar) != before, "the pair that fits")
