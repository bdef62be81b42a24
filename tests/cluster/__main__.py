"""`python -m tests.cluster` (`make e2e-cluster`): everything installed in a cluster to use by hand, until Ctrl-C."""

import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import yaml

import parts
from demo.processes import DemoError
from tests import crds
from tests.cluster import envoy_gateway, neighbours, official
from tests.cluster.ai_gateway_standin import Controller
from tests.cluster.cluster import KubectlError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.controller import Run, kubeconfig
from tests.cluster.envoy_gateway import EnvoyGateway
from tests.cluster.installation import LABEL, Installation
from tests.cluster.kserve_server import LABEL as KSERVE_LABEL

NAMESPACE = "kserve-test"
GATEWAY = Path(__file__).parents[1] / "e2e" / "objects" / "gateway.yaml"
STATUS = {"deploymentMode": "Standard", "conditions": [{"type": "PredictorReady", "status": "True"}]}
USE = """\
kube-apiserver, etcd and kube-controller-manager run, with KServe's, Gateway API's, Envoy Gateway's and AI Gateway's
CRDs, token-meter's manifests, two replicas of its webhook and two of its controller. {envoy_gateway}
The namespace {namespace} is labelled for injection, default/envoy-ai-gateway-basic is the guide's Gateway.

  export KUBECONFIG={kubeconfig}
  alias kubectl={kubectl}
  kubectl apply -f demo/inferenceservice.yaml
  kubectl get inferenceservice llama3-1b -n {namespace} -o yaml    # the sidecar is in it

KServe isn't there to say that the predictor is ready, so say it; the gateway objects are there at once:

  kubectl patch isvc llama3-1b -n {namespace} --subresource=status --type=merge -p '{status}'
  kubectl get {kinds} -A -l app.kubernetes.io/managed-by=token-meter
  kubectl get events -n {namespace}
  token-meter check
  kubectl label namespace {namespace} {label}-    # and they are gone

Logs: {folder}/*.log
Ctrl-C ends it and removes it all.
"""
WITH = "So do Envoy Gateway's controller,\nwith a rate limit backend, and a stand-in for AI Gateway's."
WITHOUT = "Envoy Gateway is left out:\n{reason}."
KINDS = "aigatewayroutes,backendtrafficpolicies,backends,referencegrants"


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
    with ControlPlane(folder) as plane, ExitStack() as running:
        official.install(plane.client)
        envoy_gateway.install_crds(plane.client)
        installation = running.enter_context(Installation(plane))
        installation.start(1)
        neighbours.install(plane)
        plane.apply(yaml.safe_load_all(GATEWAY.read_text()))
        reason = envoy_gateway.unavailable()
        if reason is None:
            running.enter_context(EnvoyGateway(plane))
            running.enter_context(Controller(plane.client))
        settings = {} if reason is None else {"RATE_LIMIT": "true"}
        for _ in range(2):
            running.callback(Run(folder, kubeconfig(plane), settings).stop)
        labels = {LABEL: "enabled", KSERVE_LABEL: "first"}
        metadata = {"name": NAMESPACE, "labels": labels}
        plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        said = USE.format(
            namespace=NAMESPACE,
            kubeconfig=plane.kubeconfig,
            kubectl=parts.path("kubectl"),
            folder=folder,
            label=LABEL,
            kinds=KINDS,
            status=json.dumps({"status": STATUS}),
            envoy_gateway=WITHOUT.format(reason=reason) if reason else WITH,
        )
        print(said, flush=True)
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
