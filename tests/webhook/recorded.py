"""What the real KServe made of InferenceServices (tests/data/recorded), as cases for the tests."""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "data" / "recorded"


def case(name: str) -> dict[str, Any]:
    """One recorded case, e.g. `standard/hf-model.injected`."""
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return loaded


def given(name: str) -> dict[str, Any]:
    """The InferenceService as it was applied."""
    obj: dict[str, Any] = case(name)["input"]
    return obj


def runtimes() -> list[dict[str, Any]]:
    """The ServingRuntimes that the cases name, in the namespace of the cases."""
    loaded = yaml.safe_load_all((FOLDER / "serving-runtimes.yaml").read_text())
    return list(loaded)


def kserves_runtimes() -> list[dict[str, Any]]:
    """Some of the ClusterServingRuntimes that KServe 0.20 ships."""
    return [yaml.safe_load(path.read_text()) for path in sorted((FOLDER / "runtimes").glob("*.yaml"))]


def all_runtimes() -> list[dict[str, Any]]:
    """What was installed in the cluster of the cases."""
    return [*runtimes(), *kserves_runtimes()]


def without_sidecar(obj: dict[str, Any]) -> dict[str, Any]:
    """A case's input as its user would have written it: without the injection made by hand."""
    predictor = obj["spec"]["predictor"]
    for key in ("initContainers", "containers"):
        if key in predictor:
            predictor[key] = [c for c in predictor[key] if c["name"] != "token-meter"]
            if not predictor[key]:
                del predictor[key]
    server = predictor.get("model") or predictor["containers"][0]
    server.pop("ports", None)
    if server.get("readinessProbe", {}).get("tcpSocket"):
        del server["readinessProbe"]
    server["env"] = [e for e in server.get("env", []) if e["name"] != "KSERVE_OPENAI_ROUTE_PREFIX"]
    if not server["env"]:
        del server["env"]
    return obj
