"""Envoy Gateway's own controller on the control plane, and the rate limit service that it configures.

It runs beside the cluster, as its administrator, in a root folder of its own: it looks for its certificates in
/certs and nowhere else, and in a network namespace of its own: some of its ports are fixed, and it takes them on all
addresses. What it makes for Envoy is stored and never runs.
"""

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Self

import yaml

import parts
from demo import ratelimit
from demo.processes import DemoError, Processes, free_ports, listening
from demo.stack import answers
from tests.cluster import network_namespace
from tests.cluster.client import Client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.installation import eventually

NAMESPACE = "envoy-gateway-system"
CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NEEDED = ("clienttrafficpolicies", "httproutefilters")
"""Those of its CRDs that the product's objects and AI Gateway's need; without the others it goes on."""
HEALTH, LIMITS = 8081, 18001
SECONDS = 180.0


def unavailable() -> str | None:
    """Why it cannot run on this machine; None where it can."""
    return network_namespace.unavailable()


class EnvoyGateway:
    """Installed and running while the block lasts; a rate limit backend is configured or not."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._part = parts.path("envoy-gateway")
        self._root = plane.folder / "envoy-gateway"
        self._limits = Processes(plane.folder)
        self._gateway = Processes(plane.folder)
        self._admin_port, self._health_port, self._xds_port, self._valkey_port, *self._limits_ports = (
            free_ports(7)
        )

    def __enter__(self) -> Self:
        try:
            self._install()
            self.start(rate_limit=True)
            self._start_limits()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._gateway.stop()
        self._limits.stop()

    def start(self, *, rate_limit: bool) -> None:
        """Start it, or end it and start it anew, with or without a rate limit backend.

        Where its configuration changes it does the same to itself, but mostly ends over a port that it still holds.
        """
        self._gateway.stop()
        self._gateway = Processes(self._plane.folder)
        self._configure(rate_limit=rate_limit)
        child = network_namespace.start(
            self._gateway,
            "envoy-gateway",
            [
                "unshare",
                f"--root={self._root}",
                "--",
                "/envoy-gateway",
                "server",
                "--config-path=/config.yaml",
            ],
            {"KUBECONFIG": "/kubeconfig", "HOME": "/", "PATH": os.environ["PATH"]},
            ports={self._health_port: HEALTH, self._xds_port: LIMITS},
            calls=int(self._plane.url.rpartition(":")[2]),
        )
        ready = self._health_port, "/readyz"
        self._gateway.wait(child, lambda: answers(*ready) and _open(self._xds_port) is rate_limit, SECONDS)

    def _configure(self, *, rate_limit: bool) -> None:
        config: dict[str, Any] = {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": CONTROLLER},
            "provider": {
                "type": "Kubernetes",
                "kubernetes": {"leaderElection": {"disable": True}, "topologyInjector": {"disable": True}},
            },
            "extensionApis": {"enableBackend": True},
            "admin": {"address": {"host": "127.0.0.1", "port": self._admin_port}},
            "telemetry": {"metrics": {"prometheus": {"disable": True}}},
        }
        if rate_limit:
            redis = {"url": f"localhost:{self._valkey_port}"}
            config["rateLimit"] = {"backend": {"type": "Redis", "redis": redis}}
        (self._root / "config.yaml").write_text(json.dumps(config))

    def limits(self) -> dict[str, str]:
        """What the rate limit service has been told: domain and descriptors, as it prints them, and the limit."""
        connection = http.client.HTTPConnection("127.0.0.1", self._limits_ports[-1], timeout=5)
        try:
            connection.request("GET", "/rlconfig")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        pairs = (line.partition(": ") for line in lines if line)
        return {name: limit.partition(",")[0] for name, _, limit in pairs}

    def _install(self) -> None:
        client = self._plane.client
        install_crds(client)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        assert client.request("POST", "/api/v1/namespaces", body).status in {201, 409}
        self._prepare_root()

    def _prepare_root(self) -> None:
        """The program, its kubeconfig and the certificates that it makes itself."""
        plane, root = self._plane, self._root
        for folder in (root, root / "certs", root / "limits", root / "tmp"):
            folder.mkdir(exist_ok=True)
        env = {"KUBECONFIG": str(plane.kubeconfig)}
        made = subprocess.run(
            [self._part, "certgen", "--disable-topology-injector"],
            env=env,
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise DemoError(f"envoy-gateway certgen failed:\n{made.stdout}{made.stderr}")
        for secret, place in (("envoy-gateway", "certs"), ("envoy-rate-limit", "limits")):
            for name, content in plane.get("secret", secret, NAMESPACE)["data"].items():
                (root / place / name).touch(0o600)
                (root / place / name).write_bytes(base64.b64decode(content))
        if not (root / "envoy-gateway").exists():
            shutil.copy(self._part, root / "envoy-gateway")
        kubeconfig = json.loads(plane.kubeconfig.read_text())
        cluster = kubeconfig["clusters"][0]["cluster"]
        ca = Path(cluster.pop("certificate-authority")).read_bytes()
        cluster["certificate-authority-data"] = base64.b64encode(ca).decode()
        (root / "kubeconfig").touch(0o600)
        (root / "kubeconfig").write_text(json.dumps(kubeconfig))

    def _start_limits(self) -> None:
        options = (
            "--port",
            str(self._valkey_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        )
        valkey = self._limits.start("valkey", [parts.path("valkey"), *options])
        self._limits.wait(valkey, lambda: listening(self._valkey_port), SECONDS)
        certs = self._root / "limits"
        env = ratelimit.environment(str(self._root), self._valkey_port, *self._limits_ports) | {
            "CONFIG_TYPE": "GRPC_XDS_SOTW",
            "CONFIG_GRPC_XDS_SERVER_URL": f"127.0.0.1:{self._xds_port}",
            "CONFIG_GRPC_XDS_NODE_ID": "envoy-ratelimit",
            "CONFIG_GRPC_XDS_SERVER_USE_TLS": "true",
            "CONFIG_GRPC_XDS_CLIENT_TLS_CERT": str(certs / "tls.crt"),
            "CONFIG_GRPC_XDS_CLIENT_TLS_KEY": str(certs / "tls.key"),
            "CONFIG_GRPC_XDS_SERVER_TLS_CACERT": str(certs / "ca.crt"),
            "CONFIG_GRPC_XDS_SERVER_TLS_SAN": "envoy-gateway",
            "FORCE_START_WITHOUT_INITIAL_CONFIG": "true",
        }
        limits = self._limits.start("ratelimit", [parts.path("ratelimit")], env)
        self._limits.wait(limits, lambda: answers(self._limits_ports[-1], "/rlconfig"), SECONDS)


def install_crds(client: Client) -> None:
    """Those of Envoy Gateway's own CRDs that are not among the official ones of the tests."""
    for file in sorted((parts.path("envoy-gateway").parent / "data" / "generated").glob("*.yaml")):
        if file.stem.split("_")[1] in NEEDED:
            answer = client.request("POST", CRDS, yaml.safe_load(file.read_text()))
            assert answer.status in {201, 409}, answer.body
    eventually(lambda: all(_served(client, kind) for kind in NEEDED))


def _served(client: Client, plural: str) -> bool:
    return client.request("GET", f"/apis/gateway.envoyproxy.io/v1alpha1/{plural}?limit=1").status == 200


def _open(port: int) -> bool:
    """Whether somebody listens behind a forwarder, which itself always does: it closes what it cannot lead on."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.3) as connection:
            return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False
