"""Events on InferenceServices: which, and what they say."""

import json

import pytest

from tests.webhook.reviews import review, service
from webhook import admission
from webhook.admission import Answer, Outcome
from webhook.events import event

INJECTED = Answer(Outcome.INJECTED)
SKIPPED = Answer(Outcome.SKIPPED, "Why", "the reason", warnings=("the reason",))
FAILED = admission.failed(ValueError("broken"))


def request(**changes: object) -> admission.Request:
    return admission.read(review(service(), **changes))  # type: ignore[arg-type]


def test_an_event_is_about_the_object_as_it_will_be_stored() -> None:
    told = event(request(), INJECTED, "replica-1")
    assert told
    assert told["regarding"] == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "namespace": "llm",
        "name": "llama",
        "uid": "u-1",
    }
    assert (told["type"], told["reason"], told["metadata"]["namespace"]) == ("Normal", "Injected", "llm")
    json.dumps(told)


@pytest.mark.parametrize(
    ("answer", "reason", "note"),
    [(SKIPPED, "InjectionSkipped", "the reason"), (FAILED, "InjectionFailed", "ValueError: broken")],
)
def test_what_went_wrong_is_a_warning_with_the_reason(answer: Answer, reason: str, note: str) -> None:
    told = event(request(), answer, "replica-1")
    assert told
    assert (told["type"], told["reason"]) == ("Warning", reason)
    assert note in told["note"]


def test_a_dry_run_has_no_event() -> None:
    assert event(request(dryRun=True), INJECTED, "r") is None


def test_a_skip_is_told_once_at_creation_and_not_where_it_was_asked_for() -> None:
    assert event(request(old=service()), SKIPPED, "r") is None
    assert event(request(), Answer(Outcome.SKIPPED, "OptedOut", "opted out"), "r") is None


@pytest.mark.parametrize("answer", [Answer(Outcome.UNCHANGED), Answer(Outcome.DENIED, "x", "y", 422)])
def test_nothing_is_told_where_nothing_happened_or_kubectl_said_it(answer: Answer) -> None:
    assert event(request(), answer, "r") is None


def test_a_pod_has_no_event() -> None:
    assert event(request(kind="Pod"), INJECTED, "r") is None


def test_names_and_notes_fit_their_limits() -> None:
    long = request(name="n" * 253)
    told = event(long, Answer(Outcome.FAILED, "x", "m" * 5000, 500), "r" * 500)
    assert told
    assert len(told["metadata"]["name"]) <= 253
    assert len(told["note"]) <= 1024
    assert len(told["reportingInstance"]) <= 128
