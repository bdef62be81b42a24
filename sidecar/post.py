"""One HTTP/1.1 POST on a connection of its own: rare enough that none is kept, and none to go stale."""

import asyncio
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

_MOST_ANSWER = 4 * 1024 * 1024
Headers = dict[str, str]


class PostError(Exception):
    """No answer, or none that can be read; the text says why."""


@dataclass(slots=True)
class Answer:
    """An answer, as httptools tells it; header names in lower case."""

    status: int = 0
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


async def post(
    url: str, headers: Headers, body: bytes, *, tls: ssl.SSLContext | None, seconds: float
) -> Answer:
    """Send it and read the whole answer, in so many seconds. Raises PostError."""
    try:
        async with asyncio.timeout(seconds):
            return await _post(url, headers, body, tls)
    except TimeoutError:
        raise PostError(f"no answer within {seconds:g} s") from None
    except (OSError, httptools.HttpParserError) as error:
        raise PostError(str(error) or type(error).__name__) from None


async def _post(url: str, headers: Headers, body: bytes, tls: ssl.SSLContext | None) -> Answer:
    where = urlsplit(url)
    port = where.port or (443 if tls else 80)
    reader, writer = await asyncio.open_connection(where.hostname, port, ssl=tls)
    try:
        fixed = {"Host": where.netloc, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"{name}: {value}\r\n" for name, value in (fixed | headers).items()]
        writer.write(f"POST {where.path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body)
        answer = Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            data = await reader.read(65536)
            if not data:
                if (
                    not parser.get_status_code()
                    or parser.should_keep_alive()
                    or "content-length" in answer.headers
                ):
                    raise PostError("the connection was closed before the answer's end")
                break  # an answer without a length ends with its connection
            parser.feed_data(data)
            if len(answer.body) > _MOST_ANSWER:
                raise PostError("the answer is too large")
        answer.status = parser.get_status_code()
        return answer
    finally:
        writer.close()
