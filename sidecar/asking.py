"""Asking the model server: at the base path that it has, and for as much usage as it gives."""

from time import monotonic
from typing import TYPE_CHECKING

from sidecar.client import ClientConnection
from sidecar.dialect import ASKED, wanted
from sidecar.forward import read_some
from sidecar.messages import Headers, RequestHead, ResponseHead, dropping, end_to_end, request_message
from sidecar.record import Record
from sidecar.request_body import Ask, RequestBody
from sidecar.upstream import UpstreamConnection

if TYPE_CHECKING:
    from sidecar.proxy import Proxy

# What is set anew on the way to the server; the key is the gateway's and ours.
_OURS = dropping(b"content-length", b"accept-encoding", b"expect")
_OURS_WITH_KEY = _OURS | {b"authorization"}
# An error's body is read up to here, to see whether another way of asking would do.
_ERROR_LIMIT = 256 * 1024


class Answer:
    """The server's answer: its head, and what of its body had to be looked at before it goes to the client."""

    __slots__ = ("ask", "head", "taken", "upstream")

    def __init__(self, upstream: UpstreamConnection, head: ResponseHead) -> None:
        self.upstream = upstream
        self.head = head
        self.ask = Ask.NOTHING
        self.taken = b""

    async def peek(self) -> bytes:
        """The body, or what its first 256 KiB are."""
        if not self.taken:
            self.taken = await read_some(self.upstream, _ERROR_LIMIT)
        return self.taken

    def close(self, proxy: "Proxy") -> None:
        """This answer is not wanted."""
        proxy.pool.release(self.upstream)


class Asking:
    """One request's way to the server; `below` is its path below the base path, or None for an alias."""

    def __init__(
        self,
        proxy: "Proxy",
        connection: ClientConnection,
        head: RequestHead,
        record: Record,
        below: bytes | None,
    ) -> None:
        self._proxy = proxy
        self._connection = connection
        self._head = head
        self._record = record
        self._below = below

    async def ask(self, body: RequestBody) -> Answer:
        """Ask the server, and again in another way where it shows that it must be asked so."""
        proxy = self._proxy
        server = proxy.settings.server
        ask = proxy.ask if body.takes_options else Ask.NOTHING
        if not body.may_fall_silent:
            ask = min(ask, Ask.RUNNING_USAGE)
        refused = False
        while True:
            raw = body.with_members(wanted(server, body, ask))
            answer = await self._ask_at_base(raw)
            answer.ask = ask
            status = answer.head.status
            if status in (400, 422) and raw is not body.raw and _names_ours(await answer.peek()):
                answer.close(proxy)
                refused, ask = True, Ask(ask - 1)
                continue
            # Remembered only where our own asking was refused: a client cannot switch metering off.
            if refused and status < 300 and not body.spans:
                proxy.learn_ask(ask)
            return answer

    async def _ask_at_base(self, raw: bytes) -> Answer:
        """Send it to the base path that the server has. While that is unknown, "no such route" leads to the next,
        and the first answer stands where none has the route."""
        proxy, head = self._proxy, self._head
        if self._below is None:
            return await self._send(head.path, raw)
        first: Answer | None = None
        for base in proxy.base_paths(head.path.removesuffix(self._below)):
            answer = await self._send(base + self._below, raw)
            if answer.head.status != 404 or not _is_missing_route(await answer.peek()):
                if first is not None:
                    first.close(proxy)
                if answer.head.status < 300:
                    proxy.learn_base_path(base)
                return answer
            if first is None:
                first = answer
            else:
                answer.close(proxy)
        assert first is not None
        return first

    async def _send(self, path: bytes, raw: bytes) -> Answer:
        head = self._head
        message = request_message(b"POST", path + head.query, self._headers(len(raw)), raw)
        if not self._record.sent:
            self._record.sent = monotonic()
        return Answer(*await self._proxy.open(message, on_interim=self._connection.answer.interim))

    def _headers(self, length: int) -> Headers:
        head = self._head
        headers = end_to_end(head.headers, _OURS_WITH_KEY if self._proxy.access.guarded else _OURS)
        headers.append((b"accept-encoding", b"identity"))
        headers.append((b"content-length", b"%d" % length))
        return headers


def _names_ours(error: bytes) -> bool:
    """Whether the server complains of a member that the sidecar may have set."""
    return any(name in error for name in ASKED)


def _is_missing_route(body: bytes) -> bool:
    """Whether a 404 says that there is no such path, and not no such model: FastAPI's and llama.cpp's words, or
    no JSON at all."""
    return b'"Not Found"' in body or b"File Not Found" in body or b'"error"' not in body
