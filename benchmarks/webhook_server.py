"""The webhook's admission port over TLS, its cluster known already. `python -m benchmarks.webhook_server PORT`.

`/nothing` answers `allowed: true` without deciding: what TLS, HTTP and the review's JSON cost by themselves.
"""

import asyncio
import ssl
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from isvc.modes import Mode
from webhook import admission
from webhook.admission import Answer, Outcome
from webhook.app import State, admission_app
from webhook.plan import Facts


class _Known:
    """A cluster of which everything has been read."""

    missing: list[str] = []

    async def facts(self, namespace: str) -> Facts:
        return Facts(default_mode=Mode.STANDARD, default_namespace=namespace)

    async def refresh(self) -> bool:
        return False


class _Certificate:
    ready = True


def _context(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    pem = folder / "bench.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(secret + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def _nothing(http: web.Request) -> web.Response:
    request = admission.read(await http.read())
    return web.Response(
        body=admission.encode(request.uid, Answer(Outcome.UNCHANGED)), content_type="application/json"
    )


async def _main(port: int) -> None:
    app = admission_app(State(cluster=_Known(), source=_Certificate()))  # type: ignore[arg-type]
    app.router.add_post("/nothing", _nothing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with tempfile.TemporaryDirectory() as folder:
        context = _context(Path(folder))
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
