"""AdmissionReview in, AdmissionReview out (admission.k8s.io/v1). Pure.

`read` takes the request apart, `inference_service` and `pod` answer it, `encode` writes the answer. Where the user
is at fault the answer says so; where we are, `failed` lets the object through and says that too.
"""

import base64
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from isvc import InvalidAnnotation, Malformed
from webhook import injection
from webhook.patch import Operation
from webhook.plan import Facts, Skip
from webhook.pods import complete
from webhook.reasons import Reason

Object = Mapping[str, Any]
_VERSION = "admission.k8s.io/v1"
_WARNING = 120  # characters, as Kubernetes asks of a warning; over 256 it is cut
_QUIET = {Reason.NAMESPACE_NOT_LABELLED, Reason.NOT_ANNOTATED, Reason.OPTED_OUT, Reason.PREDICTIVE_FORMAT}
"""What nobody needs to be told each time: it was asked for."""


class BadReview(ValueError):
    """The body is no AdmissionReview that can be answered; the text says why."""


class Outcome(StrEnum):
    """What became of an object, for logs and metrics."""

    INJECTED = "injected"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Request:
    """What the API server asks. `obj` is the object to be stored, `old` the one that is (None on CREATE)."""

    uid: str
    operation: str
    kind: str
    namespace: str
    name: str
    dry_run: bool
    obj: Object
    old: Object | None

    @property
    def subject(self) -> str:
        """The object as people name it."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered. `reason` is the outcome's, CamelCase, "" for none; `message` its sentence."""

    outcome: Outcome
    reason: str = ""
    message: str = ""
    code: int = 200
    patch: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.outcome is not Outcome.DENIED


def read(body: bytes) -> Request:
    """The request in an AdmissionReview. Raises BadReview."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadReview(f"the body is not JSON: {error}") from None
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        raise BadReview("the body is not an AdmissionReview")
    if review.get("apiVersion") != _VERSION:
        raise BadReview(f"AdmissionReview of {review.get('apiVersion')} is not known; {_VERSION} is")
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str) or not request["uid"]:
        raise BadReview("the AdmissionReview has no request with a uid")
    obj, old = request.get("object"), request.get("oldObject")
    return Request(
        uid=request["uid"],
        operation=str(request.get("operation")),
        kind=str(_member(request, "kind").get("kind")),
        namespace=str(request.get("namespace") or ""),
        name=str(request.get("name") or _member(obj, "metadata").get("name") or ""),
        dry_run=request.get("dryRun") is True,
        obj=_without_managed_fields(obj) if isinstance(obj, dict) else {},
        old=_without_managed_fields(old) if isinstance(old, dict) else None,
    )


def _without_managed_fields(obj: Object) -> Object:
    """They are long, and nobody here reads or writes them: no patch names them."""
    metadata = {key: value for key, value in _member(obj, "metadata").items() if key != "managedFields"}
    return {**obj, "metadata": metadata} if metadata else obj


def inference_service(request: Request, facts: Facts) -> Answer:
    """The answer to an InferenceService that is created or updated."""
    if stray := _not_mine(request, "InferenceService"):
        return stray
    try:
        result = injection.run(request.obj, facts, request.old)
    except (Malformed, InvalidAnnotation) as error:
        return _at_fault(request, facts, error)
    match result.decision:
        case Skip(reason=reason) as skip:
            text = f"the sidecar is not injected: {skip.text}"
            told = () if reason in _QUIET else (text,)
            return Answer(
                Outcome.SKIPPED, reason.label, text, 200, tuple(result.patch), (*told, *result.warnings)
            )
        case _ if not result.changed:
            return Answer(Outcome.UNCHANGED, warnings=result.warnings)
        case _:
            return Answer(Outcome.INJECTED, patch=tuple(result.patch), warnings=result.warnings)


def pod(request: Request, ledger_url: str | None) -> Answer:
    """The answer to a Pod that is created; its sidecar sends to `ledger_url`."""
    if stray := _not_mine(request, "Pod"):
        return stray
    operations = tuple(complete(request.obj, ledger_url))
    return Answer(Outcome.INJECTED if operations else Outcome.UNCHANGED, patch=operations)


def failed(error: Exception) -> Answer:
    """The answer where we fail: the object passes, with a status that says that it was not looked at."""
    text = f"token-meter failed and let it pass without the sidecar: {type(error).__name__}: {error}"
    return Answer(Outcome.FAILED, "InternalError", text, 500, warnings=(text,))


def encode(uid: str, answer: Answer) -> bytes:
    """The AdmissionReview with the answer."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.allowed}
    if answer.code != 200:
        status = {"code": answer.code, "message": _plain(answer.message), "reason": answer.reason}
        response["status"] = {"status": "Failure", **status}
    if answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(orjson.dumps(answer.patch)).decode()
    if warnings := _lines(answer.warnings):
        response["warnings"] = warnings
    return orjson.dumps({"apiVersion": _VERSION, "kind": "AdmissionReview", "response": response})


def patch_size(answer: Answer) -> int:
    """Bytes of the patch as JSON; 0 without one."""
    return len(orjson.dumps(answer.patch)) if answer.patch else 0


def _not_mine(request: Request, kind: str) -> Answer | None:
    """What the configuration should not have sent is let through; so is what is on its way out."""
    if request.kind != kind or request.operation not in ("CREATE", "UPDATE") or not request.obj:
        text = (
            f"{request.operation} of {request.kind} is not looked at; the webhook configuration sent it here"
        )
        return Answer(Outcome.SKIPPED, "NotAsked", text, warnings=(text,))
    if _member(request.obj, "metadata").get("deletionTimestamp"):
        return Answer(Outcome.SKIPPED, "Deleting", "it is being deleted")
    return None


def _at_fault(request: Request, facts: Facts, error: Malformed | InvalidAnnotation) -> Answer:
    """Refused with what is wrong; a fault that the stored object has already must not block other changes."""
    if request.operation == "UPDATE" and request.old is not None and _fault(request.old, facts) == str(error):
        return Answer(Outcome.SKIPPED, type(error).__name__, str(error), warnings=(str(error),))
    code = 422 if isinstance(error, InvalidAnnotation) else 400
    return Answer(Outcome.DENIED, type(error).__name__, f"token-meter: {error}", code)


def _fault(obj: Object, facts: Facts) -> str | None:
    try:
        injection.run(obj, facts)
    except (Malformed, InvalidAnnotation) as error:
        return str(error)
    return None


def _lines(warnings: tuple[str, ...]) -> list[str]:
    """Each warning as lines that fit; the API server drops warnings with control characters in them."""
    lines = []
    for warning in dict.fromkeys(warnings):
        first = f"token-meter: {_plain(warning)}".replace("token-meter: token-meter ", "token-meter ")
        lines += textwrap.wrap(first, _WARNING, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _plain(text: str) -> str:
    """Without control characters, at a length that an answer can carry."""
    return "".join(c if c.isprintable() else " " for c in text)[:1000]


def _member(parent: Any, key: str) -> Object:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}
