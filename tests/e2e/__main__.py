"""`make e2e-kind`: a kind cluster with everything in it, the guide's flow, an upgrade, an uninstall."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import parts
from demo.processes import DemoError
from tests.cluster.cluster import KubectlError
from tests.e2e import flow
from tests.e2e.kind_cluster import Kind, run, unavailable
from tests.e2e.settings import FOLDER, IMAGES, documents, inference_service, valkey
from tests.e2e.surroundings import charts

REPOSITORY = FOLDER.parents[1]
TAG, NEXT = "0.1.0", "0.1.0-next"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make e2e-kind", description=__doc__)
    parser.add_argument("--name", default="token-meter", help="the cluster's name (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster, to look at it")
    options = parser.parse_args()
    if reason := unavailable():
        print(f"e2e-kind: {reason}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="token-meter-kind-") as folder:
            _run(Kind(options.name, Path(folder)), keep=options.keep)
    except (DemoError, KubectlError, parts.PartError, TimeoutError) as error:
        print(f"e2e-kind: {error}", file=sys.stderr)
        return 1
    return 0


def _run(cluster: Kind, *, keep: bool) -> None:
    _say("building the images")
    for target in IMAGES:
        name = f"token-meter/{target}:{TAG}"
        run("docker", "build", f"--target={target}", f"--tag={name}", str(REPOSITORY))
    run("docker", "tag", f"token-meter/controller:{TAG}", f"token-meter/controller:{NEXT}")
    _say("making the cluster")
    cluster.up()
    try:
        for image in [*(f"token-meter/{name}:{TAG}" for name in IMAGES), f"token-meter/controller:{NEXT}"]:
            cluster.load(image)
        cluster.apply(valkey())
        for chart in charts():
            _say(f"installing {chart.release} {chart.version}")
            run("helm", *chart.command(cluster.kubeconfig))
        _flow(cluster)
    except BaseException:
        print(cluster.kubectl("get", "events,pods", "--all-namespaces"), file=sys.stderr)
        raise
    finally:
        if not keep:
            cluster.down()
    _say("done")


def _flow(cluster: Kind) -> None:
    *_, gateway = documents("gateway")
    cluster.apply(documents("gateway"))
    _say("installing token-meter")
    flow.install(cluster)
    _say("serving the model")
    flow.serve(cluster)
    where = gateway["metadata"]
    with flow.gateway(cluster, where["namespace"], where["name"]) as port:
        print(json.dumps(flow.play(port, inference_service()["metadata"]["name"]), indent=2))
    _say("upgrading token-meter")
    flow.upgrade(cluster, f"token-meter/controller:{NEXT}")
    _say("uninstalling token-meter")
    flow.uninstall(cluster)


def _say(text: str) -> None:
    print(f"e2e-kind: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
