"""What the plan renders, judged by a real API server with each AI Gateway release's own CRDs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.resources import PLURALS
from tests import crds
from tests.cluster import official
from tests.cluster.control_plane import ControlPlane
from tests.gateway.test_schemas import NO_CRD_HERE, plans

pytestmark = crds.needed
RELEASES = crds.ai_gateway_releases()


def test_the_judge_refuses_what_the_rules_refuse(cluster: ControlPlane) -> None:
    """A Service as the backend, as the guide once had it."""
    namespace(cluster, "models")
    backend = {
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "AIServiceBackend",
        "metadata": {"name": "m", "namespace": "models"},
        "spec": {"schema": {"name": "OpenAI"}, "backendRef": {"name": "m", "kind": "Service", "port": 80}},
    }
    answer = applied(cluster, backend)
    assert answer.status == 422
    assert "BackendRef must be a Backend resource" in answer.body["message"]


@pytest.fixture(scope="module")
def newest_again(cluster: ControlPlane) -> Iterator[None]:
    """The other tests of this process find the newest release."""
    yield
    official.replace_ai_gateway(cluster.client, official.newest_ai_gateway())


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, cluster: ControlPlane, newest_again: None) -> str:
    """Each release in turn."""
    name: str = request.param
    official.replace_ai_gateway(cluster.client, name)
    return name


def test_every_object_is_accepted(release: str, cluster: ControlPlane) -> None:
    texts = {json.dumps(obj) for plan in plans(release) for obj in plan.objects}
    objects = [obj for obj in map(json.loads, texts) if obj["kind"] not in NO_CRD_HERE and not too_long(obj)]
    for name in {obj["metadata"]["namespace"] for obj in objects}:
        namespace(cluster, name)
    for obj in objects:
        answer = applied(cluster, obj)
        assert answer.status in {200, 201}, f"{answer.body['message']}: {obj}"


def too_long(obj: dict[str, Any]) -> bool:
    """A Service that selects a label longer than labels may be: KServe cannot make such pods either."""
    return obj["kind"] == "Service" and any(len(value) > 63 for value in obj["spec"]["selector"].values())


def namespace(cluster: ControlPlane, name: str) -> None:
    """Make sure that it exists."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert cluster.client.request("POST", "/api/v1/namespaces", body).status in {201, 409}


def applied(cluster: ControlPlane, obj: dict[str, Any]) -> Any:
    """Server-side apply, dry run, no unknown field allowed."""
    version, metadata = obj["apiVersion"], obj["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    path = f"{root}/namespaces/{metadata['namespace']}/{PLURALS[obj['kind']]}/{metadata['name']}"
    query = "dryRun=All&fieldManager=tests&fieldValidation=Strict"
    return cluster.client.request("PATCH", f"{path}?{query}", obj, "application/apply-patch+yaml")
