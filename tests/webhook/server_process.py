"""The webhook's two ports in this process, over real TLS, with a cluster that the test writes down."""

import io
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from certs import keys
from certs.serving import Swap
from webhook.admission import Answer, Request
from webhook.app import State, admin_app, admission_app
from webhook.plan import Facts

NAME = "token-meter-webhook.token-meter-system.svc"
CA = keys.make_ca(datetime.now(UTC))


@dataclass
class Cluster:
    """What the webhook knows, and runtimes that it finds when it asks again."""

    known: Facts = field(default_factory=Facts)
    missing: list[str] = field(default_factory=list)
    later: Facts | None = None
    error: Exception | None = None

    async def facts(self, namespace: str) -> Facts:
        if self.error:
            raise self.error
        return self.known

    async def refresh(self) -> bool:
        if self.later is None:
            return False
        self.known, self.later = self.later, None
        return True


class Source(Swap):
    """A served certificate."""

    def __init__(self) -> None:
        super().__init__()
        leaf = keys.mint_leaf(CA, [NAME, "127.0.0.1"], datetime.now(UTC))
        self.load(leaf.certificate_pem, leaf.key_pem)
        self.expiry = {"leaf": leaf.certificate.not_valid_after_utc}
        self.ready = True

    async def run(self) -> None:
        """Nothing renews it."""


class Webhook:
    """The running server and a client of it."""

    def __init__(self, state: State, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self.state = state
        self.cluster = cluster
        self.session = session
        self.url = ""
        self.admin_url = ""
        self.told: list[tuple[Request, Answer]] = []

    async def post(self, body: bytes, path: str = "/mutate", content_type: str = "application/json") -> Any:
        """Status, and the body as JSON where it is."""
        headers = {"Content-Type": content_type}
        async with self.session.post(self.url + path, data=io.BytesIO(body), headers=headers) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    async def admin(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.admin_url + path) as response:
            return response.status, await response.text()

    async def metric(self, line: str) -> float:
        """The value of a line of /metrics; 0 where there is none."""
        _, text = await self.admin("/metrics")
        found = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line + " ")]
        return float(found[0]) if found else 0.0


@asynccontextmanager
async def serving() -> AsyncIterator[Webhook]:
    """A webhook on free ports; it ends with the block."""
    cluster, source = Cluster(), Source()
    state = State(cluster, source)
    runners = [web.AppRunner(make(state), shutdown_timeout=1.0) for make in (admission_app, admin_app)]
    trust = ssl.create_default_context(cadata=CA.certificate_pem.decode())
    try:
        for runner, context in zip(runners, (source.context, None), strict=True):
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
            webhook = Webhook(state, cluster, session)
            webhook.url = f"https://127.0.0.1:{runners[0].addresses[0][1]}"
            webhook.admin_url = f"http://127.0.0.1:{runners[1].addresses[0][1]}"
            state.tell = lambda request, answer: webhook.told.append((request, answer))
            yield webhook
    finally:
        for runner in runners:
            await runner.cleanup()
