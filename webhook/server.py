"""The webhook's process: watches, certificate, two ports, and an end that drops nothing."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta

import uvloop
from aiohttp import web

from certs.api import Api, ConfigError, load_config
from certs.authority import CONFIGURATIONS, Authority, bundle_of
from certs.keys import service_names
from certs.leader import Elector
from certs.serving import Minted, Mounted, Source
from certs.watch import Watch
from webhook import logs
from webhook.app import State, admin_app, admission_app
from webhook.cluster import Cluster
from webhook.events import Events
from webhook.settings import CertMode, Settings, SettingsError, read_settings

_LOG = logging.getLogger(__name__)
_Task = Awaitable[None]


def main() -> int:
    """Run it until SIGTERM or SIGINT; the exit code."""
    try:
        settings = read_settings()
        logs.configure(settings.log_level, settings.log_format)
        uvloop.run(serve(settings))
    except (SettingsError, ConfigError) as error:
        sys.stderr.write(f"token-meter webhook: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"token-meter webhook: {error}\n")
        return 1
    return 0


async def serve(settings: Settings) -> None:
    """Serve until a signal; raises OSError where a port is taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Api(load_config()) as api:
        cluster = Cluster(
            api,
            namespace=settings.namespace,
            config_map_name=settings.config_map,
            kserve_namespace=settings.kserve_namespace,
        )
        source, elector, tasks = _certificates(settings, api)
        state = State(cluster, source, leading=lambda: bool(elector and elector.leading))
        state.ledger_url = settings.ledger
        tasks += cluster.tasks()
        if settings.events:
            events = Events(api, settings.identity)
            state.tell = events.tell
            tasks.append(events.run())
        await _run(settings, state, tasks, stop)


async def _run(settings: Settings, state: State, tasks: list[_Task], stop: asyncio.Event) -> None:
    admission = web.AppRunner(admission_app(state), access_log=None, shutdown_timeout=settings.close_seconds)
    admin = web.AppRunner(admin_app(state), access_log=None, shutdown_timeout=1.0)
    background: list[asyncio.Future[None]] = []
    try:
        await admission.setup()
        await admin.setup()
        await web.TCPSite(
            admission, settings.host, settings.port, ssl_context=state.source.context, backlog=1024
        ).start()
        await web.TCPSite(admin, settings.host, settings.admin_port).start()
        ports = [runner.addresses[0][1] for runner in (admission, admin)]
        _LOG.info("listening", extra={"port": ports[0], "admin_port": ports[1]})
        background = [asyncio.ensure_future(task) for task in tasks]
        stopping = asyncio.ensure_future(_set(stop))
        await asyncio.wait([stopping, *background], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in background:
            if task.done():  # none ends by itself: a process that lost one is better started again
                task.result()
        await _drain(settings, state)
    finally:
        await admission.cleanup()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await admin.cleanup()


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _drain(settings: Settings, state: State) -> None:
    """Not ready, and still serving until the Service's endpoints have followed."""
    state.draining = True
    _LOG.info("shutting down")
    await asyncio.sleep(settings.drain_seconds)


def _certificates(settings: Settings, api: Api) -> tuple[Source, Elector | None, list[_Task]]:
    """Where the certificate comes from, who leads, and what is to be run for it."""
    if settings.cert_mode is CertMode.MOUNTED:
        mounted = Mounted(settings.cert_dir)
        return mounted, None, [mounted.run()]
    authority = Authority(
        api,
        namespace=settings.namespace,
        secret=settings.secret,
        configuration=settings.configuration,
        life=settings.ca_life,
    )
    pokes: list[Callable[[], None]] = [authority.poke]

    def changed() -> None:
        for poke in pokes:
            poke()

    secret = _one(api, f"/api/v1/namespaces/{settings.namespace}/secrets", settings.secret, changed)
    configuration = _one(api, CONFIGURATIONS, settings.configuration, changed)
    minted = Minted(
        (*service_names(settings.service, settings.namespace), *settings.extra_names),
        secret=lambda: secret.get(settings.secret, settings.namespace),
        bundles=lambda: [
            bundle_of(webhook)
            for webhook in (configuration.get(settings.configuration) or {}).get("webhooks") or ()
        ],
        life=settings.leaf_life,
        settle=timedelta(seconds=settings.settle_seconds),
    )
    pokes.append(minted.poke)
    elector = Elector(api, settings.namespace, settings.lease, settings.identity)
    return minted, elector, [secret.run(), configuration.run(), minted.run(), elector.run(authority.run)]


def _one(api: Api, path: str, name: str, changed: Callable[[], None]) -> Watch:
    return Watch(api, path, selector={"fieldSelector": f"metadata.name={name}"}, changed=changed)
