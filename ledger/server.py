"""The ledger's process: the database first, then the two ports."""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Literal

import orjson
import uvloop
from aiohttp import web
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import SQLAlchemyError

from ledger import usage
from ledger.auth import ClusterGate, Gate, OpenGate
from ledger.charger import Charger
from ledger.cluster import Cluster
from ledger.database import DatabaseError, migrate, open_database
from ledger.dial import way
from ledger.ingest import Ingest, answer, decode
from ledger.metrics import Metrics
from ledger.page import add_page
from ledger.problems import Problem, problems
from ledger.settings import Settings, SettingsError, read_settings
from ledger.store import forget
from ledger.tables import hourly
from ledger.writer import Writer

_LOG = logging.getLogger(__name__)
TOKEN_HEADER = "X-Token-Meter-Token"  # noqa: S105 the header's name
_RETRY_SECONDS = 2.0
_FORGET_SECONDS = 60.0
_FORGET_MOST = 2000
_MARGIN_MS = 3_600_000
"""An event is taken as long as it would be known if it had been stored before, and a little longer."""


def main() -> int:
    """Run it until SIGTERM or SIGINT; the exit code (2 for wrong settings)."""
    try:
        settings = read_settings()
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", force=True
        )
        # Alembic tells of every start that there is nothing to do.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        uvloop.run(serve(settings))
    except (SettingsError, DatabaseError) as error:
        sys.stderr.write(f"token-meter ledger: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"token-meter ledger: {error}\n")
        return 1
    return 0


async def serve(settings: Settings) -> None:
    """Serve until a signal. Raises OSError where a port is taken, DatabaseError where the database never will do."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    writing, reading = open_database(settings.database_url)
    metrics = Metrics()
    ready = asyncio.Event()
    admin = await _listen(_admin(metrics, ready, reading), settings.host, settings.admin_port, "admin")
    stopping = asyncio.ensure_future(stop.wait())
    try:
        if not await _prepared(writing, stopping):
            return
        writer = Writer(writing)
        forgetting = asyncio.ensure_future(_forget(writer, settings.retention_days, metrics))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(writer.close)
            stack.callback(forgetting.cancel)
            cluster = await _cluster(settings, stack)
            gate: Gate = ClusterGate(cluster, settings.audience) if cluster else OpenGate()
            charger = Charger(writer, *way(settings, cluster), metrics)
            stack.push_async_callback(_finish, charger, asyncio.ensure_future(charger.run()))
            ingest = Ingest(
                writer,
                retention_days=settings.retention_days,
                charge_running=settings.gateway_charges == "final",
                wake=charger.wake,
            )
            app = application(settings, gate, ingest, reading, metrics)
            public = await _listen(app, settings.host, settings.port, "events and usage")
            stack.push_async_callback(public.cleanup)
            ready.set()
            await stopping
            ready.clear()
    finally:
        stopping.cancel()
        await admin.cleanup()
        writing.dispose()
        reading.dispose()


async def _cluster(settings: Settings, stack: AsyncExitStack) -> Cluster | None:
    if settings.auth == "none":
        return None
    if not settings.kubernetes_url:
        raise SettingsError(
            "TOKEN_METER_LEDGER_KUBERNETES_URL: is needed outside a pod, or TOKEN_METER_LEDGER_AUTH=none on a loopback"
        )
    cluster = Cluster(
        settings.kubernetes_url,
        token_file=settings.kubernetes_token_file,
        ca_file=settings.kubernetes_ca_file,
    )
    return await stack.enter_async_context(cluster)


async def _finish(charger: Charger, running: "asyncio.Task[None]") -> None:
    charger.stop()
    await running


def application(
    settings: Settings, gate: Gate, ingest: Ingest, reading: Engine, metrics: Metrics
) -> web.Application:
    """The public port's routes."""

    async def events(request: web.Request) -> web.Response:
        permit = await gate.writer(_token(request))
        values = decode(request.content_type, await request.read())
        try:
            stored, rejected = await ingest.take(values, permit)
        except Problem as problem:
            if problem.status == 503:
                metrics.unavailable.inc()
                _LOG.warning("%s", problem.detail)
            raise
        metrics.events.labels("stored").inc(stored.new)
        metrics.events.labels("duplicate").inc(stored.duplicates)
        metrics.events.labels("rejected").inc(len(rejected))
        for one in rejected[:10]:
            _LOG.warning("event %s is rejected: %s", one.id or one.index, one.error)
        return answer(stored, rejected)

    async def sums(request: web.Request) -> web.Response:
        query = usage.read_query(list(request.query.items()))
        how = _format(request)
        seen = await gate.reader(_token(request), partial(_namespaces, reading))
        try:
            found = await asyncio.to_thread(_sum, reading, query, seen)
        except SQLAlchemyError as error:
            _LOG.warning("usage cannot be read: %s", str(error).partition("\n")[0])
            raise Problem(
                503, "database_unavailable", "The database does not answer now.", retry_after=5
            ) from None
        if how == "csv":
            return web.Response(text=usage.as_csv(found), content_type="text/csv", charset="utf-8")
        return web.Response(body=orjson.dumps(usage.as_json(found)), content_type="application/json")

    app = web.Application(client_max_size=settings.max_body_bytes, middlewares=[problems])
    app.router.add_post("/api/v1/events", events)
    app.router.add_get("/api/v1/usage", sums)
    add_page(app)
    return app


def _token(request: web.Request) -> str | None:
    """The caller's token. The API server's proxy to Services takes Authorization for itself, so there is another."""
    if given := request.headers.get(TOKEN_HEADER):
        return given.strip()
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _format(request: web.Request) -> str:
    asked = request.query.get("format")
    if asked not in (None, "json", "csv"):
        raise Problem(400, "invalid_parameter", f"format: {asked!r} is neither json nor csv.")
    return asked or ("csv" if "text/csv" in request.headers.get("Accept", "") else "json")


def _namespaces(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(hourly.c.namespace).distinct()).scalars())


