"""Envoy Gateway as a pod from its real program; it starts real Envoy pods and the real rate limit service.

What AI Gateway's processor does to a request is done by Envoy's own filters, as in the demo: an EnvoyPatchPolicy puts
them into the Gateway's listener. AI Gateway's hooks are in the configuration as they should be; they answer that they
are not implemented (controllers.py), and Envoy Gateway is told to go on without (`failOpen`).
"""

import copy
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

import parts
from demo.envoy import ai_gateway_filters
from demo.processes import DemoError
from parts import cache_folder
from tests.cluster import neighbours
from tests.cluster.cluster import NodeCluster
from tests.cluster.installation import eventually
from tests.e2e.settings import documents, valkey
from tests.images import builder
from tests.node import settings

NAMESPACE = neighbours.NAMESPACE
IMAGE = "token-meter.dev/envoyproxy/gateway:v1.9.1"
"""Of all the programs; by this name `token-meter check` knows which Envoy Gateway runs."""
COSTS = {
    f"llm_{key}_token": ("usage", name)
    for key, name in (
        ("input", "prompt_tokens"),
        ("output", "completion_tokens"),
        ("total", "total_tokens"),
    )
}
Json = dict[str, Any]


def build() -> str:
    """The programs' image; returns its name."""
    folder = cache_folder() / "images" / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    here, demo = Path(__file__).parent / "programs", builder.REPOSITORY / "demo"
    sources = {
        "Dockerfile": here / "Dockerfile",
        "llm.py": here / "llm.py",
        "model_server.py": demo / "model_server.py",
        "model.gguf": parts.path("model"),
        "envoy": parts.path("envoy"),
        "envoy-gateway": parts.path("envoy-gateway"),
        "ratelimit": parts.path("ratelimit"),
        "valkey-server": parts.path("valkey"),
    }
    for name, source in sources.items():
        (folder / name).unlink(missing_ok=True)
        shutil.copy2(source, folder / name)
    (folder / "requirements.txt").write_text(_requirement("xllamacpp"))
    builder.builder().build(folder, IMAGE)
    return IMAGE


def install(cluster: NodeCluster) -> None:
    """Envoy Gateway, its rate limit backend, the guide's Gateway and KServe's runtime; returns when Envoy runs."""
    _install_valkey(cluster)
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    neighbours.configure(cluster, _configuration())
    _make_certificates(cluster)
    text = (Path(__file__).parent / "objects.yaml").read_text()
    text = text.replace("IMAGE", IMAGE).replace("NODE", settings.ADDRESS)
    cluster.apply(yaml.safe_load_all(text))
    gateway_class, gateway = documents("gateway")
    ref = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "node", "namespace": NAMESPACE}
    gateway_class["spec"]["parametersRef"] = ref
    cluster.apply([gateway_class, gateway, _processor(gateway)])
    for name in ("envoy-gateway", "envoy-ratelimit"):
        eventually(lambda name=name: f"{name} " in _deployments(cluster))  # type: ignore[misc]
        _rolled_out(cluster, name)
    owner = "gateway.envoyproxy.io/owning-gateway-name=" + gateway["metadata"]["name"]
    eventually(lambda: bool(_deployments(cluster, f"--selector={owner}")))
    _rolled_out(cluster, f"--selector={owner}")


def _configuration() -> Json:
    """Envoy Gateway's, as `make e2e-kind` has it, with this image for what it starts."""
    config: Json = copy.deepcopy(neighbours.CONFIG)
    container = {"image": IMAGE}
    kubernetes = {
        "rateLimitDeployment": {"container": container},
        "shutdownManager": container,
        "topologyInjector": {"disable": True},
        "leaderElection": {"disable": True},
    }
    config |= {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
        "provider": {"type": "Kubernetes", "kubernetes": kubernetes},
    }
    config["extensionApis"]["enableEnvoyPatchPolicy"] = True
    config["extensionManager"]["failOpen"] = True
    return config


def _install_valkey(cluster: NodeCluster) -> None:
    *others, deployment = valkey()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container |= {"image": IMAGE, "command": ["valkey-server"]}
    container["args"] += ["--bind", "0.0.0.0", "--protected-mode", "no"]
    cluster.apply([*others, deployment])


def _make_certificates(cluster: NodeCluster) -> None:
    command = [str(parts.path("envoy-gateway")), "certgen", "--disable-topology-injector"]
    env = {"KUBECONFIG": str(cluster.kubeconfig), "PATH": os.environ["PATH"]}
    made = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if made.returncode:
        raise DemoError(f"envoy-gateway certgen failed:\n{made.stdout}{made.stderr}")


def _processor(gateway: Json) -> Json:
    """What stands for AI Gateway's processor in the Gateway's listener."""
    place = gateway["metadata"]
    (listener,) = gateway["spec"]["listeners"]
    path = "/default_filter_chain/filters/0/typed_config/http_filters/0"
    patches = [
        {
            "type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name": f"{place['namespace']}/{place['name']}/{listener['name']}",
            "operation": {"op": "add", "path": path, "value": one},
        }
        for one in reversed(ai_gateway_filters(COSTS))
    ]
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": place["name"]}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyPatchPolicy",
        "metadata": {"name": "ai-gateway-processor", "namespace": place["namespace"]},
        "spec": {"targetRef": target, "type": "JSONPatch", "jsonPatches": patches},
    }


def _deployments(cluster: NodeCluster, *arguments: str) -> str:
    where = f"--namespace={NAMESPACE}"
    return cluster.kubectl("get", "deployments", where, "--no-headers", "--ignore-not-found", *arguments)


def _rolled_out(cluster: NodeCluster, which: str) -> None:
    what = [which] if which.startswith("--") else [f"deployment/{which}"]
    kind = ["deployment"] if which.startswith("--") else []
    cluster.kubectl("rollout", "status", *kind, *what, f"--namespace={NAMESPACE}", "--timeout=4m")


def _requirement(package: str) -> str:
    """One package of the demo's pinned requirements, with its hashes."""
    text = (builder.REPOSITORY / "requirements" / "demo.txt").read_text()
    start = text.index(f"{package}==")
    lines = text[start:].splitlines(keepends=True)
    end = next((n for n, line in enumerate(lines) if not line.rstrip().endswith("\\")), len(lines))
    return "".join(lines[: end + 1])
