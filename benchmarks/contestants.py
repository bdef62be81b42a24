"""The proxies that are compared, each a process of its own in front of the same mock server."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import parts
from benchmarks import configs

_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 60.0
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running proxy: its name, its port, and its process (None: there is nothing between client and server)."""

    name: str
    port: int
    pid: int | None
    ready_seconds: float = 0.0
    """From its start until its port took connections."""
    share: float = 1.0
    """Of a case's load: what takes a hundred times as long is measured by a part of it."""
    admin_port: int = 0

    def cpu_seconds(self) -> float:
        """CPU used so far, user and system, by all its threads."""
        if self.pid is None:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_kib(self) -> int:
        """Resident memory."""
        if self.pid is None:
            return 0
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError(f"{self.name} has ended")


def python() -> str:
    """What the proxies in Python run on: the system's own interpreter where it is of this version. As the images' it is
    built with profile-guided optimisation, and one that somebody has built on a machine mostly is not."""
    name = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return name if os.access(name, os.X_OK) else sys.executable


def _packages(*more: Path) -> dict[str, str]:
    """The environment in which it finds what is installed here."""
    return {"PYTHONPATH": os.pathsep.join([str(_ROOT), *map(str, more), sysconfig.get_path("purelib")])}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mock_server() -> Iterator[int]:
    """The model server behind all of them; gives its port."""
    port = free_port()
    with _running([sys.executable, "-m", "benchmarks.mock_server", str(port)], {}, port):
        yield port


@contextlib.contextmanager
def direct(upstream: int) -> Iterator[Contestant]:
    """No proxy: what the others' latency is added to."""
    yield Contestant("direct", upstream, None)


@contextlib.contextmanager
def sidecar(
    upstream: int, server: str = "vllm", *, ledger: bool = True, name: str = "sidecar"
) -> Iterator[Contestant]:
    """Our sidecar as it runs in a pod: metering, logging, with its spool and its events on their way to a ledger.

    Before vLLM it asks for running usage, reads it in each chunk and takes it out again.
    """
    with contextlib.ExitStack() as stack:
        port, admin = free_port(), free_port()
        environment = _packages() | {
            "TOKEN_METER_HOST": "127.0.0.1",
            "TOKEN_METER_PORT": str(port),
            "TOKEN_METER_ADMIN_PORT": str(admin),
            "TOKEN_METER_UPSTREAM": f"http://127.0.0.1:{upstream}",
            "TOKEN_METER_BASE_PATH": "/v1",
            "TOKEN_METER_MODELS": "bench",
            "TOKEN_METER_SERVER": server,
        }
        if ledger:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="token-meter-bench-"))
            environment["TOKEN_METER_SPOOL_DIR"] = folder
            environment |= {
                "TOKEN_METER_NAMESPACE": "bench",
                "TOKEN_METER_INFERENCE_SERVICE": "bench",
            }
            environment["TOKEN_METER_LEDGER_URL"] = f"http://127.0.0.1:{upstream}"
        pid, seconds = stack.enter_context(_running([python(), "-m", "sidecar"], environment, port))
        yield Contestant(name, port, pid, seconds, admin_port=admin)


@contextlib.contextmanager
def envoy(upstream: int) -> Iterator[Contestant]:
    """Envoy as a plain proxy with one worker: no filter but the router, no access log."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="token-meter-bench-") as folder:
        config = Path(folder) / "envoy.json"
        config.write_text(json.dumps(configs.envoy(port, upstream)))
        command = [
            str(parts.path("envoy")),
            "--config-path", str(config), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error",
        ]  # fmt: skip
        with _running(command, {}, port) as (pid, seconds):
            yield Contestant("envoy", port, pid, seconds)


@contextlib.contextmanager
def nginx(upstream: int) -> Iterator[Contestant | None]:
    """nginx of this machine, one worker; None where there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="token-meter-bench-") as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(configs.nginx(Path(folder), port, upstream))
        with _running([found, "-p", folder, "-c", str(config)], {}, port) as (pid, seconds):
            yield Contestant("nginx", port, pid, seconds)


@contextlib.contextmanager
def aiohttp(upstream: int) -> Iterator[Contestant]:
    """A plain aiohttp proxy on uvloop."""
    port = free_port()
    command = [python(), "-m", "benchmarks.aiohttp_proxy", str(port), str(upstream)]
    with _running(command, _packages(), port) as (pid, seconds):
        yield Contestant("aiohttp", port, pid, seconds, share=0.5)


@contextlib.contextmanager
def litellm(upstream: int) -> Iterator[Contestant]:
    """LiteLLM's proxy with one worker, no database and no callbacks."""
    port = free_port()
    packages = parts.path("litellm").parent.parent
    with tempfile.TemporaryDirectory(prefix="token-meter-bench-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(configs.litellm(upstream)))
        command = [
            python(), "-c", "from litellm import run_server; run_server()",
            "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1",
        ]  # fmt: skip
        environment = _packages(packages) | {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
        with _running(command, environment, port) as (pid, seconds):
            yield Contestant("litellm", port, pid, seconds, share=0.02)


@contextlib.contextmanager
def webhook() -> Iterator[Contestant]:
    """The webhook's admission port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.webhook_server", str(port)]
    with _running(command, {}, port) as (pid, seconds):
        yield Contestant("webhook", port, pid, seconds)


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str], port: int) -> Iterator[tuple[int, float]]:
    """Its process id, and the seconds until its port answered."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            _wait_for(port, process)
            yield process.pid, time.monotonic() - begun
        except RuntimeError as error:
            said.seek(0)
            error.add_note(said.read()[-2000:].decode(errors="replace"))
            raise
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")