def _sum(engine: Engine, query: usage.Query, seen: frozenset[str] | None) -> usage.Usage:
    with engine.connect() as connection:
        return usage.run(connection, query, seen)


async def _prepared(engine: Engine, stopping: "asyncio.Task[Literal[True]]") -> bool:
    """Bring the tables up to date, waiting for a database that is not there yet; False when stopped meanwhile."""
    while not stopping.done():
        try:
            await asyncio.to_thread(migrate, engine)
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            _LOG.warning("the database is not there yet: %s", reason)
            await asyncio.wait([stopping], timeout=_RETRY_SECONDS)
        else:
            return True
    return False


async def _forget(writer: Writer, retention_days: float, metrics: Metrics) -> None:
    while True:
        before = int(time.time() * 1000 - retention_days * 86_400_000) - _MARGIN_MS
        gone = _FORGET_MOST
        while gone == _FORGET_MOST:
            gone = 0
            with contextlib.suppress(SQLAlchemyError):
                gone = await writer.run(partial(forget, before=before, most=_FORGET_MOST))
            metrics.deleted.inc(gone)
        await asyncio.sleep(_FORGET_SECONDS)


async def _listen(app: web.Application, host: str, port: int, what: str) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    _LOG.info("listening on port %d: %s", runner.addresses[0][1], what)
    return runner


def _admin(metrics: Metrics, ready: asyncio.Event, reading: Engine) -> web.Application:
    """`/healthz`, `/readyz` (the database answers), `/metrics`."""

    async def healthy(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def is_ready(request: web.Request) -> web.Response:
        if not ready.is_set():
            return web.Response(status=503, text="the database is not there yet\n")
        try:
            async with asyncio.timeout(5):
                await asyncio.to_thread(_ask, reading)
        except (SQLAlchemyError, TimeoutError):
            return web.Response(status=503, text="the database does not answer\n")
        return web.Response(text="ok\n")

    async def rendered(request: web.Request) -> web.Response:
        return web.Response(
            body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    app = web.Application(client_max_size=1024)
    app.router.add_get("/healthz", healthy)
    app.router.add_get("/readyz", is_ready)
    app.router.add_get("/metrics", rendered)
    return app


def _ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
