"""The smallest DNS server: whatever A record it is asked for, it answers with all the addresses."""

import socket
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_A, _IN, _TTL = 1, 1, 5


class Dns:
    """Serves on a UDP port while the block lasts; stands for a headless Service in the cluster."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(512)
            if not query:
                return
            self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        """The question repeated, then the records where it is one for A (RFC 1035, section 4)."""
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        records = self._addresses if struct.unpack("!H", question[-4:-2])[0] == _A else ()
        head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, len(records), 0, 0)
        body = b"".join(
            struct.pack("!HHHIH", 0xC00C, _A, _IN, _TTL, 4) + socket.inet_aton(address) for address in records
        )
        return head + question + body
