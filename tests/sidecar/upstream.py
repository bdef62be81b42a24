"""A scripted model server: a test says which bytes it sends and when, and sees the bytes that it got.

Each connection has a thread of its own and blocking sockets, so a script is read from top to bottom. Requests are
parsed by h11, which is strict: a request that it refuses makes the test fail. The readiness probe is answered by
itself and not recorded, and so is the sidecar's own question at /tokenize: by `count_tokens`, or there is no such
route. With `scripts_tokenize` it is a request like any other.
"""

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import h11

PROBE = b"/probe"
TOKENIZE = b"/tokenize"
BOUND = 10.0
"""Seconds that any wait may last before its test fails."""


class Gate(threading.Event):
    """Something that a script or a test waits for, with a bound."""

    def pass_through(self) -> None:
        """Wait until it is open."""
        if not self.wait(BOUND):
            raise TimeoutError("the gate was never opened")


@dataclass(slots=True)
class Received:
    """A request as the model server got it; header names in lower case."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    raw_head: bytes
    connection: int
    body: bytes = b""

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header."""
        return [value for given, value in self.headers if given == name]

    def header(self, name: bytes) -> bytes | None:
        """The only value of a header, or None."""
        values = self.values(name)
        assert len(values) <= 1, f"{name!r} came {len(values)} times"
        return values[0] if values else None


def send_until_blocked(connection: socket.socket, piece: bytes, limit: int) -> tuple[int, bool]:
    """Send a piece again and again: how many bytes went, and whether it was the other side that stopped it."""
    connection.setblocking(False)
    sent = 0
    try:
        while sent < limit:
            view = memoryview(piece)
            while view:
                if not select.select([], [connection], [], 1.0)[1]:
                    return sent, True
                with contextlib.suppress(BlockingIOError):
                    count = connection.send(view)
                    sent += count
                    view = view[count:]
        return sent, False
    finally:
        connection.setblocking(True)


class Peer:
    """The model server's side of one connection."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self._socket = connection
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = h11.Connection(h11.SERVER)
        self._rest = b""
        self.number = number
        self.sent = 0

    def read_head(self) -> Received | None:
        """The next request's head, or None where the connection ends before it."""
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        raw = self._rest
        if raw:
            self._parser.receive_data(raw)
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                data = self._receive()
                if not data:
                    return None
                raw += data
                self._parser.receive_data(data)
                continue
            assert isinstance(event, h11.Request), event
            head = raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            return Received(event.method, event.target, list(event.headers), head, self.number)

    def body_pieces(self) -> Iterator[bytes]:
        """The request's body as it comes."""
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                data = self._receive()
                self._parser.receive_data(data)
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._rest = self._parser.trailing_data[0]
                return
            else:
                raise AssertionError(event)

    def receive_raw(self, size: int) -> bytes:
        """That many bytes after a switch of protocols, or fewer where the other side ends."""
        data, self._rest = self._rest + self._parser.trailing_data[0], b""
        while len(data) < size and (more := self._receive()):
            data += more
        return data

    def send(self, *pieces: bytes) -> None:
        """Send bytes as they are, each piece by its own system call."""
        for piece in pieces:
            self._socket.sendall(piece)
            self.sent += len(piece)

    def send_until_blocked(self, piece: bytes, limit: int) -> bool:
        """Send a piece again and again; True where the other side stops taking them, False after `limit` bytes."""
        sent, blocked = send_until_blocked(self._socket, piece, limit)
        self.sent += sent
        return blocked

    def wait_closed(self) -> bool:
        """Whether the other side closes the connection (before the bound)."""
        self._socket.settimeout(BOUND)
        try:
            while self._socket.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Close in good order."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def finish_sending(self) -> None:
        """Send the end of the stream and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self) -> bytes:
        return self._socket.recv(65536)


Script = Callable[[Peer, Received], object]


@dataclass(repr=False)
class Upstream:
    """The server; `answer` says what it does with each request from now on."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    heads: list[Received] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    cut_uploads: int = 0
    accepted: int = 0
    ready: bool = True
    reads_body: bool = True
    count_tokens: Callable[[dict[str, Any]], int] | None = None
    scripts_tokenize: bool = False

    def __post_init__(self) -> None:
        self._listener: socket.socket | None = None
        self._open: dict[int, socket.socket] = {}
        self._scripts: list[Script] = []
        self._lock = threading.Lock()
        self.start()

    def __repr__(self) -> str:
        return f"<upstream at {self.port}, {len(self.received)} requests>"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it: a small buffer shows soon that the other side does not read.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and break every connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            connections = list(self._open.values())
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def answer(self, *scripts: bytes | Script) -> None:
        """Answer the next requests by these, one each; the last stays for all that follow."""
        self._scripts = [_sending(script) if isinstance(script, bytes) else script for script in scripts]

    def settle(self) -> None:
        """Wait until every connection that was begun, and all that came on it, has been looked at."""
        with socket.create_connection(("127.0.0.1", self.port)):
            number, end = self.accepted, time.monotonic() + BOUND
            while self.accepted == number or self._pending():
                if time.monotonic() > end:
                    raise TimeoutError("a connection was not looked at")
                time.sleep(0.01)

    def _pending(self) -> bool:
        with self._lock:
            return bool(self._open and select.select(list(self._open.values()), [], [], 0)[0])

    def reset(self) -> None:
        """Forget what a test did."""
        self.received = []
        self.heads = []
        self.failures = []
        self.cut_uploads = 0
        self.ready = True
        self.reads_body = True
        self.count_tokens = None
        self.scripts_tokenize = False
        self._scripts = []
        if self._listener is None:
            self.start()

    @property
    def only(self) -> Received:
        """The only request that came."""
        assert len(self.received) == 1, [request.target for request in self.received]
        return self.received[0]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                number = self.accepted
                self._open[number] = connection
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        peer = Peer(connection, number)
        try:
            while (request := peer.read_head()) is not None:
                if request.target == PROBE:
                    peer.send(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % (_UP if self.ready else _DOWN))
                    break
                if self._is_count(request):
                    self._tokenize(peer, b"".join(peer.body_pieces()))
                    continue
                self.heads.append(request)
                if self.reads_body:
                    request.body = b"".join(peer.body_pieces())
                self.received.append(request)
                self._next_script()(peer, request)
        except OSError:
            pass  # the other side is gone, or the script closed the connection
        except h11.RemoteProtocolError as error:
            # A client that goes while it uploads. Only unmetered uploads are sent on before they are whole.
            if "without sending complete message body" in str(error):
                self.cut_uploads += 1
            else:
                self.failures.append(error)
        except BaseException as error:  # noqa: BLE001 told to the test by the fixture
            self.failures.append(error)
        finally:
            with self._lock:
                self._open.pop(number, None)
            with contextlib.suppress(OSError):
                connection.close()

    def _is_count(self, request: Received) -> bool:
        own = request.target == TOKENIZE and request.header(b"user-agent") == b"token-meter"
        return own and not self.scripts_tokenize

    def _tokenize(self, peer: Peer, body: bytes) -> None:
        if self.count_tokens is None:
            peer.send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        answer = json.dumps({"count": self.count_tokens(json.loads(body))}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        peer.send(head % len(answer) + answer)

    def _next_script(self) -> Script:
        with self._lock:
            if not self._scripts:
                raise AssertionError("a request came that no script answers")
            return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]


_UP = b"200 OK"
_DOWN = b"503 Service Unavailable"


def _sending(data: bytes) -> Script:
    return lambda peer, _: peer.send(data)
