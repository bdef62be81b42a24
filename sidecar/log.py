"""The log: one JSON line an event on standard output, written by a thread so that a slow reader of it (a full
pipe, a full disk) never holds up a request. What it cannot take within a bound is counted as lost."""

import asyncio
import os
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson

_FLUSH_SECONDS = 0.2
_MOST_BYTES = 4 * 1024 * 1024


class Log:
    """Collects lines and writes them in batches; `lost` counts those that found no room."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int | None = None) -> None:
        self._loop = loop
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._scheduled = False
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()
        self.lost = 0

    def line(self, event: str, fields: dict[str, Any]) -> None:
        """Write one line."""
        if len(self._waiting) >= _MOST_BYTES:
            self.lost += 1
            return
        line = {"time": datetime.now(UTC), "event": event, **fields}
        text = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
        with self._lock:
            self._waiting += text
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_later(_FLUSH_SECONDS, self._flush)

    def failure(self, event: str, error: BaseException) -> None:
        """Write an error of our own, with its stack; never what a request carried."""
        stack = [
            f"{frame.name} {frame.filename.rpartition('/')[2]}:{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        self.line(event, {"level": "error", "error": type(error).__name__, "stack": stack})

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left, waiting for a slow reader no longer than `timeout` seconds."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout)

    def _flush(self) -> None:
        self._scheduled = False
        self._wake.set()

    def _write(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                text, self._waiting = bytes(self._waiting), bytearray()
            try:
                while text:
                    text = text[os.write(self._descriptor, text) :]
            except OSError:
                self.lost += text.count(b"\n")
            if self._closed:
                return
