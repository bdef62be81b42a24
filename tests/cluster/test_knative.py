"""Knative's own webhook admits the Knative Service that KServe makes of every injected InferenceService."""

from collections.abc import Iterator

import pytest

from tests import crds
from tests.cluster import network_namespace
from tests.cluster.conftest import Namespace
from tests.cluster.installation import Installation
from tests.cluster.knative import KnativeWebhook
from tests.cluster.owner import Owner
from tests.cluster.shapes import sidecars
from tests.oracle import make
from tests.webhook import recorded

pytestmark = crds.needed
CASES = [
    "hf-model",
    "custom",
    "vllm-runtime",
    "canary-percent.injected",
    "logger.injected",
    "min-replicas-zero.injected",
]


@pytest.fixture(scope="module")
def knative(installed: Installation) -> Iterator[KnativeWebhook]:
    """Knative's webhook, running."""
    if why := network_namespace.unavailable():
        pytest.skip(why)
    with KnativeWebhook(installed.plane) as webhook:
        yield webhook


@pytest.mark.parametrize("name", CASES)
def test_the_knative_service_is_admitted(
    name: str, installed: Installation, namespace: Namespace, knative: KnativeWebhook
) -> None:
    manifest = recorded.without_sidecar(recorded.given(f"knative/{name}"))
    place = namespace(kserve="first")
    manifest["metadata"]["namespace"] = place
    runtimes = recorded.all_runtimes()
    owner = Owner(installed, manifest)
    owner.file("create")
    stored = owner.stored()
    assert len(sidecars(stored)) == 1
    made = make(stored, runtimes, "Knative")
    assert made.works, made.failed
    for workload in made.workloads.values():
        assert workload.knative
        assert knative.refusal(workload.pod) is None


def test_a_native_sidecar_is_refused_there(knative: KnativeWebhook) -> None:
    one = {"image": "example/one"}
    sidecar = {"name": "token-meter", "image": "example/two", "restartPolicy": "Always"}
    refused = knative.refusal({"containers": [one], "initContainers": [sidecar]})
    assert "must not set the field(s): spec.template.spec.initContainers" in str(refused)
