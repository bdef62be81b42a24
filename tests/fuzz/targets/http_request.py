"""HTTP/1.1 from a client: what the sidecar takes for a request is the same for h11, however it is cut."""

import asyncio
import re
from dataclasses import dataclass, field

import h11

from sidecar.client import ClientConnection
from sidecar.incoming import Request
from sidecar.messages import ResponseHead, request_message
from tests.fuzz.cuts import pieces
from tests.fuzz.wire import Wire

WORDS = (
    "GET / HTTP/1.1\r\nhost: m\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\nhost: m\r\n",
    "HTTP/1.0",
    "\r\n\r\n",
    "\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "connection: upgrade\r\nupgrade: h2c\r\n",
    "upgrade: websocket\r\n",
    "expect: 100-continue\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    ";ext=1",
    "trailer: x\r\n",
    ": ",
    "\t",
    "http://m/",
    "+",
    ", ",
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_loop = asyncio.new_event_loop()


@dataclass(frozen=True, slots=True)
class Limits:
    """As the settings' own."""

    max_header_bytes: int = 65536
    header_timeout: float = 3600.0


@dataclass(slots=True)
class Seen:
    """What came of a connection: whole requests as (method, target, body), and what its client was answered."""

    requests: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    answers: bytes = b""


def check(data: bytes) -> None:
    """Judge what one connection brings."""
    if b"websocket" in data.lower():
        return  # a tunnel's bytes are not looked at
    whole = _serve([data])
    cut = _serve(pieces(data))
    assert whole.requests == cut.requests, f"{whole.requests} is not {cut.requests}"
    assert whole.answers == cut.answers, f"{whole.answers!r} is not {cut.answers!r}"
    others = strict(data)
    for number, request in enumerate(whole.requests):
        assert number < len(others), f"h11 takes no {request}"
        method, target, body = others[number]
        assert (method, body) == (request[0], request[2]), f"h11 sees {others[number]}, not {request}"
        assert target.endswith(request[1]) or request[1] == b"/", target


def _serve(given: list[bytes]) -> Seen:
    seen = Seen()

    async def handler(connection: ClientConnection, request: Request) -> None:
        body = b""
        while not request.complete or request.chunks:
            body += await request.next_chunk(3600.0)
        head = request.head
        seen.requests.append((head.method, head.target, body))
        _passes(request_message(head.method, head.target, head.headers, body))
        bodiless = head.method == b"HEAD"
        connection.answer.start(
            ResponseHead(200, b"OK", [], True, 2, False),
            length=2,
            first=b"" if bodiless else b"ok",
            bodiless=bodiless,
        )

    protocol = ClientConnection(handler, Limits(), set(), _loop)
    wire = Wire(_loop, protocol)
    wire.feed(given)
    wire.settle()
    seen.answers = bytes(wire.written).replace(_CONTINUE, b"")
    wire.close()
    wire.settle()
    return seen


def _passes(message: bytes) -> None:
    """No byte of a target or header could be taken for the end of its line."""
    head = message.partition(b"\r\n\r\n")[0]
    for line in head.split(b"\r\n"):
        assert not {0, 10, 13} & set(line), line


def strict(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The whole requests that h11 sees, until it closes or refuses. A connection each: it keeps none of HTTP/1.0, and
    allows no empty line before a request and no second space in its first line (RFC 9112, sections 2.2 and 3)."""
    found: list[tuple[bytes, bytes, bytes]] = []
    while data := re.sub(rb"\A[\r\n]*(\S+) +(\S+) +", rb"\1 \2 ", data):
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data)
        try:
            request, body = connection.next_event(), b""
            if not isinstance(request, h11.Request):
                break
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            break
        if not isinstance(event, h11.EndOfMessage):
            break
        found.append((request.method, request.target, body))
        if connection.their_state is h11.MUST_CLOSE and request.http_version != b"1.0":
            break
        data = connection.trailing_data[0]
    return found
