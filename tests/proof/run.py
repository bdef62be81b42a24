"""One run: the real sidecar and the real ledger as processes, killed, stopped and cut off from each other."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from demo.processes import free_ports
from sidecar import segments
from tests.ledger.process import Ledger
from tests.proof.client import perform
from tests.proof.scenario import Request, Scenario
from tests.proof.server import ModelServer
from tests.proof.wire import Wire
from tests.sidecar.process import Sidecar

Json = dict[str, Any]
Tokens = tuple[int, int]
_AT_ONCE = 24
_CHECKPOINT = 1.3
"""Seconds after which an open stream's last record is one of its checkpoints."""


@dataclass(slots=True)
class Told:
    """What is known of a request when all is over. Tokens are (input, output)."""

    request: Request
    made: Tokens = (0, 0)
    seen: bool = False
    reported: list[Tokens] = field(default_factory=list)
    rows: list[Json] = field(default_factory=list)
    checkpoint: Tokens | None = None
    """Its last record in the spool, where it was open when the sidecar was killed."""
    killed: bool = False


@dataclass(slots=True)
class Result:
    """All requests, and what befell the run."""

    told: list[Told]
    kills: int = 0
    batches_repeated: int = 0
    spool_left: int = 0
    troubles: list[str] = field(default_factory=list)


async def run(scenario: Scenario, folder: Path) -> Result:
    """Run it to its end: every request done, every event sent."""
    running = _Run(scenario, folder)
    async with asyncio.timeout(900):
        return await running.run()


class _Run:
    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._folder = folder
        self._spool = folder / "spool"
        self._requests = {one.id: one for one in scenario.everything}
        self._told = {name: Told(request) for name, request in self._requests.items()}
        self._server = ModelServer(self._requests, self._settle)
        self._sidecar: Sidecar | None = None
        self._ports = free_ports(3)
        self._logs: list[Path] = []
        self._open: set[str] = set()
        self._done = 0
        self._moved = asyncio.Event()
        self._up = asyncio.Event()
        self._result = Result([])

    async def run(self) -> Result:
        """Everything."""
        scenario = self._scenario
        ledger = Ledger(f"sqlite:///{self._folder}/ledger.db", self._folder, PORT=str(self._ports[2]))
        await asyncio.to_thread(ledger.start)
        self._wire = Wire(scenario.seed, self._ports[2])
        await self._wire.start()
        await self._server.start()
        try:
            await self._start_sidecar()
            queue = list(reversed(scenario.requests))
            workers = [asyncio.ensure_future(self._work(queue)) for _ in range(_AT_ONCE)]
            await self._trouble(ledger, workers)
            await asyncio.gather(*workers)
            await self._finish()
        finally:
            if self._sidecar:
                self._sidecar.stop()
            await self._server.stop()
            self._wire.stop()
            await asyncio.to_thread(ledger.stop)
        self._collect()
        return self._result

    async def _work(self, queue: list[Request]) -> None:
        while queue:
            await self._perform(queue.pop())
            self._done += 1
            self._moved.set()

    async def _perform(self, request: Request) -> None:
        await self._up.wait()  # one that is just being killed may still take connections
        self._open.add(request.id)
        try:
            await perform(request, self._server.made[request.id], self._ports[0], self._settle)
        finally:
            self._open.discard(request.id)

    # -- what goes wrong

    async def _trouble(self, ledger: Ledger, workers: Sequence["asyncio.Future[None]"]) -> None:
        """At even distances: a kill of the sidecar, and between two the ledger is stopped, or killed."""
        kills, every = self._scenario.held, len(self._scenario.requests)
        for number, held in enumerate(kills):
            await self._until(every * (2 * number + 1) // (2 * len(kills) + 1), workers)
            await self._kill_sidecar(held, checkpoint=number % 2 == 0)
            await self._until(every * (2 * number + 2) // (2 * len(kills) + 1), workers)
            await asyncio.to_thread(ledger.kill if number % 2 else ledger.stop)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(ledger.start)

    async def _until(self, done: int, workers: Sequence["asyncio.Future[None]"]) -> None:
        while self._done < done and not all(worker.done() for worker in workers):
            self._moved.clear()
            await self._moved.wait()

    async def _kill_sidecar(self, held: Sequence[Request], *, checkpoint: bool) -> None:
        holding = [asyncio.ensure_future(self._perform(request)) for request in held]
        for request in held:
            await self._server.made[request.id].paused.wait()
        await self._settle()
        if checkpoint:
            await asyncio.sleep(_CHECKPOINT)
        assert self._sidecar
        self._up.clear()
        open_now = set(self._open)
        self._sidecar.process.kill()
        await asyncio.to_thread(self._sidecar.stop)
        self._result.kills += 1
        for name in open_now:
            self._told[name].killed = True
        for path in sorted(self._spool.glob("*.spool")):
            found = segments.read(path.read_bytes())
            for event in (*found.open.values(), *found.closed.values()):
                data = orjson.loads(event)["data"]
                told = self._told[data["request_id"]]
                # An answer that is finished without its client may be open too.
                told.killed |= data["outcome"] == "meter_restarted"
                if told.killed:
                    told.checkpoint = data["input_tokens"], data["output_tokens"]
        # Whoever waits for the server to see its client go would wait for ever.
        for name in open_now:
            self._server.made[name].client_gone.set()
        await asyncio.gather(*holding)
        await self._start_sidecar()

    # -- the sidecar

    async def _start_sidecar(self) -> None:
        log = self._folder / f"sidecar-{len(self._logs)}.log"
        self._logs.append(log)
        self._sidecar = await asyncio.to_thread(
            Sidecar,
            self._server.port,
            log,
            port=self._ports[0],
            admin_port=self._ports[1],
            readiness_path="/health",
            base_path="/v1",
            server="vllm",
            models="llama",
            ledger_url=f"http://127.0.0.1:{self._wire.port}",
            spool_dir=self._spool,
            finish_abandoned=2 * _AT_ONCE,
            drain_seconds=30,
        )
        self._up.set()

    async def _settle(self) -> None:
        """The sidecar has read all that was sent to it before: it has one event loop, and this is a request on it."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._ports[1])
                writer.write(b"GET /healthz HTTP/1.1\r\nhost: sidecar\r\n\r\n")
                await reader.read()
                writer.close()

    async def _finish(self) -> None:
        """The wire is mended, and SIGTERM sends what is left."""
        assert self._sidecar
        self._wire.faulty = False
        process = self._sidecar.process
        process.terminate()
        await asyncio.to_thread(process.wait, 60)

    def _collect(self) -> None:
        result = self._result
        for name, told in self._told.items():
            made = self._server.made[name]
            told.made, told.seen = (made.input, made.output), made.seen
        for log in self._logs:
            for text in log.read_text().splitlines():
                with contextlib.suppress(orjson.JSONDecodeError):  # the last line of a killed one
                    line = orjson.loads(text)
                    if line.get("event") == "request":
                        tokens = line["input_tokens"], line["output_tokens"]
                        self._told[line["request_id"]].reported.append(tokens)
        with sqlite3.connect(f"file:{self._folder}/ledger.db?mode=ro", uri=True) as database:
            database.row_factory = sqlite3.Row
            for row in database.execute("select * from events"):
                self._told[row["request_id"]].rows.append(dict(row))
        for path in self._spool.glob("*.spool"):
            result.spool_left += len(segments.read(path.read_bytes()).closed)
        result.told = list(self._told.values())
        result.batches_repeated = self._wire.cuts
        result.troubles = self._server.failures
