"""LLMInferenceServices, whose CRD comes after the controller has started."""

from typing import Any

from tests import crds
from tests.cluster import official
from tests.cluster.installation import eventually
from tests.gateway.controller.conftest import Start
from tests.gateway.controller.scene import Scene
from tests.gateway.test_llm import an_llm

pytestmark = crds.needed
API = "serving.kserve.io/v1alpha2"


def test_one_is_followed_from_its_crd_to_its_end(start: Start, scene: Scene) -> None:
    run = start()
    scene.serve("m")
    eventually(lambda: scene.routed() == ["llama"])
    official.install_kind(scene.plane.client, "LLMInferenceService")
    obj: dict[str, Any] = an_llm() | {"apiVersion": API}
    status = obj.pop("status")
    obj["metadata"] = {"name": "m", "namespace": scene.models}
    obj["spec"]["model"]["name"] = "llama"
    client, path = scene.plane.client, f"/apis/{API}/namespaces/{scene.models}/llminferenceservices"
    stored = client.request("POST", path, obj)
    assert stored.status == 201, stored.body
    said = client.request("PATCH", f"{path}/m/status", {"status": status}, "application/merge-patch+json")
    assert said.status == 200, said.body

    mine = [f"{scene.models}/llama", "llama", f"publishers/{scene.models}/models/m"]
    eventually(lambda: scene.routed() == sorted(mine))
    eventually(lambda: "GatewayCountsAlone" in scene.told())
    assert "the installed APIs have changed" in run.log
    client.request("DELETE", f"{path}/m")
    eventually(lambda: scene.routed() == ["llama"])
