"""A sidecar as the pod starts it: `python -m sidecar` with an environment, on free ports."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from demo.processes import free_ports
from tests.sidecar.client import Client
from tests.sidecar.upstream import BOUND, PROBE

_Found = TypeVar("_Found")


def eventually(look: Callable[[], _Found], what: str, bound: float = BOUND) -> _Found:
    """Look again and again until there is something; fails after the bound."""
    end = time.monotonic() + bound
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {bound} s")
        time.sleep(0.01)
    return found


class Sidecar:
    """A running sidecar. `settings` are TOKEN_METER_ variables without their prefix, in lower case."""

    def __init__(self, upstream_port: int, output: Path, *, wait: bool = True, **settings: object) -> None:
        port, admin_port = free_ports(2)
        given = {
            "host": "127.0.0.1",
            "port": port,
            "admin_port": admin_port,
            "upstream": f"http://127.0.0.1:{upstream_port}",
            "readiness_path": PROBE.decode(),
            "namespace": "models",
            "inference_service": "llama",
            **settings,
        }
        self.port, self.admin_port = (int(str(given[name])) for name in ("port", "admin_port"))
        environ = {f"TOKEN_METER_{name.upper()}": str(value) for name, value in given.items()}
        self._output = output
        with output.open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sidecar"],
                stdout=stdout,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ["PATH"], "HOSTNAME": "llama-predictor-0", **environ},
            )
        if wait:
            eventually(lambda: self.admin("/readyz")[0] == 200 and self.listens(), "the sidecar is ready")

    def client(self, *, receive_buffer: int | None = None) -> Client:
        """A new connection to the data port."""
        return Client(self.port, receive_buffer=receive_buffer)

    def admin(self, path: str) -> tuple[int, str]:
        """GET a path of the admin port: status (0 where nobody listens) and body."""
        assert self.process.poll() is None, self.errors()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=BOUND) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    def listens(self) -> bool:
        """Whether the data port takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def settle(self) -> None:
        """Wait until the sidecar has read everything that was sent to it before: it has one event loop, and this
        is a request on it."""
        with socket.create_connection(("127.0.0.1", self.admin_port), BOUND) as admin:
            admin.sendall(b"GET /healthz HTTP/1.1\r\nhost: sidecar\r\n\r\n")
            assert admin.recv(12) == b"HTTP/1.1 200"
            while admin.recv(4096):
                pass

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """All samples by name and labels."""
        status, text = self.admin("/metrics")
        assert status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> int:
        """The sum of a metric's samples that have these labels."""
        return int(
            sum(
                value
                for (sample, given), value in self.metrics().items()
                if sample == name and labels.items() <= dict(given).items()
            )
        )

    def tokens(self, **labels: str) -> tuple[int, int]:
        """Input and output tokens counted so far."""
        name = "token_meter_tokens_total"
        return (
            self.total(name, direction="input", **labels),
            self.total(name, direction="output", **labels),
        )

    def output(self) -> str:
        """Everything on its standard output."""
        return self._output.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines so far (whole ones)."""
        return [json.loads(line) for line in self.output().split("\n")[:-1]]

    def record(self, request_id: str) -> dict[str, Any]:
        """The log line of the request with this x-request-id."""

        def find() -> dict[str, Any] | None:
            found = [line for line in self.lines() if line.get("request_id") == request_id]
            assert len(found) <= 1, found
            return found[0] if found else None

        line = eventually(find, f"the log line of {request_id}")
        assert line is not None
        return line

    def resident_bytes(self) -> int:
        """The memory that the process holds."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def terminate(self) -> None:
        """Send SIGTERM, as the kubelet does."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(BOUND)

    def errors(self) -> str:
        """What it wrote on standard error, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def stop(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
