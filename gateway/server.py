"""The controller's process: it waits for the Lease, works while it has it, and says how it is."""

import asyncio
import logging
import signal
import sys

import uvloop
from aiohttp import web

from certs.api import ConfigError, load_config
from certs.leader import Elector
from gateway.client import Client
from gateway.controller import Controller
from gateway.metrics import Metrics
from gateway.settings import Settings, SettingsError, read_settings

_LOG = logging.getLogger(__name__)


def main() -> int:
    """Run it until SIGTERM or SIGINT; the exit code."""
    try:
        settings = read_settings()
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", force=True
        )
        uvloop.run(serve(settings))
    except (SettingsError, ConfigError) as error:
        sys.stderr.write(f"token-meter gateway: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"token-meter gateway: {error}\n")
        return 1
    return 0


async def serve(settings: Settings) -> None:
    """Serve until a signal; raises OSError where the port is taken."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Client(load_config()) as api:
        metrics = Metrics()
        controller = Controller(api, settings, metrics)
        elector = Elector(api, settings.namespace, settings.lease, settings.identity)
        api.may_write = lambda: elector.leading
        admin = web.AppRunner(
            _admin(api, controller, elector, metrics), access_log=None, shutdown_timeout=1.0
        )
        await admin.setup()
        try:
            await web.TCPSite(admin, settings.host, settings.admin_port).start()
            _LOG.info("listening on port %d", admin.addresses[0][1])
            work = asyncio.ensure_future(elector.run(controller.run))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            work.cancel()  # the Lease is given back on the way out
            await asyncio.gather(work, return_exceptions=True)
        finally:
            await admin.cleanup()


def _admin(api: Client, controller: Controller, elector: Elector, metrics: Metrics) -> web.Application:
    """`/healthz`, `/readyz`, `/metrics`. A replica that waits for the Lease is ready too."""

    async def healthy(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def rendered(request: web.Request) -> web.Response:
        body = metrics.render(
            leading=elector.leading,
            failing=controller.failing,
            writes=api.writes,
            services=controller.services(),
            objects=controller.objects(),
        )
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(client_max_size=1024)
    app.router.add_get("/healthz", healthy)
    app.router.add_get("/readyz", healthy)
    app.router.add_get("/metrics", rendered)
    return app
