"""Bytes of HTTP answers and of OpenAI's chunks, as a model server writes them."""

import json
from typing import Any

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"


def answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def json_answer(value: object, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer with JSON (bytes as they are)."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return answer(body, "content-type: application/json", *headers, status=status)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*pieces: bytes) -> bytes:
    """A whole event stream, each piece a chunk of the body."""
    return STREAM_HEAD + b"".join(chunk(piece) for piece in pieces) + LAST_CHUNK


def event(value: object) -> bytes:
    """A server-sent event with JSON, as FastAPI servers write it."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def usage(prompt: int, completion: int, **more: object) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        **more,
    }


def chat_chunk(
    text: str | None = None, *, index: int = 0, finish: str | None = None, **more: object
) -> dict[str, Any]:
    """A chunk of a chat's stream with one choice."""
    delta = {} if text is None else {"content": text}
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def text_chunk(
    text: str = "", *, index: int = 0, finish: str | None = None, **more: object
) -> dict[str, Any]:
    """A chunk of a completion's stream with one choice."""
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def usage_chunk(counted: object, kind: str = "chat.completion.chunk", **more: object) -> dict[str, Any]:
    """The chunk without choices that brings the usage."""
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1,
        "model": "m",
        "choices": [],
        "usage": counted,
        **more,
    }


def events(body: bytes) -> list[Any]:
    """The data of a stream's events as a strict reader has them, JSON where it is JSON; comments are left out."""
    found = []
    for block in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        data = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if data:
            text = b"\n".join(data).decode()
            found.append("[DONE]" if text.strip() == "[DONE]" else json.loads(text))
    return found
