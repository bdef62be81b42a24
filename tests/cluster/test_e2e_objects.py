"""The objects of `make e2e-kind`, which needs a Docker engine, are ones that the API server takes."""

from typing import Any

from tests import crds
from tests.cluster.cluster import as_list
from tests.cluster.control_plane import ControlPlane
from tests.e2e.settings import documents, inference_service, valkey


@crds.needed
def test_the_api_server_takes_every_object(cluster: ControlPlane) -> None:
    """The Service and Deployment of valkey, the Gateway and the InferenceService, strictly read."""
    everything: list[Any] = [*valkey(), *documents("gateway"), inference_service()]
    spaces = [one for one in everything if one["kind"] == "Namespace"]
    cluster.apply([*spaces, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve-test"}}])
    cluster.kubectl(
        "apply", "-f-", "--dry-run=server", "--server-side", "--validate=strict", stdin=as_list(everything)
    )
