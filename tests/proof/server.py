"""The scripted model server: does what the scenario says of each request, and knows what it has made."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.proof.frames import Writer, event
from tests.proof.scenario import Ending, Json, Request
from tests.proof.tokens import of_chat, of_text

_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ERROR = {"error": {"message": "the engine has died", "type": "InternalServerError", "code": 500}}
_TURN = 8
"""Tokens after which the others get their turn."""


@dataclass(slots=True)
class Made:
    """What the server has made of a request, and where its script stands."""

    input: int = 0
    output: int = 0
    seen: bool = False
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    client_gone: asyncio.Event = field(default_factory=asyncio.Event)


class ModelServer:
    """One port of loopback. `settle` returns when the sidecar has read all that was sent to it."""

    def __init__(self, requests: Mapping[str, Request], settle: Callable[[], Awaitable[None]]) -> None:
        self._requests = requests
        self._settle = settle
        self.made = {name: Made() for name in requests}
        self.failures: list[str] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=16 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 a bug of the script's must fail the proof
            self.failures.append(repr(error))
        finally:
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if path == "/health":
            return await _answer(writer, {})
        body: Json = json.loads(raw)
        if path == "/tokenize":
            count = of_chat(body) if "messages" in body else of_text(body["prompt"])
            special = "messages" not in body and body.get("add_special_tokens", True)
            return await _answer(writer, {"count": count + bool(special), "max_model_len": 1, "tokens": []})
        request = self._requests[headers["x-request-id"]]
        made = self.made[request.id]
        made.seen = True
        if request.ending is Ending.REFUSED:
            return await _answer(writer, _ERROR, status=request.status)
        script = self._stream if request.stream else self._whole
        await script(request, made, Writer(request, body), reader, writer)
        return not request.closes and request.ending in (
            Ending.COMPLETE,
            Ending.SLOW,
            Ending.ERROR,
            Ending.ABORT,
        )

    async def _stream(
        self,
        request: Request,
        made: Made,
        answer: Writer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        def send(data: bytes) -> None:
            if data:
                writer.write(b"%x\r\n%b\r\n" % (len(data), data))

        if request.early_head or request.at or request.ending is Ending.ERROR:
            writer.write(_STREAM)
        for number, index in enumerate(request.order[: request.at]):
            if number == 0:
                send(answer.begin())
            frame = answer.token(index)
            made.input, made.output = answer.input, answer.output
            send(frame)
            await writer.drain()
            if number % _TURN == 0:
                await asyncio.sleep(0)
        if request.ending in (Ending.ABORT, Ending.HELD):
            if request.ending is Ending.ABORT and not request.at:
                made.input = sum(answer.prompts)  # read when its client goes, before a first word
            made.paused.set()
            await reader.read()  # until the sidecar closes
            raise ConnectionResetError
        if request.ending is Ending.CUT:
            await self._settle()
            if request.reset:
                writer.transport.abort()
            raise ConnectionResetError
        if request.ending is Ending.ERROR:
            send(event(_ERROR))
            send(b"data: [DONE]\n\n")
        else:
            for piece in answer.end():
                send(piece)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _whole(
        self,
        request: Request,
        made: Made,
        answer: Writer,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if request.ending is Ending.CUT:  # dies before it has begun
            if request.reset:
                writer.transport.abort()
            raise ConnectionResetError
        answer.make_all()
        made.output = answer.output
        made.input = answer.input if answer.made else sum(answer.prompts)
        made.paused.set()
        if request.ending is Ending.HELD:
            await reader.read()
            raise ConnectionResetError
        if request.ending is Ending.ABORT:
            await made.client_gone.wait()
        await _answer(writer, answer.whole())


async def _answer(writer: asyncio.StreamWriter, value: Json, *, status: int = 200) -> bool:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return True
