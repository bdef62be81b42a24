"""`python -m tests.node up` and `down` (`make cluster`, `make cluster-down`): one cluster for this working copy."""

import argparse
import shutil
import sys
from pathlib import Path

import parts
from demo.processes import DemoError
from parts import PartError
from tests import crds
from tests.cluster.cluster import KubectlError
from tests.images import builder
from tests.node import choice, gateway, kserve, product

FOLDER = builder.REPOSITORY / "build" / "cluster"
USE = """\
  export KUBECONFIG={kubeconfig}
  alias kubectl={kubectl}
  alias token-meter={token_meter}
  kubectl apply -k manifests/
  kubectl -n token-meter-system wait deployment --all --for=condition=Available --timeout=3m
"""
GUIDE = """\
  kubectl apply -f manifests/components/charge-gateway/rbac.yaml
  kubectl create namespace kserve-test
  kubectl label namespace kserve-test token-meter.dev/injection=enabled
  kubectl apply -f tests/e2e/objects/inferenceservice.yaml
  kubectl -n kserve-test wait isvc/qwen --for=condition=Ready --timeout=3m
  token-meter check

  kubectl -n envoy-gateway-system port-forward $(kubectl -n envoy-gateway-system get service -o name \\
      -l gateway.envoyproxy.io/owning-gateway-name=envoy-ai-gateway-basic) 8888:80 > /dev/null &
  sleep 2
  for i in $(seq 30); do curl -s -o /dev/null -H "x-user-id: alice" \\
      -w "%{{http_code}} %header{{x-ratelimit-remaining}} left\\n" \\
      http://127.0.0.1:8888/v1/chat/completions -H "Content-Type: application/json" \\
      -d '{{"model": "qwen", "max_tokens": 32, "messages": [{{"role": "user", "content": "What is rain?"}}]}}'; done
  sleep 2
  token-meter usage --by user
"""
END = "`make cluster-down` ends it."


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
        kserve.configure(cluster)
        cluster.load(gateway.build())
        gateway.install(cluster)
    whole = USE + GUIDE if crds.FOLDER.is_dir() else USE
    programs = {
        "kubectl": parts.path("kubectl"),
        "token_meter": Path(sys.executable).with_name("token-meter"),
    }
    print(f"{whole.format(kubeconfig=cluster.kubeconfig, **programs)}\n{END}")
    return 0


def _down() -> int:
    choice.cluster(FOLDER).down()
    shutil.rmtree(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
