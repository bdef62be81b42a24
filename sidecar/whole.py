"""Delivering an answer that is no stream of OpenAI chunks: passed on as it is, and read on its way.

The gateway gets one thing more where the server leaves it out: the count that it charges.
"""

import asyncio
from typing import TYPE_CHECKING

from sidecar.abandoned import count_abandoned
from sidecar.access import Channel
from sidecar.answer import PARSE_LIMIT, EventReader, JsonReader, Reader
from sidecar.asking import Answer
from sidecar.choices import other_choices
from sidecar.client import ClientConnection
from sidecar.endpoints import NO_OUTPUT
from sidecar.fallback import at_least, weaker
from sidecar.forward import Transform, forward, passing, read_whole
from sidecar.lost import UpstreamLost, UpstreamTimeout, lost_outcome, no_answer
from sidecar.output_text import OutputText
from sidecar.record import CountedBy, GatewaySaw, Outcome, Record
from sidecar.request_body import RequestBody
from sidecar.settings import ServerKind
from sidecar.told import RANKS, Tail, meta_of, with_count
from sidecar.usage import NOTHING, Usage

if TYPE_CHECKING:
    from sidecar.proxy import Proxy


class WholeDelivery:
    """One answer's way to the client; `reader` reads it, where it can be read."""

    def __init__(
        self,
        proxy: "Proxy",
        connection: ClientConnection,
        record: Record,
        body: RequestBody,
        reader: Reader | None,
    ) -> None:
        self._proxy = proxy
        self._connection = connection
        self._record = record
        self._body = body
        self._reader = reader
        # A whole JSON answer that is not too long can still be given what it lacks.
        self._may_change = isinstance(reader, JsonReader) and record.channel is Channel.GATEWAY

    async def run(self, answer: Answer) -> None:
        """Deliver it whole, or as far as it goes."""
        self._record.so_far = self._so_far
        try:
            await self._deliver(answer)
        except asyncio.CancelledError:
            # The client went first: the model's work ends at once, and then what it made is counted.
            answer.upstream.abort()
            self._record.outcome = Outcome.CLIENT_DISCONNECT
            await self._count(whole=False)
            if self._record.counted_by is CountedBy.NONE and answer.head.status < 300:
                await count_abandoned(self._proxy, self._record, self._body)
            self._proxy.conclude(self._record)
            raise

    async def _deliver(self, answer: Answer) -> None:
        head, upstream, record, writer = answer.head, answer.upstream, self._record, self._connection.answer
        first = answer.taken + upstream.take()
        if self._may_change and not upstream.complete and (head.length or PARSE_LIMIT + 1) <= PARSE_LIMIT:
            try:
                first += await read_whole(upstream, self._proxy.settings.stream_idle_timeout)
            except (UpstreamLost, UpstreamTimeout) as error:
                self._lost(error)
                raise no_answer(error) from None
        if self._reader is not None and first:
            self._reader.feed(first)
        if upstream.complete:
            first = await self._complete(first)
            bodiless = head.status in (204, 304)
            length = None if bodiless else len(first)
            writer.start(head, length=length, first=first, bodiless=bodiless)
            return
        tail = Tail() if self._may_change and record.endpoint in RANKS else None
        if tail is not None:
            writer.start(head, length=None, first=tail.feed(first))
        else:
            writer.start(head, length=head.length, first=first)
        try:
            await forward(
                self._proxy.settings.stream_idle_timeout,
                self._connection,
                record,
                upstream,
                self._looking(tail),
            )
        except (UpstreamLost, UpstreamTimeout) as error:
            self._lost(error)
            await self._count(whole=False)
            self._proxy.conclude(record)
            if record.stream:
                writer.write(no_answer(error).event)
                writer.end()
                self._connection.drain()
            else:
                # A body that is cut must not pass for a whole one.
                writer.abort()
            return
        await self._complete(b"")
        if tail is not None:
            writer.write(tail.finish(self._missing_member()))
        writer.end()

    def _looking(self, tail: Tail | None) -> Transform | None:
        reader = self._reader
        if reader is None or tail is None:
            return passing(reader.feed) if reader is not None else None

        def transform(data: bytes) -> bytes:
            reader.feed(data)
            return tail.feed(data)

        return transform

    def _missing_member(self) -> bytes:
        """What the gateway reads of a ranking and a large one lacks."""
        if self._record.counted_by is CountedBy.NONE or not isinstance(self._reader, JsonReader):
            return b""
        meta = None if "meta" in self._reader.names else meta_of(None, self._record.usage)
        return b'"meta":' + meta if meta else b""

    async def _complete(self, body: bytes) -> bytes:
        """The answer is whole: counted, and with its count where the gateway would miss it."""
        record = self._record
        counted = await self._count(whole=True)
        shown = record.counted_by is CountedBy.SERVER
        if body and self._may_change and record.counted_by is not CountedBy.NONE:
            body = with_count(body, record.endpoint, record.usage, replace=counted)
            shown = True
        if shown and record.channel is Channel.GATEWAY:
            record.gateway_saw = GatewaySaw.FINAL
        self._proxy.conclude(record)
        return body

    # -- the count

    def _so_far(self) -> tuple[Usage, CountedBy]:
        reader = self._reader
        if not isinstance(reader, EventReader):
            return NOTHING, CountedBy.NONE
        said = reader.said()
        if said is None or not said.answered:
            usage = reader.so_far
            return (NOTHING, CountedBy.NONE) if usage is None else (usage, CountedBy.RUNNING)
        return self._with_prompt(reader.so_far, at_least(self._body, said)), CountedBy.ESTIMATE

    async def _count(self, *, whole: bool) -> bool:
        """Put the count into the record; True where the sidecar has counted in the server's place."""
        reader, record = self._reader, self._record
        if reader is None:
            return False
        usage = reader.finish()
        if isinstance(reader, EventReader) and reader.error:
            record.outcome = Outcome.UPSTREAM_ERROR
        said = reader.said() if isinstance(reader, EventReader) or usage is None else None
        if usage is not None and (said is None or not said.texts):
            record.usage, record.counted_by = usage, CountedBy.SERVER if whole else CountedBy.RUNNING
            if said is None:
                record.counted_by = CountedBy.SERVER
            return await self._count_others(reader, usage)
        if usage is None and record.endpoint in NO_OUTPUT and whole:
            said = OutputText()
            said.answered = isinstance(reader, JsonReader) and reader.is_object
        if said is None or not said.answered:
            if not whole and isinstance(reader, JsonReader):
                # It breaks off before its usage, and a part of a JSON object cannot be read.
                await count_abandoned(self._proxy, record, self._body)
            return False
        counted, record.counted_by = await self._proxy.fallback.request(record.endpoint, self._body, said)
        record.usage = self._with_prompt(usage, counted)
        return True

    async def _count_others(self, reader: Reader, usage: Usage) -> bool:
        """llama.cpp's usage is that of the first of several choices."""
        if self._proxy.settings.server is not ServerKind.LLAMA_CPP or not isinstance(reader, JsonReader):
            return False
        choices = reader.choices
        if choices is None or len(choices) < 2:
            return False
        record, body, fallback = self._record, self._body, self._proxy.fallback
        told, texts = other_choices(choices, usage.output, body.most_output)
        given, output, by = usage.input, usage.output + told, CountedBy.TOKENIZE
        if texts:
            more, by = await fallback.texts(texts)
            output += more
        if len(choices) > body.choices:
            given, given_by = await fallback.prompt(record.endpoint, body)
            by = weaker(by, given_by)
        record.usage = Usage(given, output, usage.cached_input, usage.reasoning)
        record.counted_by = by
        return True

    @staticmethod
    def _with_prompt(server: Usage | None, counted: Usage) -> Usage:
        """Anthropic's message_start has the server's own count of the prompt."""
        if server is None:
            return counted
        return Usage(
            server.input or counted.input,
            counted.output or server.output,
            server.cached_input,
            server.reasoning,
        )

    def _lost(self, error: UpstreamLost | UpstreamTimeout) -> None:
        self._record.outcome = lost_outcome(error)
