"""A model server that costs nothing: fixed answers, streams paced by a clock; and a ledger that takes everything.
`python -m benchmarks.mock_server PORT`.

A stream's request says how it is to be answered: `{"stream": true, "chunks": 200, "interval": 0.02}`; with `"stop": 7`
it goes no further than so many chunks, and waits for its client to go. `GET /totals` says what was made in all.
"""

import asyncio
import sys
from typing import cast

import httptools
import orjson
import uvloop

_ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "word " * 40}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60},
    }
)
_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench"}


def _frame(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _content(text: str, finish: str | None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    return _frame(orjson.dumps({**_CHUNK, "choices": [choice], "padding": "x" * 80}))


def _running(count: int) -> bytes:
    """A chunk as vLLM writes it where it is asked for running usage."""
    choice = {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    usage = {"prompt_tokens": 20, "total_tokens": 20 + count, "completion_tokens": count}
    return _frame(orjson.dumps({**_CHUNK, "choices": [choice], "usage": usage}))


_ONE = _content(" word", None)
_END = _content("", "stop")


_TOTALS = {"streams": 0, "input": 0, "output": 0, "open": 0}


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._streaming = False
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._target = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        _TOTALS["open"] -= self._streaming

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        raw = b"".join(self._body)
        self._body = []
        if self._target == b"/api/v1/events":  # it is the ledger too
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        if b'"stream":' not in raw:
            body = orjson.dumps(_TOTALS) if self._target == b"/totals" else _ANSWER
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            return
        asked = orjson.loads(raw)
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        options = asked.get("stream_options") or {}
        usage = bool(options.get("include_usage"))
        self._each = usage and bool(options.get("continuous_usage_stats"))
        chunks, interval = asked.get("chunks", 20), asked.get("interval", 0.02)
        self._stop = chunks - min(asked.get("stop") or chunks, chunks)
        self._streaming = True
        _TOTALS["open"] += 1
        _TOTALS["streams"] += 1
        _TOTALS["input"] += 20
        self._next(chunks, chunks, interval, self._loop.time(), usage)

    def _next(self, left: int, total: int, interval: float, due: float, usage: bool) -> None:
        if self._transport.is_closing() or (left and left == self._stop):
            return
        if left == 0:
            self._streaming = False
            _TOTALS["open"] -= 1
            out = _END
            if usage:
                counts = {"prompt_tokens": 20, "completion_tokens": total, "total_tokens": 20 + total}
                out += _frame(orjson.dumps({**_CHUNK, "choices": [], "usage": counts}))
            self._transport.write(out + _frame(b"[DONE]") + b"0\r\n\r\n")
            return
        _TOTALS["output"] += 1
        self._transport.write(_running(total - left + 1) if self._each else _ONE)
        due += interval
        self._loop.call_at(due, self._next, left - 1, total, interval, due, usage)


async def _main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
