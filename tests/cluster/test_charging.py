"""The ledger as in its pod charges what the gateway did not, with the rights that the manifests give it and no more."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isvc import GatewayRef
from ledger.buckets import buckets
from ledger.ratelimit import RateLimitService
from tests import crds
from tests.cluster.conftest import Namespace
from tests.cluster.installation import MANIFESTS, Installation
from tests.gateway.scenes import FACTS, Object, llm, one, planned
from tests.ledger.limits import Limits
from tests.ledger.process import PATIENCE, Ledger
from tests.ledger.test_auth import sidecar
from tests.ledger.test_buckets import MODEL, USER
from tests.ledger.test_charger import aborted, eventually, state

pytestmark = crds.needed
RIGHTS = MANIFESTS / "components" / "charge-gateway" / "rbac.yaml"
SYSTEM = "envoy-gateway-system"
LIMIT = 1000


@pytest.fixture
def allowed(installed: Installation) -> Iterator[None]:
    """Envoy Gateway's namespace; what the test puts there goes again."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    installed.plane.apply([namespace])
    yield
    installed.plane.kubectl("delete", "--ignore-not-found", "-f", str(RIGHTS))
    installed.plane.kubectl("delete", "--ignore-not-found", "secret", "envoy-rate-limit", "-n", SYSTEM)


@pytest.mark.usefixtures("allowed")
async def test_the_ledger_charges_by_the_clusters_objects_once_it_may_read_the_ca(
    installed: Installation, namespace: Namespace, tmp_path: Path
) -> None:
    plane, where = installed.plane, namespace(injection=None)
    listeners = [{"name": "http", "protocol": "HTTP", "port": 80}]
    place: Object = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gateway", "namespace": where},
        "spec": {"gatewayClassName": "none", "listeners": listeners},
    }
    facts = replace(FACTS, gateway=GatewayRef(where, "gateway"))
    served = llm("m", where, args=["--model_name=m"], annotations={"limit": f"{LIMIT}/year"})
    plan = planned(served, facts)
    route, policy = one(plan, "AIGatewayRoute"), one(plan, "BackendTrafficPolicy")
    plane.apply([place, route, policy])
    own = tmp_path / "token"
    own.write_text(plane.kubectl("create", "token", "token-meter-ledger", "--namespace=token-meter-system"))
    url = f"sqlite:///{tmp_path}/l.db"
    (bucket,) = buckets(place, route, policy, {MODEL: "m", USER: "alice"})
    with Limits(tmp_path, place, plan.objects) as limits:
        settings = {
            "AUTH": "kubernetes",
            "KUBERNETES_URL": plane.url,
            "KUBERNETES_TOKEN_FILE": str(own),
            "KUBERNETES_CA_FILE": str(plane.ca),
            "RATE_LIMIT": limits.target,
        }
        with Ledger(url, tmp_path, **settings) as ledger:
            token = sidecar(plane, where, "pod-0", service="m")
            event = aborted("a", "alice") | {"source": f"/namespaces/{where}/inferenceservices/m/pods/pod-0"}
            assert ledger.send([event], token)["stored"] == 1
            eventually(lambda: "charging waits" in ledger.log, ledger)
            assert "envoy-rate-limit" in ledger.log
            assert state(url, "a") == "pending"
            ca = base64.b64encode(limits.ca).decode()
            secret = {"metadata": {"name": "envoy-rate-limit", "namespace": SYSTEM}, "data": {"ca.crt": ca}}
            plane.apply([{"apiVersion": "v1", "kind": "Secret", **secret}])
            plane.kubectl("apply", "-f", str(RIGHTS))
            eventually(lambda: state(url, "a") == "charged", ledger)
        async with RateLimitService(limits.target, ca=limits.ca, timeout=PATIENCE) as service:
            assert await service.take(bucket, 1) == LIMIT - 7 - 1
