"""`python -m tests.cluster` (`make e2e-cluster`): everything installed in a cluster to use by hand, until Ctrl-C."""

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
from tests.cluster.installation import LABEL, Installation
from tests.cluster.kserve_server import LABEL as KSERVE_LABEL

NAMESPACE = "kserve-test"
USE = """\
kube-apiserver, etcd and kube-controller-manager run, with KServe's, Gateway API's, Envoy Gateway's and AI Gateway's
CRDs, token-meter's manifests and two replicas of its webhook. The namespace {namespace} is labelled for injection.

  export KUBECONFIG={kubeconfig}
  alias kubectl={kubectl}
  kubectl apply -f demo/inferenceservice.yaml
  kubectl get inferenceservice llama3-1b -n {namespace} -o yaml    # the sidecar is in it
  kubectl get events -n {namespace}

Logs: {folder}/*.log
Ctrl-C ends it and removes it all.
"""


def main() -> int:
    if not crds.FOLDER.is_dir():
        print("e2e-cluster: no CRDs: set TOKEN_METER_CRDS to the folder that holds them", file=sys.stderr)
        return 1
    # SIGINT too: a shell that starts this in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="token-meter-cluster-") as folder:
            _run(Path(folder))
    except (DemoError, KubectlError, parts.PartError, OSError) as error:
        print(f"e2e-cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _run(folder: Path) -> None:
    with ControlPlane(folder) as plane:
        official.install(plane.client)
        with Installation(plane) as installation:
            installation.start(1)
            labels = {LABEL: "enabled", KSERVE_LABEL: "first"}
            metadata = {"name": NAMESPACE, "labels": labels}
            plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
            kubectl = parts.path("kubectl")
            said = USE.format(
                namespace=NAMESPACE, kubeconfig=plane.kubeconfig, kubectl=kubectl, folder=folder
            )
            print(said, flush=True)
            signal.pause()


if __name__ == "__main__":
    sys.exit(main())
