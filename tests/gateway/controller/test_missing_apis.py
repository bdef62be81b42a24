"""A controller in a cluster that is not ready for it yet: no KServe, no Gateway API, no Envoy or AI Gateway."""

from pathlib import Path

from tests import crds
from tests.cluster import envoy_gateway, official
from tests.cluster.control_plane import ControlPlane
from tests.cluster.controller import Run, kubeconfig
from tests.cluster.installation import eventually
from tests.gateway.controller.conftest import install
from tests.gateway.controller.scene import Scene
from tests.gateway.controller.test_controller import LOCAL
from tests.gateway.controller.test_upheaval import leads

pytestmark = crds.needed


def test_apis_that_are_installed_after_the_controller_are_followed_without_a_restart(tmp_path: Path) -> None:
    with ControlPlane(tmp_path) as plane:
        install(plane)
        run = Run(plane.folder, kubeconfig(plane), {})
        try:
            eventually(lambda: leads(run))
            official.install(plane.client)
            envoy_gateway.install_crds(plane.client)
            with Scene(plane) as scene:
                scene.serve()
                eventually(lambda: scene.kinds() == LOCAL)
                scene.run("delete", "isvc", "m")
                scene.nothing_is_left()
            assert run.running
        finally:
            run.stop()
