"""A connection without a network: what an asyncio.Protocol is fed, and what it writes."""

import asyncio
from collections.abc import Sequence
from typing import Any


class Wire(asyncio.Transport):
    """The transport of one protocol; `written` is what it sent. Bytes wait while reading is paused."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._closing = False
        self._paused = False
        self.written = bytearray()
        protocol.connection_made(self)

    def feed(self, given: Sequence[bytes]) -> None:
        """Deliver these pieces one after the other, as far as they are read, and let everything happen."""
        for piece in given:
            if self._paused:
                self.settle()
            if self._closing or self._paused:
                return
            self._protocol.data_received(piece)
            self.settle()

    def end(self) -> None:
        """The other side closes."""
        if not self._closing and not self._protocol.eof_received():
            self.close()
        self.settle()

    def settle(self) -> None:
        """Run what is ready to run; a task needs a few rounds."""
        for _ in range(4):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()

    def write(self, data: Any) -> None:
        if not self._closing:
            self.written += data

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default
