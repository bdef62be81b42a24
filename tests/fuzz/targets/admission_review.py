"""AdmissionReviews: each that can be read is answered, by a patch that applies, settles, and leads to the server."""

import copy
from dataclasses import replace
from typing import Any

import jsonpatch
import orjson

from webhook import admission
from webhook.admission import Answer, BadReview, Outcome, Request
from webhook.plan import Facts

JSON = True
WORDS = (
    "spec",
    "predictor",
    "model",
    "modelFormat",
    "name",
    "huggingface",
    "runtime",
    "containers",
    "initContainers",
    "args",
    "command",
    "env",
    "ports",
    "containerPort",
    "image",
    "canary",
    "workerSpec",
    "transformer",
    "logger",
    "batcher",
    "securityContext",
    "volumes",
    "volumeMounts",
    "readinessProbe",
    "httpGet",
    "tcpSocket",
    "port",
    "metadata",
    "annotations",
    "labels",
    "token-meter",
    "token-meter.dev/inject",
    "token-meter.dev/port",
    "serving.kserve.io/deploymentMode",
    "Knative",
    "kserve-container",
    "--port=8001",
    "oldObject",
    "object",
    "UPDATE",
    "InferenceService",
    "Pod",
    "restartPolicy",
    "Always",
)
_FACTS = Facts()


def check(data: bytes) -> None:
    """Judge one review, as both webhooks get it."""
    try:
        request = admission.read(data)
    except BadReview:
        return
    for answer in (_inference_service(request), admission.pod(request, "http://ledger:8080")):
        review = orjson.loads(admission.encode(request.uid, answer))
        assert review["response"]["uid"] == request.uid
        assert review["response"]["allowed"] is answer.allowed
        assert answer.outcome is not Outcome.FAILED
        assert all(line.isprintable() for line in review["response"].get("warnings", ()))
        if answer.patch:
            _applies(request.obj, answer)


def _inference_service(request: Request) -> Answer:
    answer = first = admission.inference_service(request, _FACTS)
    for _ in range(2):  # what the API server would have refused may take a pass more
        if not answer.patch:
            break
        after = _applies(request.obj, answer)
        _leads_to_the_server(after)
        request = replace(request, obj=after)
        answer = admission.inference_service(request, _FACTS)
        assert answer.outcome is not Outcome.DENIED, answer.message
    assert answer.patch == () or answer is first, "it does not settle"
    return first


def _leads_to_the_server(obj: Any) -> None:
    """A sidecar that asks itself would be asked for ever."""
    for container in obj["spec"]["predictor"].get("initContainers") or ():
        if container.get("name") == "token-meter":
            env = {str(entry.get("name")): str(entry.get("value")) for entry in container.get("env") or ()}
            port = env.get("TOKEN_METER_PORT")
            assert env.get("TOKEN_METER_UPSTREAM") != f"http://127.0.0.1:{port}", env


def _applies(obj: Any, answer: Answer) -> Any:
    patched = jsonpatch.apply_patch(copy.deepcopy(dict(obj)), list(answer.patch))
    assert isinstance(patched, dict)
    return patched
