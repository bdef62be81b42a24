"""The real rate limit service and valkey: InferenceServices' limits, and a certificate like Envoy Gateway's."""

import json
import os
import signal
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import parts
from certs import keys
from demo import objects, ratelimit
from demo.processes import Child, Processes, free_ports, listening
from demo.stack import answers

SECONDS = 60.0
Object = Mapping[str, Any]


class Limits:
    """Both programs on loopback; the service can go away and come back, its buckets stay."""

    def __init__(self, folder: Path, gateway: Object, found: Iterable[Object]) -> None:
        self._folder = folder
        now = datetime.now(UTC)
        ca = keys.make_ca(now)
        leaf = keys.mint_leaf(ca, ["*.envoy-gateway-system"], now)
        (folder / "tls.crt").write_bytes(leaf.certificate_pem)
        (folder / "tls.key").write_bytes(leaf.key_pem)
        self.ca = ca.certificate_pem
        self.ca_file = folder / "ca.crt"
        self.ca_file.write_bytes(self.ca)
        (folder / "config").mkdir()
        (folder / "config" / "limits.yaml").write_text(
            json.dumps(ratelimit.configuration(objects.read(gateway, found)))
        )
        self._valkey_port, self._grpc_port, self._http_port, self._debug_port = free_ports(4)
        self.target = f"127.0.0.1:{self._grpc_port}"
        self._valkey = Processes(folder)
        self._service = Processes(folder)

    def __enter__(self) -> "Limits":
        try:
            command: list[str | Path] = [
                parts.path("valkey"),
                "--port",
                str(self._valkey_port),
                "--bind",
                "127.0.0.1",
            ]
            child = self._valkey.start("valkey", [*command, "--save", ""])
            self._valkey.wait(child, lambda: listening(self._valkey_port), SECONDS)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._valkey.stop()

    def start(self) -> Child:
        """The service, until it answers."""
        environment = ratelimit.environment(
            str(self._folder), self._valkey_port, self._grpc_port, self._http_port, self._debug_port
        ) | {
            "GRPC_SERVER_USE_TLS": "true",
            "GRPC_SERVER_TLS_CERT": str(self._folder / "tls.crt"),
            "GRPC_SERVER_TLS_KEY": str(self._folder / "tls.key"),
        }
        self._service = Processes(self._folder)
        self._child = self._service.start("ratelimit", [parts.path("ratelimit")], environment)
        self._service.wait(self._child, lambda: answers(self._http_port, "/healthcheck"), SECONDS)
        return self._child

    def stop(self) -> None:
        """The service goes away."""
        self._service.stop()

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        os.kill(self._child.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again, also what it was asked meanwhile."""
        os.kill(self._child.process.pid, signal.SIGCONT)
