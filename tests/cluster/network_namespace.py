"""A program that listens on all addresses, in a network namespace of its own: there it has nothing but a loopback.

Unix sockets lead through, for these cross network namespaces: from ports of 127.0.0.1 outside to the program's
ports, and from the same port inside as outside to what the program calls. Run as a module, this is either end of it:
`ROUTE... [-- PROGRAM]`, where a route is `LISTEN=CONNECT` and each end a port or the path of a socket.
"""

import asyncio
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from demo.processes import Child, Processes, python

UNSHARE = ("unshare", "--net", "--map-root-user", "--")
REPOSITORY = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


def unavailable() -> str | None:
    """Why no namespace can be made here; None where it can."""
    if not shutil.which(UNSHARE[0]) or not shutil.which("setpriv"):
        return "no network namespace can be made: unshare and setpriv (util-linux) are not installed"
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"no network namespace can be made: {done.stderr.strip()}"
    return None


def start(
    processes: Processes,
    name: str,
    command: Sequence[str | Path],
    env: Mapping[str, str],
    *,
    ports: Mapping[int, int],
    calls: int,
) -> Child:
    """Start a program that calls 127.0.0.1:`calls`; its ports are the values of `ports`, and the keys
    those of 127.0.0.1 that lead to them.

    The sockets are in the folder of `processes`, which is the current one of all of them. The program ends with the
    returned child, also when that is killed.
    """
    ours = {"PATH": env["PATH"], "PYTHONPATH": str(REPOSITORY)}
    inward = {port: f"{name}.{inner}.in" for port, inner in ports.items()}
    outward = f"{name}.out"
    ends = python("tests.cluster.network_namespace")
    processes.start(
        f"{name}-forwarder",
        [*ends, *(f"{port}={way}" for port, way in inward.items()), f"{outward}={calls}"],
        ours,
    )
    routes = [*(f"{way}={ports[port]}" for port, way in inward.items()), f"{calls}={outward}"]
    inside = [*UNSHARE, *ends, *routes, "--", "setpriv", "--pdeathsig", "KILL", "--", *command]
    return processes.start(name, inside, {**env, **ours})


async def forward(route: str) -> None:
    """Listen at the route's first end, and lead each connection to its second."""
    listen, connect = route.split("=")

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await _connect(connect)
        except OSError:  # nobody there yet: the caller sees its connection closed
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        for end in (writer, far_writer):
            end.close()

    if listen.isdecimal():
        await asyncio.start_server(lead, LOOPBACK, int(listen))
    else:
        await asyncio.start_unix_server(lead, listen)


async def _connect(end: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if end.isdecimal():
        return await asyncio.open_connection(LOOPBACK, int(end))
    return await asyncio.open_unix_connection(end)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


def _raise_loopback() -> None:
    """A new namespace's loopback is down (netdevice(7))."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


async def _main(routes: Sequence[str], program: Sequence[str]) -> int:
    if program:
        _raise_loopback()
    for route in routes:
        await forward(route)
    if not program:
        await asyncio.Event().wait()
    return await (await asyncio.create_subprocess_exec(*program, env=os.environ)).wait()


if __name__ == "__main__":
    ARGUMENTS = [*sys.argv[1:], "--"]
    END = ARGUMENTS.index("--")
    sys.exit(asyncio.run(_main(ARGUMENTS[:END], ARGUMENTS[END + 1 : -1])))
