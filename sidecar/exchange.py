"""One metered request, from its admission to its last byte."""

import asyncio
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.abandoned import count_abandoned
from sidecar.asking import Answer, Asking
from sidecar.client import ClientConnection
from sidecar.delivery import deliver
from sidecar.endpoints import AUDIO, Endpoint
from sidecar.errors import Refusal
from sidecar.incoming import Request
from sidecar.json_scan import ScanError, Scanner
from sidecar.lost import UpstreamLost, UpstreamTimeout, lost_outcome, no_answer
from sidecar.record import Outcome, Record
from sidecar.request_body import PARSE_LIMIT, RequestBody, not_json, read_request, read_scanned, unread

if TYPE_CHECKING:
    from sidecar.proxy import Proxy


# A prompt that the sidecar will have to count itself is kept up to here.
_COUNTED_PROMPT = 1024 * 1024


async def serve(
    proxy: "Proxy", connection: ClientConnection, request: Request, endpoint: Endpoint, below: bytes | None
) -> None:
    """Serve a metered request; it is counted and logged however it ends."""
    record = proxy.begin(request, endpoint)
    try:
        await Exchange(proxy, connection, request, record, below).run()
    except Refusal as refusal:
        record.status = refusal.status
        if record.outcome is Outcome.COMPLETED:
            record.outcome = Outcome.REJECTED
        proxy.conclude(record)
        raise
    except asyncio.CancelledError:
        record.outcome = Outcome.CLIENT_DISCONNECT
        raise
    except BaseException:
        record.outcome = Outcome.UPSTREAM_ERROR
        raise
    finally:
        if not record.handed_over:
            proxy.conclude(record)


class Exchange:
    """The steps of one request; each may end it."""

    def __init__(
        self,
        proxy: "Proxy",
        connection: ClientConnection,
        request: Request,
        record: Record,
        below: bytes | None,
    ) -> None:
        self._proxy = proxy
        self._connection = connection
        self._request = request
        self._record = record
        self._below = below
        self._held_bytes = 0

    async def run(self) -> None:
        """Admit, read, ask, deliver."""
        proxy, record, head = self._proxy, self._record, self._request.head
        caller = proxy.access.admit(head, monotonic())
        record.channel, record.user, record.gateway_model = caller.channel, caller.user, caller.gateway_model
        if head.get(b"content-encoding") not in (None, b"identity"):
            raise Refusal(
                415,
                "invalid_request_error",
                "A metered request's body must not be compressed; send it as it is.",
            )
        try:
            body = await self._body()
            arrived = monotonic()
            proxy.admit(record)
            answer = await self._ask(body)
        except (UpstreamLost, UpstreamTimeout) as error:
            record.outcome = lost_outcome(error)
            raise no_answer(error) from None
        finally:
            self._forget()
        if len(body.raw) > (_COUNTED_PROMPT if proxy.silent else PARSE_LIMIT):
            body = replace(body, raw=b"")  # a long stream does not hold a long prompt
        record.overhead = max(record.sent - arrived, 0.0)
        try:
            await deliver(proxy, self._connection, record, answer, body)
        finally:
            answer.close(proxy)

    async def _ask(self, body: RequestBody) -> Answer:
        """The server's answer. Where the client goes before it comes, what the server did for it is counted."""
        proxy, record = self._proxy, self._record
        asking = Asking(proxy, self._connection, self._request.head, record, self._below)
        try:
            if proxy.finisher is None or body.stream:
                return await asking.ask(body)
            return await proxy.finisher.ask(record, body, proxy.loop.create_task(asking.ask(body)))
        except asyncio.CancelledError:
            if record.sent and not record.handed_over:
                await count_abandoned(proxy, record, body)
            raise

    async def _body(self) -> RequestBody:
        """The request's body, read to its end. A large one is scanned as it comes in, a piece at a time."""
        request, settings, endpoint = self._request, self._proxy.settings, self._record.endpoint
        if (request.length or 0) > settings.max_body_bytes:
            raise _too_large(settings.max_body_bytes)
        scanner = Scanner() if endpoint not in AUDIO else None
        pieces: list[bytes] = []
        scanned = 0
        try:
            while not request.complete or request.chunks:
                piece = await request.next_chunk(settings.body_timeout)
                self._hold(len(piece))
                pieces.append(piece)
                if scanner is not None and self._held_bytes > PARSE_LIMIT:
                    for waiting in pieces[scanned:]:
                        scanner.feed(waiting)
                    scanned = len(pieces)
        except ScanError as error:
            raise not_json(str(error)) from None
        raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if scanner is None:
            return unread(raw)
        body = read_scanned(raw, scanner, endpoint) if scanned else read_request(raw, endpoint)
        self._record.model, self._record.stream = body.model, body.stream
        return body

    def _hold(self, size: int) -> None:
        """Count a piece of the body in; one body has its limit, and all that wait in memory share another."""
        settings = self._proxy.settings
        self._proxy.buffered += size
        self._held_bytes += size
        if self._held_bytes > settings.max_body_bytes:
            raise _too_large(settings.max_body_bytes)
        if self._proxy.buffered > settings.max_buffered_bytes:
            raise Refusal(
                503,
                "service_unavailable",
                "Too many large requests at once; try again.",
                code="overloaded",
                retry_after=1,
            )

    def _forget(self) -> None:
        self._proxy.buffered -= self._held_bytes
        self._held_bytes = 0


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        "invalid_request_error",
        f"The request's body is larger than {limit} bytes, the limit of TOKEN_METER_MAX_BODY_BYTES.",
        code="request_too_large",
    )
