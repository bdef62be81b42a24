"""The official CRDs in a cluster: KServe, Gateway API, Envoy Gateway, and one release of AI Gateway."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests import crds
from tests.cluster.client import Client
from tests.cluster.cluster import Cluster

FOLDERS = ("kserve", "gateway-api", "envoy-gateway")
NOT_OURS = {
    "LLMInferenceService",
    "GRPCRoute",
    "ListenerSet",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
    "XBackend",
    "XBackendTrafficPolicy",
    "XMesh",
}
"""Kinds that hardly a test needs: left out, for the API server takes a second for each."""
PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECONDS = 180.0

Crd = Mapping[str, Any]


def install(client: Client) -> None:
    """Create the CRDs, with the newest AI Gateway's, and wait until the API server serves them."""
    _create(client, *FOLDERS, f"ai-gateway/{newest_ai_gateway()}")


def newest_ai_gateway() -> str:
    """The newest AI Gateway release that there are CRDs of."""
    return max(crds.ai_gateway_releases(), key=lambda name: [int(part) for part in name[1:].split(".")])


def replace_ai_gateway(client: Client, release: str) -> None:
    """Put the CRDs of another AI Gateway release in place of those that stand there, with all their objects."""
    remove_ai_gateway(client)
    install_ai_gateway(client, release)


def remove_ai_gateway(client: Client) -> None:
    """Delete AI Gateway's CRDs with all their objects."""
    for crd in crds.load(f"ai-gateway/{newest_ai_gateway()}"):
        path = f"{PATH}/{crd['metadata']['name']}"
        client.request("DELETE", path)
        _until(client, path, 404)


def install_ai_gateway(client: Client, release: str) -> None:
    """Create the CRDs of a release where there are none."""
    _create(client, f"ai-gateway/{release}")


def upgrade_ai_gateway(cluster: Cluster, release: str) -> None:
    """Apply the CRDs of a newer release over those that stand there, whose objects stay."""
    cluster.apply(crds.load(f"ai-gateway/{release}"), "--server-side", "--force-conflicts")


def install_kind(client: Client, kind: str) -> None:
    """One of KServe's kinds that are left out at first."""
    _create_all(client, [crd for crd in crds.load("kserve") if crd["spec"]["names"]["kind"] == kind])


def _create(client: Client, *folders: str) -> None:
    _create_all(client, [crd for crd in crds.load(*folders) if crd["spec"]["names"]["kind"] not in NOT_OURS])


def _create_all(client: Client, found: list[Crd]) -> None:
    with ThreadPoolExecutor(4) as pool:  # checking their rules is what takes the API server its time
        list(pool.map(lambda crd: _create_one(client, crd), found))
    for crd in found:
        spec = crd["spec"]
        for version in spec["versions"]:
            if version["served"]:
                path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}?limit=1"
                _until(client, path, 200)


def _create_one(client: Client, crd: Crd) -> None:
    answer = client.request("POST", PATH, crd)
    assert answer.status == 201, answer.body


def _until(client: Client, path: str, status: int) -> None:
    end = time.monotonic() + SECONDS
    while (said := client.request("GET", path).status) != status:
        if time.monotonic() > end:
            raise TimeoutError(f"{path} still answers {said}, not {status}, after {SECONDS:.0f} s")
        time.sleep(0.05)
