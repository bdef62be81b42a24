"""Every way to write an InferenceService, on a real API server with KServe's webhooks before or after ours.

After each the sidecar stands there once, what the user wrote is as the user wrote it, and nothing in the pod template
has changed that the user did not change.
"""

import copy
import json
from typing import Any

import pytest

from tests import crds
from tests.cluster.cluster import KubectlError
from tests.cluster.conftest import Namespace
from tests.cluster.installation import Installation
from tests.cluster.owner import Owner
from tests.cluster.shapes import SIDECAR, inference_service, server, sidecars

pytestmark = crds.needed
Json = dict[str, Any]
CASES = [
    *((shape, "first") for shape in ("guide", "framework-field", "vllm-runtime", "custom", "knative")),
    *((shape, "last") for shape in ("guide", "framework-field", "custom")),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-kserve-{case[1]}")
def owner(request: pytest.FixtureRequest, installed: Installation, namespace: Namespace) -> Owner:
    """The owner of each shape, in a namespace of its own."""
    shape, order = request.param
    return Owner(installed, inference_service(shape, namespace(kserve=order)))


def with_argument(spec: Json) -> Json:
    """The stored spec with the owner's change and no other."""
    changed = {"spec": copy.deepcopy(spec)}
    server(changed)["args"].append("--trust-remote-code")
    return changed["spec"]


def test_client_side_apply(owner: Owner) -> None:
    owner.file("apply")
    first = owner.stored()
    assert len(sidecars(first)) == 1

    owner.file("apply")
    assert owner.stored()["metadata"]["generation"] == 1

    owner.add_argument()
    owner.file("apply")
    changed = owner.stored()
    assert changed["spec"] == with_argument(first["spec"])

    owner.run("annotate", "isvc", "m", "team=a")
    assert owner.stored()["spec"] == changed["spec"]


def test_server_side_apply_by_one_and_then_another_manager(owner: Owner) -> None:
    # Forced: what KServe's defaulter moved is in conflict with another manager, sidecar or not.
    one, two = ("--server-side", "--field-manager=one"), ("--server-side", "--field-manager=two")
    owner.file("apply", *one)
    first = owner.stored()
    assert len(sidecars(first)) == 1
    assert SIDECAR not in str(managed_by("one", first))

    owner.file("apply", *one)
    assert owner.stored()["metadata"]["generation"] == 1
    owner.file("diff", *one)  # fails where there is a difference, as GitOps tools would show
    owner.file("apply", *two, "--force-conflicts")
    assert owner.stored()["metadata"]["generation"] == 1

    owner.add_argument()
    owner.file("apply", *two, "--force-conflicts")
    assert owner.stored()["spec"] == with_argument(first["spec"])


def test_replace(owner: Owner) -> None:
    owner.file("create")
    first = owner.stored()
    owner.file("replace")
    assert owner.stored()["spec"] == first["spec"]
    assert len(sidecars(owner.stored())) == 1

    owner.add_argument()
    owner.file("replace")
    assert owner.stored()["spec"] == with_argument(first["spec"])


def test_patch_and_edit(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.file("create")
    first = owner.stored()
    owner.run("patch", "isvc", "m", "--type=merge", '-p={"spec": {"predictor": {"minReplicas": 2}}}')
    patched = owner.stored()
    assert patched["spec"] == {**first["spec"], "predictor": {**first["spec"]["predictor"], "minReplicas": 2}}

    monkeypatch.setenv("KUBE_EDITOR", "sed -i s/minReplicas:.2/minReplicas:\\ 3/")
    owner.run("edit", "isvc", "m")
    assert owner.stored()["spec"]["predictor"].pop("minReplicas") == 3
    assert len(sidecars(owner.stored())) == 1


def test_dry_run_shows_the_sidecar_and_stores_nothing(owner: Owner) -> None:
    shown = json.loads(owner.file("apply", "--dry-run=server", "-o=json"))
    assert len(sidecars(shown)) == 1
    with pytest.raises(KubectlError, match="NotFound"):
        owner.stored()


def test_what_the_user_wrote_is_as_the_user_wrote_it(owner: Owner) -> None:
    written = copy.deepcopy(server(owner.manifest))
    owner.file("apply")
    stored = server(owner.stored())
    for key in ("args", "image", "resources", "storageUri", "modelFormat"):
        if key in written:
            assert stored[key] == written[key]
    assert [entry for entry in stored.get("env", []) if entry in written.get("env", [])] == written.get(
        "env", []
    )


def managed_by(manager: str, obj: Json) -> list[Json]:
    """The fields that a manager owns."""
    return [entry["fieldsV1"] for entry in obj["metadata"]["managedFields"] if entry["manager"] == manager]
