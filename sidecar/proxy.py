"""Where a request goes, and what all requests share: the pool, the settings, and what has been learnt of the server."""

import asyncio
import uuid
from dataclasses import dataclass
from time import monotonic

from sidecar import exchange, model_list, own_request, relay
from sidecar.abandoned import Finisher
from sidecar.access import Access
from sidecar.client import ClientConnection
from sidecar.dialect import best_ask
from sidecar.endpoints import BASE_PATHS, Endpoint, is_model_list, route
from sidecar.errors import Refusal
from sidecar.fallback import Fallback
from sidecar.incoming import Request
from sidecar.log import Log
from sidecar.lost import UpstreamLost, UpstreamTimeout
from sidecar.messages import ResponseHead
from sidecar.metrics import Metrics
from sidecar.pool import Pool
from sidecar.rates import Rates
from sidecar.record import Record
from sidecar.request_body import Ask
from sidecar.settings import Settings
from sidecar.spool import Spool
from sidecar.tokens.counter import TokenCounter
from sidecar.tokens.helper import Helper
from sidecar.upstream import Interim, UpstreamConnection

# A connection lost this soon after a request was sent on it, unanswered, was closing already.
_CLOSING_WINDOW = 1.0
# What was learnt of a server is tried again after this: it may have been replaced.
_RELEARN_SECONDS = 600.0


@dataclass(slots=True)
class Learnt:
    """What the model server's own answers have told."""

    base_path: bytes | None = None
    ask: Ask = Ask.EVERY_STEP
    ask_until: float = 0.0


class Proxy:
    """One model server's front; `handle` is the connections' handler."""

    def __init__(
        self, settings: Settings, pool: Pool, metrics: Metrics, log: Log, spool: Spool | None = None
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.metrics = metrics
        self.log = log
        self.spool = spool
        self.access = Access(settings.api_key_file, settings.user_header, settings.gateway)
        self.loop = asyncio.get_running_loop()
        helper = Helper(settings.model_dir, settings.models)
        self.counter = TokenCounter(
            server=settings.server,
            post=self._post,
            helper=helper,
            tell=lambda why: log.line("tokenizer_failed", {"level": "warning", "error": why}),
        )
        self.fallback = Fallback(self.counter)
        self.rates = Rates()
        self.finisher = (
            Finisher(self, settings.finish_abandoned, settings.finish_abandoned_seconds)
            if settings.finish_abandoned
            else None
        )
        self.buffered = 0
        # The server's last answer had no usage: the sidecar counts, and keeps what it needs for it.
        self.silent = False
        self._best_ask = best_ask(settings.server)
        base = settings.base_path
        self._learnt = Learnt(base_path=base.encode() if base is not None else None)

    async def handle(self, connection: ClientConnection, request: Request) -> None:
        """Serve one request of a client."""
        head = request.head
        try:
            if head.upgrades_to_websocket:
                await relay.tunnel(self, connection, request)
                return
            if head.method == b"POST":
                where = route(head.path)
                if where.endpoint is not None:
                    await exchange.serve(self, connection, request, where.endpoint, where.below_base)
                    return
            elif head.method == b"GET" and is_model_list(head.path):
                await model_list.serve(self, connection, request)
                return
            await relay.serve(self, connection, request)
        except (Refusal, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 the last line of defence: the connection's user gets an answer
            self.log.failure("request_failed", error)
            self.give_up(
                connection, Refusal(500, "internal_error", "The token-meter sidecar failed; see its log.")
            )

    def give_up(self, connection: ClientConnection, refusal: Refusal) -> None:
        """Answer with an error where that is still possible, else break the connection."""
        if connection.answer.answered:
            connection.answer.abort()
        else:
            connection.answer.refuse(refusal)

    async def open(
        self,
        message: bytes,
        *,
        head_only: bool = False,
        upgrades: bool = False,
        on_interim: Interim | None = None,
    ) -> tuple[UpstreamConnection, ResponseHead]:
        """Send a whole request and wait for the head of its answer; the connection is the caller's to release.

        A kept connection that the server was closing as we used it is replaced, unseen.
        """
        fresh = False
        while True:
            upstream = await self.pool.acquire(fresh=fresh)
            reused, sent = upstream.reused, monotonic()
            timer = self.loop.call_later(self.settings.upstream_timeout, self._expire, upstream)
            try:
                upstream.begin(message, head_only=head_only, upgrades=upgrades, on_interim=on_interim)
                return upstream, await upstream.response()
            except UpstreamLost as lost:
                self.pool.release(upstream)
                if reused and lost.untouched and monotonic() - sent < _CLOSING_WINDOW:
                    fresh = True
                    continue
                raise
            except BaseException:
                upstream.abort()
                self.pool.release(upstream)
                raise
            finally:
                timer.cancel()

    def _expire(self, upstream: UpstreamConnection) -> None:
        upstream.fail(
            UpstreamTimeout(f"the model server did not answer in {self.settings.upstream_timeout:g} s")
        )

    def close(self) -> None:
        """Close what is idle, and what counts."""
        self.pool.close()
        self.counter.close()

    async def _post(self, path: bytes, body: bytes) -> tuple[int, bytes]:
        return await own_request.post(self, path, body)

    # -- what is learnt

    def base_paths(self, given: bytes) -> list[bytes]:
        """The base paths to try, best first: the known one, else the client's own and then the others."""
        known = self._learnt.base_path
        if known is not None:
            return [known]
        return [given, *(base for base in BASE_PATHS if base != given)]

    def learn_base_path(self, base: bytes) -> None:
        """The server has answered below this base path."""
        if self._learnt.base_path is None:
            self._learnt.base_path = base

    @property
    def ask(self) -> Ask:
        """How much usage to ask a stream for."""
        if self._learnt.ask_until < monotonic():
            return self._best_ask
        return min(self._learnt.ask, self._best_ask)

    def learn_ask(self, ask: Ask) -> None:
        """The server takes this much and refuses more."""
        self._learnt.ask = ask
        self._learnt.ask_until = monotonic() + _RELEARN_SECONDS

    def learn_silent(self, silent: bool) -> None:
        """Whether the server's streams come without usage."""
        self.silent = silent

    # -- accounts

    def begin(self, request: Request, endpoint: Endpoint) -> Record:
        """Open a request's record."""
        self.metrics.in_flight += 1
        given = request.head.get(b"x-request-id")
        request_id = given.decode("latin-1")[:128] if given else str(uuid.uuid4())
        return Record(endpoint=endpoint, started=monotonic(), request_id=request_id)

    def admit(self, record: Record) -> None:
        """The request is understood and goes to the model: from here on no kill hides it."""
        if self.spool is not None:
            self.spool.admit(record)

    def conclude(self, record: Record) -> None:
        """Close a record, once: write its event, count it and write its line. Comes before the answer's last byte."""
        if record.ended:
            return
        record.ended = monotonic()
        if self.spool is not None:
            self.spool.close(record)
        self.metrics.in_flight -= 1
        self.metrics.count(record)
        self.rates.observe(record)
        self.log.line("request", record.fields())
