"""The ledger as a process of its own, and what the tests send to it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

PATIENCE = 60.0
BATCH = "application/cloudevents-batch+json"
Json = dict[str, Any]


class Ledger:
    """Started on free ports; stopped, killed and started again on the same database."""

    def __init__(self, database_url: str, folder: Path, **settings: str) -> None:
        self.database_url = database_url
        self.folder = folder
        self._log = folder / f"ledger-{uuid4().hex[:6]}.log"
        self._settings = {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "ADMIN_PORT": "0",
            "AUTH": "none",
            "DATABASE_URL": database_url,
        } | settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self.admin_port = 0

    def __enter__(self) -> "Ledger":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, until it serves."""
        environ = {f"TOKEN_METER_LEDGER_{name}": value for name, value in self._settings.items()}
        known = {k: v for k, v in os.environ.items() if not k.startswith(("TOKEN_METER_", "KUBERNETES_"))}
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ledger"], env=known | environ, stdout=log, stderr=log
            )
        self.admin_port = self._announced("admin")
        if wait:
            self.port = self._announced("events and usage")

    def _announced(self, what: str) -> int:
        end = time.monotonic() + PATIENCE
        while not (found := re.search(rf"listening on port (\d+): {what}", self.log)):
            if time.monotonic() > end or self.ended is not None:
                raise AssertionError(f"the ledger does not listen ({what}):\n{self.log}")
            time.sleep(0.02)
        return int(found.group(1))

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    @property
    def ended(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll() if self._process else None

    @property
    def cpu_seconds(self) -> float:
        """CPU used so far, user and system."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_kib(self) -> int:
        """Resident memory."""
        return int(self._proc("status").partition("VmRSS:")[2].split()[0])

    def _proc(self, name: str) -> str:
        assert self._process
        return Path(f"/proc/{self._process.pid}/{name}").read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, when it ends."""
        assert self._process
        return self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End it in good order."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        self.wait()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        port: int = 0,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request: status, headers (lower case), body."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def send(self, events: Sequence[Any], token: str = "") -> Json:
        """A batch, which is taken; the answer."""
        status, _, body = self.try_send(events, token)
        assert status == 200, body
        answer: Json = json.loads(body)
        return answer

    def try_send(self, events: Sequence[Any], token: str = "") -> tuple[int, Mapping[str, str], bytes]:
        """A batch, whatever becomes of it."""
        headers = {"Content-Type": BATCH} | ({"Authorization": f"Bearer {token}"} if token else {})
        return self.request("POST", "/api/v1/events", json.dumps(events).encode(), headers)

    def usage(self, query: str = "", token: str = "") -> Json:
        """The answer to a query of the last two days."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        status, _, body = self.request("GET", f"/api/v1/usage?from=48h&{query}", headers=headers)
        assert status == 200, body
        answer: Json = json.loads(body)
        return answer

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value now; 0 where it has not been counted."""
        status, _, body = self.request("GET", "/metrics", port=self.admin_port)
        assert status == 200, body
        shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        head = f"{name}{{{shown}}} " if labels else f"{name} "
        values = [line[len(head) :] for line in body.decode().splitlines() if line.startswith(head)]
        return float(values[0]) if values else 0.0

    def total(self) -> tuple[int, int]:
        """Requests and tokens of all time."""
        status, _, body = self.request("GET", "/api/v1/usage?from=2000-01-01&to=2100-01-01")
        assert status == 200, body
        total = json.loads(body)["total"]
        return total["requests"], total["total_tokens"]


def event(
    id_: str = "", *, place: str = "team-a/llama/llama-predictor-0", user: str | None = "alice", **data: Any
) -> Json:
    """A usage event of now, 3 + 4 tokens unless `data` says otherwise."""
    namespace, service, pod = place.split("/")
    time_of = data.pop("time", datetime.now(UTC).isoformat())
    usage: Json = {
        "model": "m",
        "gateway_model": "m",
        "endpoint": "chat_completions",
        "channel": "gateway",
        "stream": False,
        "status": 200,
        "outcome": "completed",
        "input_tokens": 3,
        "output_tokens": 4,
        "cached_input_tokens": 0,
        "reasoning_tokens": 0,
        "counted_by": "server",
        "exact": True,
        "gateway_saw": "final_usage",
        "charged_by_gateway": True,
        "request_id": "r",
        "duration_ms": 1.5,
    } | data
    usage.setdefault("total_tokens", usage["input_tokens"] + usage["output_tokens"])
    return {
        "specversion": "1.0",
        "id": id_ or uuid4().hex,
        "source": f"/namespaces/{namespace}/inferenceservices/{service}/pods/{pod}",
        "type": "dev.token-meter.usage.v1",
        "time": time_of,
        "data": usage,
    } | ({"subject": user} if user else {})
