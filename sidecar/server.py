"""Starting, serving and stopping one sidecar."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from functools import partial

import uvloop

from sidecar.admin import Admin
from sidecar.client import ClientConnection
from sidecar.event import Source
from sidecar.log import Log
from sidecar.metrics import Metrics
from sidecar.pool import Pool
from sidecar.proxy import Proxy
from sidecar.readiness import Readiness
from sidecar.sender import Destination, Sender
from sidecar.settings import Settings, SettingsError, read_settings
from sidecar.spool import SWEEP_SECONDS, Spool
from sidecar.tls import Certificate

_BACKLOG = 4096
_HOUSEKEEPING_SECONDS = 1.0
_LEAST_FLUSH_SECONDS = 3.0


def main() -> int:
    """Run a sidecar by its environment until SIGTERM; returns the exit code (2 for wrong settings)."""
    try:
        settings = read_settings()
    except SettingsError as error:
        print(f"token-meter sidecar: wrong settings\n{error}", file=sys.stderr)
        return 2
    gc.freeze()  # what there is by now stays: the collector need not look through it while requests wait
    try:
        uvloop.run(Server(settings).run())
    except OSError as error:
        print(f"token-meter sidecar: cannot listen: {error}", file=sys.stderr)
        return 1
    return 0


class Server:
    """One sidecar: its data port, its admin port, and their end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connections: set[ClientConnection] = set()
        self._stopping = False
        self._stopped_at = 0.0

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        settings, loop = self._settings, asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        log = Log(loop)
        metrics = Metrics(settings.models, users=settings.user_metrics)
        pool = Pool(
            settings.upstream_address,
            bound=settings.max_upstream_connections,
            keepalive=settings.upstream_keepalive,
            connect_timeout=settings.connect_timeout,
        )
        spool, sender = _to_ledger(settings, metrics, log)
        proxy = Proxy(settings, pool, metrics, log, spool)
        readiness = Readiness(settings.upstream_address, settings.readiness_path)
        certificate = Certificate(settings.tls_dir) if settings.tls_dir else None

        def state() -> tuple[bool, str]:
            if self._stopping:
                return False, "stopping"
            if certificate and not certificate.loaded:
                return False, certificate.problem
            return (
                (True, "ok")
                if readiness.ready
                else (False, f"the model does not answer at {settings.upstream}")
            )

        admin = await asyncio.start_server(
            Admin(metrics, state, partial(self._refresh, metrics, readiness, log)).handle,
            settings.host,
            settings.admin_port,
            limit=settings.max_header_bytes,
        )
        tasks = [
            asyncio.ensure_future(readiness.watch()),
            asyncio.ensure_future(self._keep_house(pool, certificate)),
        ]
        sending = asyncio.ensure_future(sender.run()) if sender else None
        if spool:
            tasks.append(asyncio.ensure_future(_sweep(spool, log)))
        waiting = asyncio.ensure_future(stop.wait())
        try:
            if settings.wait_for_model:
                # Knative's readiness is a TCP connect to this port: it opens when the model answers.
                answered = asyncio.ensure_future(readiness.wait())
                await asyncio.wait((answered, waiting), return_when=asyncio.FIRST_COMPLETED)
                answered.cancel()
            if not stop.is_set():
                data = await loop.create_server(
                    lambda: ClientConnection(proxy.handle, settings, self._connections, loop),
                    settings.host,
                    settings.port,
                    backlog=_BACKLOG,
                    ssl=certificate.context if certificate else None,
                )
                log.line(
                    "listening",
                    {"port": settings.port, "admin_port": settings.admin_port, "upstream": settings.upstream},
                )
                await waiting
                self._stopped_at = loop.time()
                await self._drain(data, log)
            if sender and sending:
                sending.cancel()
                await asyncio.wait((sending,))
                took = loop.time() - self._stopped_at
                unsent = await sender.flush(max(settings.drain_seconds - took, _LEAST_FLUSH_SECONDS))
                log.line("flushed", {"unsent": unsent})
        finally:
            for task in (*tasks, waiting, *([sending] if sending else [])):
                task.cancel()
            admin.close()
            proxy.close()
            if spool:
                spool.journal.close()
            log.line("stopped", {})
            log.close()

    def _refresh(self, metrics: Metrics, readiness: Readiness, log: Log) -> None:
        metrics.ready = readiness.ready
        metrics.open_connections = len(self._connections)
        metrics.tasks = len(asyncio.all_tasks())
        metrics.lost_log_lines = log.lost

    async def _drain(self, data: asyncio.Server, log: Log) -> None:
        """No new connections; what has begun may end within the grace time."""
        self._stopping = True
        data.close()
        for connection in list(self._connections):
            connection.drain()
        log.line("draining", {"connections": len(self._connections), "seconds": self._settings.drain_seconds})
        await self._until_closed(self._settings.drain_seconds)
        for connection in list(self._connections):
            connection.answer.abort()
        await self._until_closed(1.0)

    async def _until_closed(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*[asyncio.shield(connection.closed) for connection in self._connections])

    async def _keep_house(self, pool: Pool, certificate: Certificate | None) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            pool.expire()
            if certificate:
                certificate.look()


def _to_ledger(settings: Settings, metrics: Metrics, log: Log) -> tuple[Spool | None, Sender | None]:
    """Spool and sender, where there is a ledger to send to."""
    if not settings.ledger_url:
        return None, None
    pod = settings.pod_name or os.environ.get("HOSTNAME") or socket.gethostname()
    source = Source.of(settings.namespace, settings.inference_service, pod)
    spool = Spool(settings.spool_dir, source, log, max_bytes=settings.spool_max_bytes)
    destination = Destination(settings.ledger_url, settings.ledger_token_file, settings.ledger_ca_file)
    sender = Sender(spool.journal, destination, log)
    metrics.others += [spool.collect, sender.collect]
    return spool, sender


async def _sweep(spool: Spool, log: Log) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            for _ in spool.sweep():
                await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 the next round may do
            log.failure("sweep_failed", error)
