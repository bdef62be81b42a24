"""A model server that says `word` as often as `max_tokens` asks, a word each `DELAY` seconds, and counts as vLLM does.

It is not ready before a file called /tmp/loaded is there, where WAIT is set. At SIGTERM it ends what it has begun.
"""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DELAY = float(os.environ.get("DELAY", "0"))
LOADED = Path("/tmp/loaded")
PROMPT_TOKENS = 5


class Handler(BaseHTTPRequestHandler):
    """One request for each connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "WAIT" in os.environ and not LOADED.exists():
            self._answer(503, {"error": {"message": "the model is being loaded"}})
        elif self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        else:
            self._answer(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        words = int(body.get("max_tokens", 3))
        usage = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": words,
            "total_tokens": PROMPT_TOKENS + words,
        }
        if not body.get("stream"):
            message = {"role": "assistant", "content": "word " * words}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(200, {"object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self._head(200, "text/event-stream", ("transfer-encoding", "chunked"))
        for _ in range(words):
            self._event({"choices": [{"index": 0, "delta": {"content": "word "}}]})
            time.sleep(DELAY)
        if body.get("stream_options", {}).get("include_usage"):
            self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def log_message(self, *_: object) -> None:
        """Nothing of a request is logged."""

    def _event(self, data: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps({"object": "chat.completion.chunk", **data}).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self._head(status, "application/json", ("content-length", str(len(data))))
        self.wfile.write(data)

    def _head(self, status: int, kind: str, framing: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header(*framing)
        self.send_header("connection", "close")
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Waits for its open requests when it is closed."""

    daemon_threads = False
    request_queue_size = 128


def main() -> None:
    """Serve until SIGTERM."""
    with Server(("", 8080), Handler) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()


if __name__ == "__main__":
    main()
