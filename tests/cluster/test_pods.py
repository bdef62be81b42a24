"""The Pod webhook, in the API server: the sidecar gets the model's volume and what it sends to the ledger with.

No other Pod is touched.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import crds
from tests.cluster.conftest import Namespace
from tests.cluster.installation import Installation, eventually
from tests.cluster.owner import Owner
from tests.cluster.shapes import SIDECAR, inference_service
from tests.ledger.process import Ledger, event
from tests.oracle import make
from tests.webhook import recorded
from webhook.sending import SPOOL_VOLUME, TOKEN_VOLUME

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

    def store(self, pod: Json) -> Json:
        """The Pod as it is stored in the namespace with the label, no dry run."""
        path = f"/api/v1/namespaces/{self._places[0]}/pods?fieldValidation=Strict"
        answer = self._installed.plane.client.request("POST", path, pod)
        assert answer.status == 201, answer.body
        stored: Json = answer.body
        return stored

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


def test_the_sidecar_gets_what_it_needs_and_nothing_else_changes(pods: Pods) -> None:
    stored, plain, _ = pods.create(pods.pod())
    assert MOUNT in sidecar(stored)["volumeMounts"]
    own = len(plain["volumes"])
    assert [volume["name"] for volume in stored["volumes"][own:]] == [SPOOL_VOLUME, TOKEN_VOLUME]
    stored["volumes"] = stored["volumes"][:own]
    for key in ("env", "volumeMounts"):
        del sidecar(stored)[key], sidecar(plain)[key]
    assert stored == plain


def test_the_ledger_takes_what_a_pod_sends_with_the_token_that_it_is_given(
    pods: Pods, installed: Installation, tmp_path: Path
) -> None:
    plane, pod = installed.plane, pods.pod()
    # As KServe names the pods of a long or a named predictor: not by the InferenceService.
    pod["metadata"]["name"] = "0123456789-deployment-5d8f7-x2x2x"
    stored = pods.store(pod)
    namespace, name = stored["metadata"]["namespace"], stored["metadata"]["name"]
    environ = {entry["name"]: entry for entry in sidecar(stored["spec"])["env"]}
    assert environ["TOKEN_METER_POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    volume = next(one for one in stored["spec"]["volumes"] if one["name"] == TOKEN_VOLUME)
    asked = volume["projected"]["sources"][0]["serviceAccountToken"]
    # What the kubelet asks for (TokenRequest), for the Pod's account and bound to it.
    token = plane.kubectl(
        *("create", "token", "default", f"--namespace={namespace}", f"--audience={asked['audience']}"),
        *("--bound-object-kind=Pod", f"--bound-object-name={name}"),
        f"--duration={asked['expirationSeconds']}s",
    ).strip()
    own = tmp_path / "token"
    own.write_text(plane.kubectl("create", "token", "token-meter-ledger", "--namespace=token-meter-system"))
    settings = {"KUBERNETES_URL": plane.url, "KUBERNETES_TOKEN_FILE": str(own)}
    settings |= {"AUTH": "kubernetes", "KUBERNETES_CA_FILE": str(plane.ca)}
    with Ledger(f"sqlite:///{tmp_path}/l.db", tmp_path, **settings) as ledger:
        place = "/".join(environ[f"TOKEN_METER_{key}"]["value"] for key in ("NAMESPACE", "INFERENCE_SERVICE"))
        answer = ledger.send([event(place=f"{place}/{name}"), event(place=f"{namespace}/n/{name}")], token)
    assert (answer["stored"], [one["index"] for one in answer["rejected"]]) == (1, [1])


def told_where_to_send(pod: Json) -> None:
    sidecar(pod["spec"])["env"].append({"name": "TOKEN_METER_LEDGER_URL", "value": "https://elsewhere"})
    sidecar(pod["spec"]).setdefault("volumeMounts", []).append(MOUNT)


def without_the_sidecar(pod: Json) -> None:
    pod["spec"]["initContainers"].remove(sidecar(pod["spec"]))


def without_kserves_label(pod: Json) -> None:
    del pod["metadata"]["labels"]


@pytest.mark.parametrize(
    ("change", "asked"),
    [(told_where_to_send, True), (without_the_sidecar, False), (without_kserves_label, False)],
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
