"""How fast the ledger takes events, on SQLite and on a real PostgreSQL: batches as the sidecar's sender sends them."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.ledger import postgres
from tests.ledger.process import Ledger

SENDERS, BATCHES, BATCH = 4, 12, 500
TARGETS = {"SQLite": 2000, "PostgreSQL": 5000}


def measure(rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """By database: events a second (median and each round), CPU of the ledger for each, and its resident memory.

    A round sends 4 x 12 batches of 500 new events over 4 connections at once, each answered before the next is sent;
    an event that is not stored ends the benchmark.
    """
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="token-meter-bench-")))
        ledgers = {name: stack.enter_context(Ledger(url, folder)) for name, url in _databases(stack, folder)}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in ledgers}
        for _ in range(rounds):
            for name, ledger in ledgers.items():
                runs[name].append(_round(ledger))
        for name, results in runs.items():
            found[name] = {
                "events_a_second": round(statistics.median(one["rate"] for one in results)),
                "each_round": [round(one["rate"]) for one in results],
                "cpu_us": round(statistics.median(one["cpu_us"] for one in results), 1),
                "resident_kib": ledgers[name].resident_kib,
            }
            say(f"  {name}: {found[name]['events_a_second']} events a second")
    return found


def _databases(stack: ExitStack, folder: Path) -> Iterator[tuple[str, str]]:
    yield "SQLite", f"sqlite:///{folder}/ledger.db"
    if postgres.programs() is not None:
        server = stack.enter_context(postgres.running())
        yield "PostgreSQL", server.create(f"b{uuid4().hex}")


def _round(ledger: Ledger) -> dict[str, float]:
    before, stored = ledger.cpu_seconds, ledger.total()[0]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.ledger_load",
            str(ledger.port),
            *map(str, (SENDERS, BATCHES, BATCH)),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    seconds: float = json.loads(done.stdout)["seconds"]
    sent = SENDERS * BATCHES * BATCH
    if ledger.total()[0] - stored != sent:
        raise RuntimeError(f"the ledger has not stored {sent} events, but {ledger.total()[0] - stored}")
    return {"rate": sent / seconds, "cpu_us": (ledger.cpu_seconds - before) / sent * 1e6}


def markdown(results: dict[str, Any]) -> str:
    """The report's part."""
    rows = [
        f"| {name} | {TARGETS[name]} | **{one['events_a_second']}** ({min(one['each_round'])} to "
        f"{max(one['each_round'])}) | {one['cpu_us']} us | {one['resident_kib'] / 1024:.0f} MiB |"
        for name, one in results.items()
    ]
    head = f"Ledger, batches of {BATCH} events over {SENDERS} connections at once:"
    table = [
        "| database | target, a second | events a second | CPU for each | resident memory |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([head, "", *table, *rows])
