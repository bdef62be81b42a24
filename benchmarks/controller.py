"""The controller with a thousand InferenceServices on a real API server: to settled, at rest, one change."""

import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contestants import Contestant
from tests import crds
from tests.cluster import envoy_gateway, official
from tests.cluster.control_plane import ControlPlane
from tests.cluster.controller import ACCOUNT, SYSTEM, Run, kubeconfig
from tests.gateway.controller.scene import Scene
from tests.gateway.scenes import injected, llm
from tests.manifests.render import objects

SERVICES = 1000
CHANGES = 5
SETTLED = 2.0
"""Seconds without a write."""
PATIENCE = 600.0
_WRITES = re.compile(r"^token_meter_gateway_writes\{[^}]*\} (\S+)$", re.MULTILINE)
_DONE = re.compile(r"^token_meter_gateway_reconcile_seconds_count (\S+)$", re.MULTILINE)
_REQUESTS = re.compile(r"^apiserver_request_total\{[^}]*\} (\S+)$", re.MULTILINE)


def measure(services: int, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The figures; None where there are no CRDs to begin with."""
    if not crds.FOLDER.is_dir():
        say("  controller: left out, there are no CRDs (TOKEN_METER_CRDS)")
        return None
    with tempfile.TemporaryDirectory(prefix="token-meter-bench-") as folder, _cluster(Path(folder)) as scene:
        _fill(scene, services)
        requests = _requests(scene)
        began = time.monotonic()
        run = Run(Path(folder), kubeconfig(scene.plane), {"RATE_LIMIT": "true", "RESYNC_SECONDS": "5"})
        try:
            settled = _settle(run, began, services)
            result: dict[str, Any] = {"services": services, "settle_s": round(settled, 1)}
            result["calls"] = round((_requests(scene) - requests) / services, 2)
            result["writes"] = round(_sum(run, _WRITES) / services, 2)
            result["objects"] = len(scene.made()) / services
            result["at_rest"] = _at_rest(run, services)
            result["change_s"] = round(statistics.median(_change(scene, i) for i in range(CHANGES)), 3)
            process = Contestant(name="controller", port=run.port, pid=run.pid)
            result["resident_kib"] = process.resident_kib()
            result["cpu_ms"] = round(process.cpu_seconds() / services * 1e3, 2)
        finally:
            run.stop()
    say(f"  controller: {services} settled in {result['settle_s']} s, one change in {result['change_s']} s")
    return result


@contextmanager
def _cluster(folder: Path) -> Iterator[Scene]:
    with ControlPlane(folder) as plane:
        official.install(plane.client)
        envoy_gateway.install_crds(plane.client)
        names = (ACCOUNT, SYSTEM, "token-meter")
        ours = [obj for obj in objects() if obj["metadata"]["name"] in names and obj["kind"] != "Deployment"]
        plane.apply(ours)
        scene = Scene(plane)
        scene.__enter__()  # what is in it goes with the whole cluster
        yield scene


def _fill(scene: Scene, services: int) -> None:
    """InferenceServices as the webhook stores them, with a ready predictor."""
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{scene.models}/inferenceservices"

    def create(number: int) -> None:
        obj = injected(llm(f"m{number}", scene.models))
        del obj["metadata"]["uid"]
        answer = scene.plane.client.request("POST", path, obj)
        if answer.status != 201:
            raise RuntimeError(str(answer.body))
        scene.ready(f"m{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(services)))


def _settle(run: Run, began: float, services: int) -> float:
    """Seconds until the last write of all that there are to be."""
    writes, last = 0.0, began
    while time.monotonic() < began + PATIENCE:
        now, found = time.monotonic(), _sum(run, _WRITES)
        if found != writes:
            writes, last = found, now
        elif writes > services and now - last > SETTLED:
            return last - began
        time.sleep(0.05)
    raise RuntimeError(f"it has not settled after {PATIENCE:.0f} s")


def _at_rest(run: Run, services: int) -> int:
    """Writes while everything is looked at again ten times."""
    writes, looked = _sum(run, _WRITES), _sum(run, _DONE)
    end = time.monotonic() + PATIENCE
    while _sum(run, _DONE) < looked + 10 * services and time.monotonic() < end:
        time.sleep(0.2)
    return int(_sum(run, _WRITES) - writes)


def _change(scene: Scene, number: int) -> float:
    """Seconds from the answer to an owner's change to the object that follows from it."""
    limit = 5000 + number
    path = f"/apis/serving.kserve.io/v1beta1/namespaces/{scene.models}/inferenceservices/m{number}"
    policies = f"/apis/gateway.envoyproxy.io/v1alpha1/namespaces/{scene.models}/backendtrafficpolicies"
    body = {"metadata": {"annotations": {"token-meter.dev/limit": f"{limit}/hour"}}}
    scene.plane.client.request("PATCH", path, body, "application/merge-patch+json")
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE:
        spec = scene.plane.client.request("GET", f"{policies}/token-meter-m{number}").body["spec"]
        if spec["rateLimit"]["global"]["rules"][0]["limit"]["requests"] == limit:
            return time.monotonic() - began
    raise RuntimeError("a change was not followed")


def _requests(scene: Scene) -> float:
    text = str(scene.plane.client.request("GET", "/metrics").body)
    return sum(map(float, _REQUESTS.findall(text)))


def _sum(run: Run, pattern: re.Pattern[str]) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{run.port}/metrics", timeout=30) as answer:
            return sum(map(float, pattern.findall(answer.read().decode())))
    except OSError:  # it is not listening yet
        return 0.0


def markdown(result: dict[str, Any]) -> str:
    """The report's part."""
    return "\n".join(
        [
            f"Controller, real API server, {result['services']} InferenceServices of"
            f" {result['objects']:.0f} objects each:",
            "",
            "| figure | |",
            "|---|---|",
            f"| from nothing to settled | {result['settle_s']} s |",
            f"| API requests, writes for each | {result['calls']}, {result['writes']} |",
            f"| CPU for each, all of this together | {result['cpu_ms']} ms |",
            f"| writes while all are looked at ten times again | {result['at_rest']} |",
            f"| one change to its object (median of {CHANGES}) | {result['change_s']} s |",
            f"| resident memory | {result['resident_kib'] / 1024:.0f} MiB |",
        ]
    )
