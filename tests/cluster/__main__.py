"""`python -m tests.cluster` (`make e2e-cluster`): a cluster to use by hand, until Ctrl-C."""

import signal
import sys
import tempfile
from pathlib import Path

import parts
from demo.processes import DemoError
from tests import crds
from tests.cluster import official
from tests.cluster.cluster import KubectlError
from tests.cluster.control_plane import ControlPlane

USE = """\
export KUBECONFIG={kubeconfig}
alias kubectl={kubectl}
kubectl apply -f demo/inferenceservice.yaml
"""


def main() -> int:
    if not crds.FOLDER.is_dir():
        print("e2e-cluster: no CRDs: set TOKEN_METER_CRDS to the folder that holds them", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="token-meter-cluster-") as folder:
        try:
            with ControlPlane(Path(folder)) as plane:
                official.install(plane.client)
                print(USE.format(kubeconfig=plane.kubeconfig, kubectl=parts.path("kubectl")))
                print("Ctrl-C ends it.", flush=True)
                signal.pause()
        except (DemoError, KubectlError, parts.PartError) as error:
            print(f"e2e-cluster: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
