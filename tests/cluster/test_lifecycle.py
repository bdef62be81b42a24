"""From opting in to opting out, on a real API server with RBAC; who is asked, who is told, and what stays."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import crds
from tests.cluster.cluster import KubectlError
from tests.cluster.conftest import Namespace
from tests.cluster.installation import Installation, eventually
from tests.cluster.owner import Owner
from tests.cluster.replica import NAMESPACE
from tests.cluster.shapes import SHAPES, inference_service, sidecars
from tests.oracle import make
from tests.webhook import recorded

pytestmark = crds.needed
Json = dict[str, Any]


@pytest.mark.parametrize("shape", SHAPES)
def test_opting_out_takes_out_exactly_what_was_put_in(
    shape: str, installed: Installation, namespace: Namespace
) -> None:
    never = Owner(installed, inference_service(shape, namespace(injection=None, kserve="first")))
    never.file("apply")
    owner = Owner(installed, inference_service(shape, namespace(kserve="first")))
    owner.file("apply")
    assert len(sidecars(owner.stored())) == 1

    owner.run("annotate", "isvc", "m", "token-meter.dev/inject=false")
    assert owner.stored()["spec"] == never.stored()["spec"]

    owner.run("annotate", "isvc", "m", "token-meter.dev/inject-")
    assert len(sidecars(owner.stored())) == 1


def test_an_unlabelled_namespace_never_calls_the_webhook(
    installed: Installation, namespace: Namespace
) -> None:
    owner = Owner(installed, inference_service("guide", namespace(injection=None)))
    before = installed.asked()
    owner.file("apply")
    owner.run("annotate", "isvc", "m", "team=a")
    owner.run("delete", "isvc", "m")
    assert installed.asked() == before

    labelled = Owner(installed, inference_service("guide", namespace()))
    labelled.file("apply")
    assert installed.asked() == before + 1


def test_where_injection_is_annotated_only_who_asks_gets_the_sidecar(
    installed: Installation, namespace: Namespace
) -> None:
    place = namespace(injection="annotated")
    asks = Owner(installed, inference_service("guide", place, "asks", inject="true"))
    quiet = Owner(installed, inference_service("guide", place, "quiet"))
    assert "Warning" not in asks.file("apply") + quiet.file("apply")
    assert len(sidecars(asks.stored())) == 1
    assert sidecars(quiet.stored()) == []


def test_who_is_skipped_is_told_why(installed: Installation, namespace: Namespace) -> None:
    manifest = inference_service("guide", namespace())
    manifest["spec"]["predictor"] = {"containers": [{"name": "own", "image": "example/own:1"}]}
    owner = Owner(installed, manifest)
    said = owner.file("apply")
    assert "Warning: token-meter: the sidecar is not injected" in said
    assert sidecars(owner.stored()) == []
    eventually(lambda: "InjectionSkipped" in owner.run("get", "events"))


def test_a_wrong_annotation_is_refused_by_its_name(installed: Installation, namespace: Namespace) -> None:
    owner = Owner(installed, inference_service("guide", namespace(), limit="many"))
    with pytest.raises(KubectlError, match=r"token-meter\.dev/limit"):
        owner.file("apply")


@pytest.fixture
def set_image(installed: Installation) -> Iterator[Callable[[str], None]]:
    """Sets the cluster's sidecar image and waits until the webhook has read it."""
    plane = installed.plane
    shipped = plane.get("configmap", "token-meter", NAMESPACE)["data"]["sidecar-image"]

    def change(image: str) -> None:
        patch = json.dumps({"data": {"sidecar-image": image}})
        plane.kubectl("patch", "configmap", "token-meter", f"--namespace={NAMESPACE}", f"-p={patch}")
        eventually(lambda: [one["image"] for one in installed.probe()] == [image])

    yield change
    change(shipped)


def test_a_newer_image_reaches_who_asks_for_it_and_nobody_else(
    installed: Installation, namespace: Namespace, set_image: Callable[[str], None]
) -> None:
    place = namespace(kserve="first")
    owner = Owner(installed, inference_service("guide", place))
    owner.file("apply")
    first = owner.stored()

    set_image("token-meter/sidecar:newer")
    owner.run("annotate", "isvc", "m", "team=a")
    assert owner.stored()["spec"] == first["spec"]
    owner.file("apply")
    assert owner.stored()["spec"] == first["spec"]

    owner.run("annotate", "isvc", "m", "token-meter.dev/revision=2")
    (newer,) = sidecars(owner.stored())
    assert newer["image"] == "token-meter/sidecar:newer"
    assert without_sidecar(owner.stored()) == without_sidecar(first)


@pytest.mark.parametrize("shape", ["guide", "vllm-runtime"])
def test_the_pod_is_admitted_where_pod_security_is_restricted(
    shape: str, installed: Installation, namespace: Namespace
) -> None:
    place = namespace(kserve="first")
    manifest = inference_service(shape, place)
    manifest["spec"]["predictor"]["securityContext"] = {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    owner = Owner(installed, manifest)
    owner.file("apply")
    made = make(owner.stored(), recorded.all_runtimes())
    assert made.works
    owner.run("label", "namespace", place, "pod-security.kubernetes.io/enforce=restricted")
    eventually(lambda: "default" in owner.run("get", "serviceaccounts"))
    for workload in made.workloads.values():
        labels = {"serving.kserve.io/inferenceservice": "m"}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "m", "namespace": place, "labels": labels},
            "spec": workload.pod,
        }
        path = f"/api/v1/namespaces/{place}/pods?dryRun=All&fieldValidation=Strict"
        answer = installed.plane.client.request("POST", path, pod)
        assert answer.status == 201, answer.body


def without_sidecar(obj: Json) -> Json:
    """The stored spec less the sidecar's container."""
    predictor = dict(obj["spec"]["predictor"])
    del predictor["initContainers"]
    return predictor
