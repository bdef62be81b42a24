"""What a TLS client sees of a certificate that is swapped under a running server."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs import keys
from certs.keys import Pair
from certs.serving import Mounted, Swap
from tests.certs.clock import Clock

CA = keys.make_ca(datetime.now(UTC))
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def leaf() -> Pair:
    return keys.mint_leaf(CA, ["meter.ns.svc", "127.0.0.1"], datetime.now(UTC))


@asynccontextmanager
async def served(swap: Swap) -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=swap.context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connect(
    port: int, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, name: str = "meter.ns.svc"
) -> Connection:
    context = ssl.create_default_context(cadata=CA.certificate_pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = version
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)


async def close(connection: Connection) -> None:
    connection[1].close()
    await asyncio.gather(connection[1].wait_closed(), return_exceptions=True)


def serial(connection: Connection) -> int:
    return int(connection[1].get_extra_info("ssl_object").getpeercert()["serialNumber"], 16)


async def echoed(connection: Connection) -> bytes:
    connection[1].write(b"still here")
    return await connection[0].readexactly(10)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["meter.ns.svc", "127.0.0.1"])
async def test_new_handshakes_get_the_new_leaf_and_open_connections_go_on(
    version: ssl.TLSVersion, name: str
) -> None:
    swap, first, second = Swap(), leaf(), leaf()
    swap.load(first.certificate_pem, first.key_pem)
    async with served(swap) as port:
        old = await connect(port, version, name)
        swap.load(second.certificate_pem, second.key_pem)
        new = await connect(port, version, name)
        assert (serial(old), serial(new)) == (
            first.certificate.serial_number,
            second.certificate.serial_number,
        )
        assert await echoed(old) == await echoed(new) == b"still here"
        await close(old)
        await close(new)


async def test_a_pair_that_does_not_fit_changes_nothing() -> None:
    swap, good = Swap(), leaf()
    swap.load(good.certificate_pem, good.key_pem)
    with pytest.raises(ssl.SSLError):
        swap.load(good.certificate_pem, leaf().key_pem)
    async with served(swap) as port:
        connection = await connect(port)
        assert serial(connection) == good.certificate.serial_number
        await close(connection)


async def test_without_a_certificate_handshakes_fail_and_the_server_lives() -> None:
    swap, good = Swap(), leaf()
    async with served(swap) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(port)
        swap.load(good.certificate_pem, good.key_pem)
        connection = await connect(port)
        assert await echoed(connection) == b"still here"
        await close(connection)


def test_tls_before_1_2_is_not_spoken() -> None:
    assert Swap().context.minimum_version == ssl.TLSVersion.TLSv1_2


def ready(mounted: Mounted) -> bool:
    return mounted.ready


def write(folder: Path, pair: Pair) -> None:
    (folder / "tls.crt").write_bytes(pair.certificate_pem)
    (folder / "tls.key").write_bytes(pair.key_pem)


def test_mounted_files_are_followed_and_a_half_written_pair_is_not_taken(tmp_path: Path) -> None:
    clock = Clock()
    clock.now = datetime.now(UTC)
    mounted = Mounted(tmp_path, clock=clock)
    mounted.step()
    assert not ready(mounted)
    first, second = leaf(), leaf()
    write(tmp_path, first)
    mounted.step()
    assert ready(mounted)
    (tmp_path / "tls.crt").write_bytes(second.certificate_pem)
    mounted.step()
    assert ready(mounted)
    assert mounted._leaf() == first.certificate
    write(tmp_path, second)
    mounted.step()
    assert mounted._leaf() == second.certificate
    assert mounted.expiry == {"leaf": second.certificate.not_valid_after_utc}


def test_an_expired_mounted_certificate_is_not_ready(tmp_path: Path) -> None:
    clock = Clock()
    clock.now = datetime.now(UTC)
    mounted = Mounted(tmp_path, clock=clock)
    write(tmp_path, leaf())
    mounted.step()
    clock.forward(days=8)
    assert not ready(mounted)


def test_a_key_with_a_password_is_refused_without_asking(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pair = leaf()
    locked = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(ssl.SSLError):
        Swap().load(pair.certificate_pem, locked)


def test_leaves_live_a_week() -> None:
    assert timedelta(days=7) == keys.LEAF_LIFE
