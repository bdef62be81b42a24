"""HTTP/1.1 from a model server: an answer that the sidecar takes for whole is whole for h11 too, and the same."""

import asyncio
from dataclasses import dataclass

import h11

from sidecar.lost import UpstreamLost
from sidecar.messages import Headers, ResponseHead
from sidecar.upstream import UpstreamConnection
from tests.fuzz.cuts import pieces
from tests.fuzz.wire import Wire

WORDS = (
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: chunked\r\n",
    "connection: close\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "\r\n\r\n",
    "\r\n",
    ";ext",
)
_loop = asyncio.new_event_loop()


class Collect:
    """A sink for a body."""

    def __init__(self) -> None:
        self.body = b""
        self.ended = False

    def data(self, data: bytes) -> None:
        assert not self.ended, "bytes behind the end"
        self.body += data

    def end(self) -> None:
        self.ended = True

    def lost(self, error: Exception) -> None:
        self.ended = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    reusable: bool


def check(data: bytes) -> None:
    """Judge what a server sends for GET and for HEAD."""
    for method in ("GET", "HEAD"):
        whole = _ask(method, [data])
        cut = _ask(method, pieces(data))
        assert whole == cut, f"{method}: {whole} is not {cut}"
        if whole is not None:
            strict = _strict(method, data)
            assert strict is not None, f"{method}: h11 takes no {whole}"
            assert (strict.status, strict.body) == (whole.status, whole.body), f"{method}: {strict} {whole}"
            assert strict.reusable or not whole.reusable, f"{method}: h11 does not use it again"


def _ask(method: str, given: list[bytes]) -> Answer | None:
    connection = UpstreamConnection(_loop)
    wire = Wire(_loop, connection)
    heads: list[ResponseHead] = []

    def interim(status: int, reason: bytes, headers: Headers) -> None:
        assert 100 < status < 200
        _ = reason, headers

    async def response() -> None:
        try:
            heads.append(await connection.response())
            connection.attach(sink)
        except UpstreamLost:
            pass

    sink = Collect()
    connection.begin(b"", head_only=method == "HEAD", on_interim=interim)
    task = _loop.create_task(response())
    wire.settle()
    wire.feed(given)
    wire.settle()
    reusable = connection.reusable
    wire.end()
    task.cancel()
    wire.settle()
    if not heads or not connection.complete:
        return None
    return Answer(heads[0].status, sink.body, reusable)


def _strict(method: str, data: bytes) -> Answer | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "m")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data.lstrip(b"\r\n"))
    status, body, ended = 0, b"", False
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                reusable = connection.their_state is h11.DONE and connection.our_state is h11.DONE
                behind = connection.trailing_data[0].lstrip(b"\r\n")  # empty lines are nobody's
                return Answer(status, body, reusable and not behind)
            elif event is h11.NEED_DATA and not ended:
                ended = True
                connection.receive_data(b"")
            elif isinstance(event, h11.InformationalResponse):
                # Empty lines behind it are skipped, as RFC 9112 allows it before a request.
                return _strict(method, connection.trailing_data[0])
            else:
                return None
    except h11.RemoteProtocolError:
        return None
