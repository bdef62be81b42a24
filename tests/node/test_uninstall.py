"""token-meter goes, as docs/install.md says it: nothing of ours stays, and predictor pods are as they were."""

import pytest

from tests.cluster.cluster import NodeCluster
from tests.cluster.installation import LABEL, MANIFESTS, eventually
from tests.cluster.test_uninstall import OURS, names
from tests.e2e.flow import GATEWAY_OBJECTS
from tests.node import product
from tests.node.conftest import Start

pytestmark = pytest.mark.xdist_group("node")
MADE = "app.kubernetes.io/managed-by=token-meter"


def test_nothing_of_ours_stays_and_predictor_pods_are_as_they_were(
    predictor: Start, installed: NodeCluster
) -> None:
    model = predictor()
    eventually(lambda: model.ready)
    where = f"--namespace={model.namespace}"
    eventually(lambda: "aigatewayroute" in made(installed, "--all-namespaces"))
    before, key = model.identity(), model.key
    try:
        installed.kubectl("label", "namespace", model.namespace, f"{LABEL}-")
        eventually(lambda: made(installed, where) == f"secret/token-meter-{model.name}-key")
        installed.kubectl("delete", "-k", str(MANIFESTS), "--timeout=3m")
        kinds = installed.kubectl("api-resources", "--verbs=list", "--output=name").split()
        left = installed.kubectl(
            "get", ",".join(kinds), "--all-namespaces", f"--selector={OURS}", "--output=name"
        )
        assert names(left) == []
        with model.reached() as port:
            assert model.ask(port, key)[0] == 200
        assert model.identity() == before
    finally:
        installed.kubectl("apply", "-k", str(MANIFESTS))
        product.rolled_out(installed)


def made(cluster: NodeCluster, where: str) -> str:
    """What the controller has made there, as `kind/name`."""
    return "\n".join(
        names(cluster.kubectl("get", GATEWAY_OBJECTS, where, f"--selector={MADE}", "--output=name"))
    )
