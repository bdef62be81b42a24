"""The wire between sidecar and ledger, which is cut at times: behind a batch that the ledger took, or within it."""

import asyncio
import contextlib
from random import Random


class Wire:
    """Passes connections on to a port; `cuts` counts the answers that never came back: batches that are sent again."""

    def __init__(self, seed: int, port: int, share: float = 0.5) -> None:
        self._random = Random(seed)  # noqa: S311 no secret
        self._port = port
        self._share = share
        self.cuts = 0
        self.port = 0
        self.faulty = True

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Take no more."""
        self._server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fate = self._random.random() if self.faulty else 1.0
        with contextlib.suppress(ConnectionError):
            there, onward = await asyncio.open_connection("127.0.0.1", self._port)
            if fate < self._share / 2:
                # Within the batch.
                onward.write((await reader.read(65536))[:-10])
                await onward.drain()
            else:
                passing = asyncio.ensure_future(_pass(reader, onward))
                if fate < self._share:
                    # Behind it: the ledger has answered.
                    await there.read(1)
                    self.cuts += 1
                else:
                    await _pass(there, writer)
                passing.cancel()
            onward.close()
        writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
