"""InferenceServices and clusters for the tests of the plan."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

import isvc
from gateway.facts import Facts
from gateway.plan import Plan, plan
from isvc import GatewayRef, Mode
from webhook import injection
from webhook.plan import Facts as InjectionFacts

GUIDE_FILE = Path(__file__).parents[2] / "demo" / "inferenceservice.yaml"
GATEWAY = GatewayRef("default", "envoy-ai-gateway-basic")
FACTS = Facts(gateway=GATEWAY, key="k" * 32)
Object = Mapping[str, Any]


def guide() -> dict[str, Any]:
    """The guide's InferenceService, as its user writes it."""
    loaded: dict[str, Any] = yaml.safe_load(GUIDE_FILE.read_text())
    return loaded


def llm(
    name: str = "m",
    namespace: str = "models",
    *,
    args: Iterable[str] = (),
    annotations: Mapping[str, str] | None = None,
    uid: str = "",
    **predictor: Any,
) -> dict[str, Any]:
    """A small InferenceService that speaks OpenAI."""
    server = {"modelFormat": {"name": "huggingface"}, "args": list(args)}
    own = {f"token-meter.dev/{key}": value for key, value in (annotations or {}).items()}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "annotations": own},
        "spec": {"predictor": {"model": server, **predictor}},
    }


def with_canary(
    obj: Mapping[str, Any], percent: int, *, ready: bool = True, name: str = "next"
) -> dict[str, Any]:
    """The same with a canary of another model file, as KServe reports it."""
    canary = {
        "trafficPercent": percent,
        "predictor": {
            "name": name,
            "model": {"name": "", "modelFormat": {"name": "huggingface"}, "args": ["--model_id=a/c"]},
        },
    }
    status = {"name": name, "ready": ready, "trafficPercent": percent}
    spec = {**obj["spec"], "canary": [*obj["spec"].get("canary", ()), canary]}
    said = [*(obj.get("status") or {}).get("canaryStatuses", ()), status]
    return {**obj, "spec": spec, "status": {"deploymentMode": "Standard", "canaryStatuses": said}}


def injected(obj: Mapping[str, Any]) -> dict[str, Any]:
    """As the webhook stores it."""
    return injection.run(obj, InjectionFacts(injection="enabled")).obj


def planned(obj: Object, facts: Facts = FACTS, mode: Mode = Mode.STANDARD) -> Plan:
    """The plan for a raw InferenceService."""
    service = isvc.read(obj, default_mode=mode)
    return plan(service, isvc.resolve(service.annotations), facts)


def one(result: Plan, kind: str) -> dict[str, Any]:
    """The plan's only object of this kind."""
    (found,) = of_kind(result, kind)
    return found


def of_kind(result: Plan, kind: str) -> list[dict[str, Any]]:
    """The plan's objects of this kind."""
    return [obj for obj in result.objects if obj["kind"] == kind]


def keys(result: Plan) -> list[tuple[str, str, str]]:
    """Kind, namespace and name of each object, in order."""
    return [(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in result.objects]
