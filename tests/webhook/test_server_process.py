"""The webhook as a process: it starts, serves from a CA that it made itself, and ends without dropping a request."""

import asyncio
import base64
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from certs.authority import CONFIGURATIONS
from demo.processes import free_ports
from tests.certs.api_server import ApiServer, running, until
from tests.webhook.reviews import review, service
from webhook.settings import PREFIX

ROOT = Path(__file__).parents[2]
CONFIGURATION = f"{CONFIGURATIONS}/token-meter-webhook"
SECRET = "/api/v1/namespaces/token-meter-system/secrets/token-meter-ca"
NAME = "token-meter-webhook.token-meter-system.svc"


class Process:
    """A started webhook, its ports, and what it has written."""

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self.port, self.admin_port = free_ports(2)
        self.log = folder / "webhook.log"
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.write_text(json.dumps(kubeconfig(url)))
        own = {"HOST": "127.0.0.1", "PORT": str(self.port), "ADMIN_PORT": str(self.admin_port), **settings}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TOKEN_METER_")}
        self._environ = {**kept, **{PREFIX + key: value for key, value in own.items()}}

    @asynccontextmanager
    async def started(self) -> AsyncIterator[asyncio.subprocess.Process]:
        with self.log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "webhook",
                cwd=ROOT,
                stderr=log,
                env={**self._environ, "KUBECONFIG": str(self._kubeconfig)},
            )
            try:
                yield process
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    async def ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"http://127.0.0.1:{self.admin_port}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


def kubeconfig(url: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": url}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }


def cluster(server: ApiServer) -> None:
    """What the manifests install, as far as the process asks for it, and a labelled namespace."""
    namespace = {"name": "llm", "labels": {"token-meter.dev/injection": "enabled"}}
    server.put("/api/v1/namespaces/llm", {"metadata": namespace})
    server.put(SECRET, {"metadata": {"name": "token-meter-ca", "namespace": "token-meter-system"}})
    webhooks = [{"name": "inferenceservice.token-meter.dev", "clientConfig": {}}]
    server.put(CONFIGURATION, {"metadata": {"name": "token-meter-webhook"}, "webhooks": webhooks})


async def wait_ready(process: Process, session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(30):
        while True:
            if await process.ready(session):
                return
            await asyncio.sleep(0.02)


async def test_it_serves_verifiably_and_ends_without_dropping_a_request(tmp_path: Path) -> None:
    async with running() as (server, api):
        cluster(server)
        webhook = Process(tmp_path, api.url, DRAIN_SECONDS="1")
        async with webhook.started() as process, aiohttp.ClientSession() as plain:
            await wait_ready(webhook, plain)
            published = server.objects[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"]
            trust = ssl.create_default_context(cadata=base64.b64decode(published).decode())
            trust.verify_flags |= ssl.VERIFY_X509_STRICT
            answers: list[str] = []

            async def ask(session: aiohttp.ClientSession) -> None:
                async with session.post(
                    f"https://127.0.0.1:{webhook.port}/mutate",
                    data=review(service(), dryRun=True),
                    headers={"Content-Type": "application/json"},
                    server_hostname=NAME,
                ) as response:
                    assert (await response.json())["response"]["patch"]
                    answers.append(response.headers.get("Connection", "keep-alive"))

            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
                await ask(session)
                process.send_signal(signal.SIGTERM)
                while "close" not in answers:
                    await ask(session)
                assert not await webhook.ready(plain)
                await ask(session)
            assert await process.wait() == 0
        assert set(answers) == {"keep-alive", "close"}


async def test_a_port_that_is_taken_ends_it_with_a_message(tmp_path: Path) -> None:
    async with running() as (server, api):
        cluster(server)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            webhook = Process(tmp_path, api.url, PORT=str(taken.getsockname()[1]))
            async with webhook.started() as process:
                assert await process.wait() == 1
    assert "address already in use" in webhook.log.read_text().lower()


async def test_a_wrong_setting_ends_it_with_a_message(tmp_path: Path) -> None:
    webhook = Process(tmp_path, "http://127.0.0.1:9", CERT_MODE="magic")
    async with webhook.started() as process:
        assert await process.wait() == 2
    assert "TOKEN_METER_WEBHOOK_CERT_MODE" in webhook.log.read_text()


async def test_it_waits_for_an_api_server_that_is_not_there_yet(tmp_path: Path) -> None:
    webhook = Process(tmp_path, f"http://127.0.0.1:{free_ports(1)[0]}", DRAIN_SECONDS="0")
    async with webhook.started() as process, aiohttp.ClientSession() as plain:
        await until(lambda: "cannot follow" in webhook.log.read_text())
        async with plain.get(f"http://127.0.0.1:{webhook.admin_port}/healthz") as response:
            assert response.status == 200
        async with plain.get(f"http://127.0.0.1:{webhook.admin_port}/readyz") as response:
            assert response.status == 503
        process.terminate()
        assert await process.wait() == 0
