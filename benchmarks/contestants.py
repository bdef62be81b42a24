"""The proxies that are compared, each a process of its own in front of the same mock server."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import parts

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running proxy: its name, its port, and its process."""

    name: str
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """CPU used so far, user and system, by all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_kib(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError(f"{self.name} has ended")


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
def sidecar(upstream: int) -> Iterator[Contestant]:
    """Our sidecar, metering and logging."""
    port, admin = free_port(), free_port()
    environment = {
        "TOKEN_METER_HOST": "127.0.0.1",
        "TOKEN_METER_PORT": str(port),
        "TOKEN_METER_ADMIN_PORT": str(admin),
        "TOKEN_METER_UPSTREAM": f"http://127.0.0.1:{upstream}",
        "TOKEN_METER_BASE_PATH": "/v1",
        "TOKEN_METER_MODELS": "bench",
    }
    with _running([sys.executable, "-m", "sidecar"], environment, port) as pid:
        yield Contestant("sidecar", port, pid)


@contextlib.contextmanager
def envoy(upstream: int) -> Iterator[Contestant]:
    """Envoy as a plain proxy with one worker: no filter but the router, no access log."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="token-meter-bench-") as folder:
        config = Path(folder) / "envoy.json"
        config.write_text(json.dumps(_envoy_config(port, upstream)))
        command = [
            str(parts.path("envoy")),
            "--config-path", str(config), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error",
        ]  # fmt: skip
        with _running(command, {}, port) as pid:
            yield Contestant("envoy", port, pid)


@contextlib.contextmanager
def webhook() -> Iterator[Contestant]:
    """The webhook's admission port."""
    port = free_port()
    with _running([sys.executable, "-m", "benchmarks.webhook_server", str(port)], {}, port) as pid:
        yield Contestant("webhook", port, pid)


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str], port: int) -> Iterator[int]:
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def _envoy_config(port: int, upstream: int) -> dict[str, object]:
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    limit = {"max_connections": 65536, "max_pending_requests": 65536, "max_requests": 65536}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": {
                                        "@type": manager,
                                        "stat_prefix": "bench",
                                        "route_config": {
                                            "virtual_hosts": [
                                                {
                                                    "name": "all",
                                                    "domains": ["*"],
                                                    "routes": [
                                                        {
                                                            "match": {"prefix": "/"},
                                                            "route": {"cluster": "mock", "timeout": "0s"},
                                                        }
                                                    ],
                                                }
                                            ]
                                        },
                                        "http_filters": [
                                            {
                                                "name": "envoy.filters.http.router",
                                                "typed_config": {"@type": router},
                                            }
                                        ],
                                    },
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "mock",
                    "type": "STATIC",
                    "circuit_breakers": {"thresholds": [limit]},
                    "load_assignment": {"cluster_name": "mock", "endpoints": endpoints},
                }
            ],
        }
    }
