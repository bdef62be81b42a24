"""token-meter goes, as docs/install.md says it: nothing of it stays, and what it injected lives on."""

from collections.abc import Callable, Iterator

import pytest

from tests import crds
from tests.cluster.conftest import Namespace
from tests.cluster.control_plane import ControlPlane
from tests.cluster.installation import Installation
from tests.cluster.owner import Owner
from tests.cluster.replica import NAMESPACE
from tests.cluster.shapes import inference_service, server, sidecars

pytestmark = crds.needed
OURS = "app.kubernetes.io/part-of=token-meter"


@pytest.fixture
def uninstall(installed: Installation) -> Iterator[Callable[[], None]]:
    """Uninstalls; the next test finds it installed again."""
    yield installed.uninstall
    installed.install()
    installed.start(1)


def test_nothing_of_ours_stays_and_an_injected_inference_service_can_be_changed_and_deleted(
    installed: Installation, namespace: Namespace, uninstall: Callable[[], None]
) -> None:
    plane = installed.plane
    owner = Owner(installed, inference_service("guide", namespace(kserve="first")))
    owner.file("apply")
    (sidecar,) = sidecars(owner.stored())
    assert {name.partition("/")[0] for name in labelled(plane)} >= {
        "namespace",
        "deployment.apps",
        "mutatingwebhookconfiguration.admissionregistration.k8s.io",
    }

    uninstall()
    assert labelled(plane) == []
    assert [
        name for name in of_the_cluster(plane) if "/token-meter-webhook" in name or NAMESPACE in name
    ] == []

    owner.add_argument()
    owner.file("apply")
    assert "--trust-remote-code" in server(owner.stored())["args"]
    assert sidecars(owner.stored()) == [sidecar]
    plane.kubectl("delete", "namespace", owner.manifest["metadata"]["namespace"], "--timeout=180s")


def labelled(plane: ControlPlane) -> list[str]:
    """`kind/name` of all that the manifests made, whatever its kind."""
    return names(
        plane.kubectl("get", kinds(plane), "--all-namespaces", f"--selector={OURS}", "--output=name")
    )


def of_the_cluster(plane: ControlPlane) -> list[str]:
    """`kind/name` of all that stands in no namespace."""
    return names(plane.kubectl("get", kinds(plane, "--namespaced=false"), "--output=name"))


def kinds(plane: ControlPlane, *arguments: str) -> str:
    """The kinds that can be listed, comma separated."""
    return ",".join(plane.kubectl("api-resources", "--verbs=list", "--output=name", *arguments).split())


def names(printed: str) -> list[str]:
    """The lines that are a name; the others are kubectl's warnings."""
    return [line for line in printed.splitlines() if "/" in line and " " not in line]
