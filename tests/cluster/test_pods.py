"""The Pod webhook, in the API server: the model's volume reaches the sidecar, and no other Pod is touched."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests import crds
from tests.cluster.conftest import Namespace
from tests.cluster.installation import Installation, eventually
from tests.cluster.owner import Owner
from tests.cluster.shapes import SIDECAR, inference_service
from tests.oracle import make
from tests.webhook import recorded

pytestmark = crds.needed
Json = dict[str, Any]
VOLUME = "kserve-provision-location"
MOUNT = {"name": VOLUME, "mountPath": "/mnt/models", "readOnly": True}


class Pods:
    """Creates Pods of one injected InferenceService, as dry runs, in a namespace with the label and in one without."""

    def __init__(self, installed: Installation, labelled: str, unlabelled: str) -> None:
        self._installed = installed
        self._places = (labelled, unlabelled)
        owner = Owner(installed, inference_service("vllm-runtime", labelled))
        owner.file("apply")
        self._stored = owner.stored()
        for place in self._places:
            eventually(partial(self._has_account, place))

    def pod(self) -> Json:
        """What KServe's controller and its storage initializer make of the InferenceService."""
        made = make(self._stored, recorded.all_runtimes())
        (workload,) = made.workloads.values()
        spec = {**workload.pod, "automountServiceAccountToken": False}
        spec["volumes"] = [*spec.get("volumes", []), {"name": VOLUME, "emptyDir": {}}]
        workload.server["volumeMounts"] = [*workload.server.get("volumeMounts", []), MOUNT]
        labels = {"serving.kserve.io/inferenceservice": "m"}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m", "labels": labels}, "spec": spec}

    def create(self, pod: Json) -> tuple[Json, Json, float]:
        """The spec that is stored with the label, the one without it, and how often the webhook was asked."""
        before = self._installed.asked()
        specs = []
        for place in self._places:
            path = f"/api/v1/namespaces/{place}/pods?dryRun=All&fieldValidation=Strict"
            answer = self._installed.plane.client.request("POST", path, pod)
            assert answer.status == 201, answer.body
            specs.append(answer.body["spec"])
        return specs[0], specs[1], self._installed.asked() - before

    def _has_account(self, place: str) -> bool:
        path = f"/api/v1/namespaces/{place}/serviceaccounts/default"
        return self._installed.plane.client.request("GET", path).status == 200


@pytest.fixture
def pods(installed: Installation, namespace: Namespace) -> Pods:
    return Pods(installed, namespace(), namespace(injection=None))


def test_the_sidecar_gets_the_models_volume_read_only_and_nothing_else_changes(pods: Pods) -> None:
    stored, plain, _ = pods.create(pods.pod())
    mounts = sidecar(stored)["volumeMounts"]
    assert mounts.pop() == MOUNT
    assert stored == {**plain, "initContainers": [with_mounts(c) for c in plain["initContainers"]]}


def without_the_volume(pod: Json) -> None:
    pod["spec"]["volumes"].pop()
    for container in pod["spec"]["containers"]:
        container["volumeMounts"] = [one for one in container["volumeMounts"] if one != MOUNT]


def without_the_sidecar(pod: Json) -> None:
    pod["spec"]["initContainers"].remove(sidecar(pod["spec"]))


def without_kserves_label(pod: Json) -> None:
    del pod["metadata"]["labels"]


@pytest.mark.parametrize(
    ("change", "asked"),
    [(without_the_volume, True), (without_the_sidecar, False), (without_kserves_label, False)],
)
def test_another_pod_is_stored_as_it_is(pods: Pods, change: Callable[[Json], None], asked: bool) -> None:
    pod = pods.pod()
    change(pod)
    stored, plain, count = pods.create(pod)
    assert stored == plain
    assert (count > 0) == asked


def sidecar(spec: Json) -> Json:
    """The sidecar's container in a Pod's spec."""
    found: Json = next(one for one in spec["initContainers"] if one["name"] == SIDECAR)
    return found


def with_mounts(container: Json) -> Json:
    """The container, with a list of mounts even where it has none."""
    return {"volumeMounts": [], **container} if container["name"] == SIDECAR else container
