"""The client of the guide: OpenAI's API over plain HTTP, so that every byte and header can be shown."""

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `headers` have lower-case names; `size` is that of the body in bytes."""

    status: int
    headers: Mapping[str, str]
    body: Any
    size: int

    @property
    def usage(self) -> dict[str, Any]:
        return dict(self.body.get("usage") or {}) if isinstance(self.body, dict) else {}

    @property
    def message(self) -> str:
        """What an error says: OpenAI's `error.message`, else the body as it is."""
        match self.body:
            case {"error": {"message": str(message)}}:
                return message
            case body:
                return str(body)

    @property
    def text(self) -> str:
        """The first choice's text."""
        choice = self.body["choices"][0]
        return str(choice["message"]["content"] if "message" in choice else choice["text"])


@dataclass(slots=True)
class Streamed:
    """A streamed answer as it came in: the number of chunks with content, the text, the last usage."""

    status: int = 0
    chunks: int = 0
    text: str = ""
    usage: dict[str, Any] = field(default_factory=dict)


class Client:
    """Requests of one user through one port of this machine."""

    def __init__(self, port: int, user: str | None = None) -> None:
        self._port = port
        self._headers = {"content-type": "application/json"} | ({"x-user-id": user} if user else {})

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send a request and read the whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            connection.request("POST", path, encode(body), self._headers)
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, _decode(raw), len(raw))

    def stream(
        self, path: str, body: Mapping[str, Any], each: Callable[[str], None], cut_after: int | None = None
    ) -> Streamed:
        """Send a request with stream: true; `each` gets every piece of text as it comes in.

        After `cut_after` chunks with content the connection is closed, whatever else would come.
        """
        streamed = Streamed()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            connection.request("POST", path, encode({**body, "stream": True}), self._headers)
            response = connection.getresponse()
            streamed.status = response.status
            for line in response:
                if streamed.chunks == cut_after:
                    break
                if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
                    _take(json.loads(data), streamed, each)
            response.close()
        finally:
            connection.close()
        return streamed


def encode(body: Mapping[str, Any]) -> bytes:
    """The request's bytes: UTF-8, no escapes, so that a prompt's size is the size that is sent."""
    return json.dumps(body, ensure_ascii=False).encode()


def _take(chunk: Any, streamed: Streamed, each: Callable[[str], None]) -> None:
    for choice in chunk.get("choices", []):
        if piece := choice.get("text") or choice.get("delta", {}).get("content"):
            streamed.chunks += 1
            streamed.text += piece
            each(piece)
    streamed.usage = chunk.get("usage") or streamed.usage


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
