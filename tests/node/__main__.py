"""`python -m tests.node up` and `down` (`make cluster`, `make cluster-down`): one cluster for this working copy."""

import argparse
import shutil
import sys

import parts
from demo.processes import DemoError
from parts import PartError
from tests import crds
from tests.cluster.cluster import KubectlError
from tests.images import builder
from tests.node import choice, product

FOLDER = builder.REPOSITORY / "build" / "cluster"
USE = """\
  export KUBECONFIG={kubeconfig}
  alias kubectl={kubectl}
  kubectl apply -k manifests/
  kubectl -n token-meter-system rollout status deployment/token-meter-webhook

Both images are on its node{crds}. `make cluster-down` ends it.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.node", description=__doc__)
    parser.add_argument("verb", choices=("up", "down"))
    verb = parser.parse_args().verb
    if reason := choice.unavailable():
        print(f"cluster: {reason}", file=sys.stderr)
        return 1
    try:
        return _up() if verb == "up" else _down()
    except (DemoError, KubectlError, PartError, OSError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def _up() -> int:
    images = [builder.build(target) for target in builder.TARGETS]
    cluster = choice.cluster(FOLDER, stays=True)
    cluster.up()
    for image in images:
        cluster.load(image)
    if crds.FOLDER.is_dir():
        product.apply_crds(cluster)
    said = ", KServe's and the gateways' CRDs in it" if crds.FOLDER.is_dir() else ""
    print(USE.format(kubeconfig=cluster.kubeconfig, kubectl=parts.path("kubectl"), crds=said))
    return 0


def _down() -> int:
    choice.cluster(FOLDER).down()
    shutil.rmtree(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
