"""What token-meter needs around it, from its official charts: cert-manager, KServe, Envoy Gateway, AI Gateway."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.settings import FOLDER, VERSIONS

VALUES = FOLDER / "values"


@dataclass(frozen=True, slots=True)
class Chart:
    """One `helm upgrade --install`; `values` is a file of ours, `options` are set one by one."""

    release: str
    source: str
    version: str
    namespace: str
    values: Path | None = None
    options: tuple[str, ...] = ()

    def command(self, kubeconfig: Path) -> list[str]:
        """helm's arguments; it returns when all of it is ready."""
        given = [f"--values={self.values}"] if self.values else []
        given += [f"--set={option}" for option in self.options]
        head = ["upgrade", "--install", self.release, self.source, f"--version={self.version}"]
        where = [f"--namespace={self.namespace}", "--create-namespace", f"--kubeconfig={kubeconfig}"]
        return [*head, *where, *given, "--wait", "--timeout=10m"]


def charts() -> Iterator[Chart]:
    """In the order in which they are installed: each needs those before it."""
    kserve, gateway = VERSIONS["kserve"], VERSIONS["envoy-gateway"]
    yield Chart(
        "cert-manager",
        "oci://quay.io/jetstack/charts/cert-manager",
        VERSIONS["cert-manager"],
        "cert-manager",
        options=("crds.enabled=true",),
    )
    yield Chart(
        "eg",
        "oci://docker.io/envoyproxy/gateway-helm",
        gateway,
        "envoy-gateway-system",
        VALUES / "envoy-gateway.yaml",
    )
    for release, name in (("aieg-crd", "ai-gateway-crds-helm"), ("aieg", "ai-gateway-helm")):
        source = f"oci://docker.io/envoyproxy/{name}"
        yield Chart(release, source, VERSIONS["ai-gateway"], "envoy-ai-gateway-system")
    for name, values in (
        ("kserve-crd", None),
        ("kserve-resources", VALUES / "kserve.yaml"),
        ("kserve-runtime-configs", VALUES / "kserve-runtimes.yaml"),
    ):
        yield Chart(name, f"oci://ghcr.io/kserve/charts/{name}", kserve, "kserve", values)
