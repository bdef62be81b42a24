"""A raw HTTP/1.1 client: sends any bytes, and reads answers by h11, which forgives nothing."""

import json
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import h11

from tests.sidecar.upstream import BOUND, send_until_blocked


class Broken(Exception):
    """The answer was cut, or is no HTTP."""


@dataclass(slots=True)
class Response:
    """An answer; header names in lower case. `interim` holds the 1xx answers before it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    interim: list["Response"] = field(default_factory=list)
    body: bytes = b""
    raw: bytes = b""

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header."""
        return [value for given, value in self.headers if given == name]

    def header(self, name: bytes) -> bytes | None:
        """The only value of a header, or None."""
        values = self.values(name)
        assert len(values) <= 1, f"{name!r} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer in OpenAI's shape."""
        assert self.header(b"content-type") == b"application/json"
        assert set(self.json) == {"error"}
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        return error


class Client:
    """One connection to a port of this machine."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(BOUND)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = h11.Connection(h11.CLIENT)
        self._rest = b""
        self._raw = bytearray()
        self._body = bytearray()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- out

    def send(self, *pieces: bytes) -> None:
        """Send bytes as they are."""
        for piece in pieces:
            self._socket.sendall(piece)

    def request(self, method: str, target: str, *headers: str, body: bytes | None = None) -> None:
        """Send a request with a Host, these header lines, and the body with its length."""
        lines = [f"{method} {target} HTTP/1.1", "host: model", *headers]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))

    def post(self, target: str, body: object, *headers: str) -> None:
        """Send JSON (bytes as they are)."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.request("POST", target, "content-type: application/json", *headers, body=raw)

    def send_until_blocked(self, piece: bytes, limit: int) -> bool:
        """Send a piece again and again; True where the other side stops taking them, False after `limit` bytes."""
        try:
            return send_until_blocked(self._socket, piece, limit)[1]
        finally:
            self._socket.settimeout(BOUND)

    # -- in

    def head(self, method: str = "GET", *, upgrade: bool = False) -> Response:
        """The next answer's head, after any 1xx; `method` is that of its request."""
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        headers = [("host", "model")]
        if upgrade:
            headers += [("connection", "upgrade"), ("upgrade", "websocket")]
        self._parser.send(h11.Request(method=method, target="/", headers=headers))
        self._parser.send(h11.EndOfMessage())
        self._raw, self._body, self._ended = bytearray(self._rest), bytearray(), False
        if self._rest:
            self._parser.receive_data(self._rest)
            self._rest = b""
        interim: list[Response] = []
        while True:
            event = self._event()
            if isinstance(event, h11.InformationalResponse):
                found = Response(event.status_code, list(event.headers))
                if event.status_code == 101:
                    self._rest = self._parser.trailing_data[0]
                    return found
                interim.append(found)
            else:
                assert isinstance(event, h11.Response), event
                return Response(event.status_code, list(event.headers), interim)

    def body_until(self, part: bytes) -> bytes:
        """The body so far, once it contains this."""
        while part not in self._body:
            if self._ended:
                raise Broken(f"the body ended without {part!r}: {bytes(self._body)!r}")
            self._read_body()
        return bytes(self._body)

    def rest(self) -> bytes:
        """The whole body."""
        while not self._ended:
            self._read_body()
        return bytes(self._body)

    def response(self, method: str = "GET") -> Response:
        """The next answer, whole; Broken where it is cut."""
        response = self.head(method)
        response.body = self.rest()
        response.raw = bytes(self._raw[: len(self._raw) - len(self._rest)])
        return response

    def receive_raw(self, size: int) -> bytes:
        """That many bytes after a switch of protocols, or fewer where the other side ends."""
        data, self._rest = self._rest, b""
        while len(data) < size and (more := self._socket.recv(65536)):
            data += more
        return data

    def receive_some(self, size: int = 4096) -> bytes:
        """What is there, at most `size` bytes; nothing at the end."""
        return self._socket.recv(size)

    def closed(self) -> bool:
        """Whether the connection is closed, with nothing more sent on it."""
        try:
            return not self._rest and self._socket.recv(1) == b""
        except ConnectionError:
            return True

    def finish_sending(self) -> None:
        """Send the end of the stream and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in good order."""
        self._socket.close()

    def reset(self) -> None:
        """Close with RST, as a killed client does."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _read_body(self) -> None:
        event = self._event()
        if isinstance(event, h11.Data):
            self._body += event.data
        elif isinstance(event, h11.EndOfMessage):
            self._ended = True
            self._rest = self._parser.trailing_data[0]
        else:
            raise Broken(f"{event!r} in a body")

    def _event(self) -> object:
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                data = self._socket.recv(65536)
                self._raw += data
                self._parser.receive_data(data)
        except (h11.RemoteProtocolError, ConnectionError) as error:
            raise Broken(f"{error!r} after {bytes(self._raw[:1000])!r}") from error
        if isinstance(event, h11.ConnectionClosed):
            raise Broken("closed without an answer")
        return event
