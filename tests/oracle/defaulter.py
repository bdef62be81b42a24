"""KServe's own webhooks: what the defaulter rewrites, what the validator refuses."""

from tests.oracle.made import Object

FRAMEWORKS = [
    "sklearn",
    "xgboost",
    "lightgbm",
    "pmml",
    "paddle",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "predictive",
    "autogluon",
]
SERVER, TRANSFORMER = "kserve-container", "transformer-container"


def default(predictor: Object) -> Object:
    """A framework's field becomes `model`; a lone or nameless custom container is called kserve-container.

    inference_service_defaults.go setPredictorModelDefaults, predictor_custom.go Default.
    """
    rest = {key: value for key, value in predictor.items() if key not in FRAMEWORKS}
    for framework in FRAMEWORKS:
        if predictor.get(framework) is not None:
            rest["model"] = {"modelFormat": {"name": framework}, **predictor[framework]}
    containers = rest.get("containers") or []
    if "model" not in rest and containers:
        first = containers[0]
        if len(containers) == 1 or not first.get("name"):
            rest["containers"] = [{**first, "name": SERVER}, *containers[1:]]
    return rest


def refusal(predictor: Object) -> str | None:
    """Why the validator refuses a predictor (inference_service_validation.go), or None."""
    containers = [*(predictor.get("initContainers") or []), *(predictor.get("containers") or [])]
    model = predictor.get("model")
    for container in [*containers, *([model] if model else [])]:
        if any(entry["name"] == "PYTHONPATH" for entry in container.get("env") or []):
            return f'setting PYTHONPATH in container "{container.get("name", "")}" is not allowed'
    if model is not None:
        if model.get("name"):
            return "the name of the predictor's model must not be set"
        if any(c["name"] == SERVER for c in predictor.get("containers") or []):
            return "exactly one implementation of the predictor is expected"
    return None
