"""The admission server over TLS: what the API server gets, whatever it sends."""

import asyncio
import base64
import copy
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isvc import SHIPPED_RUNTIMES
from tests.webhook.reviews import Object, review, service
from tests.webhook.server_process import Webhook, serving
from webhook.admission import Outcome
from webhook.plan import Facts, SidecarSettings


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    async with serving() as started:
        yield started


async def ask(webhook: Webhook, body: bytes, path: str = "/mutate") -> Object:
    """The response in a proper AdmissionReview."""
    status, answer = await webhook.post(body, path)
    assert status == 200
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert answer["response"]["uid"] == json.loads(body)["request"]["uid"]
    response: Object = answer["response"]
    return response


def patched(obj: Object, response: Object) -> Object:
    assert response["patchType"] == "JSONPatch"
    operations = json.loads(base64.b64decode(response["patch"]))
    after: Object = jsonpatch.apply_patch(copy.deepcopy(obj), operations)
    return after


def sidecar(obj: Object) -> Object:
    (found,) = obj["spec"]["predictor"]["initContainers"]
    assert found["name"] == "token-meter"
    container: Object = found
    return container


def by_runtime() -> Object:
    """A service that names a runtime."""
    obj = service()
    obj["spec"]["predictor"]["model"]["runtime"] = "mine"
    return obj


async def test_a_created_service_gets_the_sidecar(webhook: Webhook) -> None:
    response = await ask(webhook, review(service()))
    assert response["allowed"] is True
    assert sidecar(patched(service(), response))["restartPolicy"] == "Always"
    line = (
        'token_meter_admission_decisions_total{dry_run="false",outcome="injected",path="/mutate",reason=""}'
    )
    assert await webhook.metric(line) == 1
    assert await webhook.metric("token_meter_admission_patch_bytes_count") == 1


async def test_managed_fields_are_left_to_the_api_server(webhook: Webhook) -> None:
    managed = service()
    managed["metadata"]["managedFields"] = [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]
    after = patched(managed, await ask(webhook, review(managed)))
    assert sidecar(after)
    assert after["metadata"] == managed["metadata"]


async def test_an_injected_service_is_left_alone(webhook: Webhook) -> None:
    injected = patched(service(), await ask(webhook, review(service())))
    response = await ask(webhook, review(injected, injected))
    assert response == {"uid": response["uid"], "allowed": True}


async def test_a_wrong_annotation_is_denied_with_what_is_allowed(webhook: Webhook) -> None:
    response = await ask(webhook, review(service(limit="many")))
    assert response["allowed"] is False
    assert response["status"]["code"] == 422
    assert 'token-meter.dev/limit: "many" is not allowed; write TOKENS/UNIT' in response["status"]["message"]


async def test_a_field_of_the_wrong_form_is_denied_with_its_path(webhook: Webhook) -> None:
    wrong = service()
    wrong["spec"]["predictor"]["model"]["args"] = "--model_name=x"
    response = await ask(webhook, review(wrong))
    assert (response["allowed"], response["status"]["code"]) == (False, 400)
    assert "spec.predictor.model.args" in response["status"]["message"]


async def test_an_update_that_makes_it_wrong_is_denied(webhook: Webhook) -> None:
    response = await ask(webhook, review(service(limit="many"), service()))
    assert response["allowed"] is False


async def test_a_fault_that_was_there_before_does_not_block_other_updates(webhook: Webhook) -> None:
    changed = service(limit="many")
    changed["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
    response = await ask(webhook, review(changed, service(limit="many")))
    assert response["allowed"] is True
    assert "patch" not in response
    assert "is not allowed" in " ".join(response["warnings"])


async def test_another_fault_than_before_is_denied(webhook: Webhook) -> None:
    response = await ask(webhook, review(service(limit="lots"), service(limit="many")))
    assert response["allowed"] is False


async def test_a_skip_is_told_as_a_warning_and_an_event(webhook: Webhook) -> None:
    response = await ask(webhook, review(by_runtime()))
    assert response["allowed"] is True
    assert "the sidecar is not injected" in response["warnings"][0]
    ((request, answer),) = webhook.told
    assert (request.subject, answer.outcome) == ("InferenceService llm/llama", Outcome.SKIPPED)


async def test_opting_out_is_not_warned_about(webhook: Webhook) -> None:
    response = await ask(webhook, review(service(inject="false")))
    assert "warnings" not in response


async def test_warnings_are_short_lines_without_control_characters(webhook: Webhook) -> None:
    odd = service()
    odd["metadata"]["annotations"][f"token-meter.dev/li\nmit\x1b[31m{'x' * 300}"] = "1"
    response = await ask(webhook, review(odd))
    assert response["warnings"]
    for warning in response["warnings"]:
        assert len(warning) <= 120
        assert warning.isprintable()


async def test_a_runtime_that_was_applied_just_before_is_found(webhook: Webhook) -> None:
    webhook.cluster.later = Facts(serving_runtimes=[{**SHIPPED_RUNTIMES[0], "metadata": {"name": "mine"}}])
    response = await ask(webhook, review(by_runtime()))
    assert sidecar(patched(by_runtime(), response))


async def test_an_internal_error_lets_the_object_pass_and_says_so(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.cluster.error = ZeroDivisionError("a\nbug")
    response = await ask(webhook, review(service()))
    assert response["allowed"] is True
    assert response["status"]["code"] == 500
    assert "ZeroDivisionError: a bug" in response["status"]["message"]
    assert any(record.exc_info for record in caplog.records)
    decisions = (
        'token_meter_admission_decisions_total{dry_run="false",outcome="failed",path="/mutate",reason='
    )
    assert await webhook.metric(decisions + '"InternalError"}') == 1


async def test_replace_puts_the_sidecar_back_as_it_was_made(webhook: Webhook) -> None:
    old = patched(service(), await ask(webhook, review(service())))
    webhook.cluster.known = Facts(
        sidecar=SidecarSettings(image="token-meter/sidecar:9.9.9", port=9280),
        cluster_defaults={
            "sidecar-cpu": "2",
            "sidecar-memory": "1Gi",
            "limit-by": "x-other",
            "access": "open",
        },
        namespace_annotations={"token-meter.dev/gateway": "other/gateway"},
    )
    response = await ask(webhook, review(service(), old))
    assert patched(service(), response) == old


async def test_replace_with_a_new_revision_makes_the_sidecar_anew(webhook: Webhook) -> None:
    old = patched(service(), await ask(webhook, review(service())))
    webhook.cluster.known = Facts(sidecar=SidecarSettings(image="token-meter/sidecar:9.9.9"))
    wished = service(revision="2")
    response = await ask(webhook, review(wished, old))
    assert sidecar(patched(wished, response))["image"] == "token-meter/sidecar:9.9.9"


@pytest.mark.parametrize("change", [{"operation": "DELETE"}, {"kind": "Deployment"}, {"obj": None}])
async def test_what_was_sent_by_mistake_passes(webhook: Webhook, change: dict[str, Any]) -> None:
    response = await ask(webhook, review(**{"obj": service(), **change}))
    assert response["allowed"] is True
    assert "patch" not in response


async def test_what_is_being_deleted_passes_unchanged(webhook: Webhook) -> None:
    going = service(limit="many")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    response = await ask(webhook, review(going, service()))
    assert (response["allowed"], "patch" in response) == (True, False)


async def test_a_pod_with_the_sidecar_gets_the_models_volume(webhook: Webhook) -> None:
    mount = {"name": "kserve-provision-location", "mountPath": "/mnt/models", "readOnly": True}
    meter = {
        "name": "token-meter",
        "env": [{"name": "TOKEN_METER_UPSTREAM", "value": "http://127.0.0.1:8080"}],
    }
    server = {"name": "kserve-container", "volumeMounts": [mount]}
    pod = {
        "kind": "Pod",
        "metadata": {"generateName": "llama-"},
        "spec": {
            "initContainers": [meter],
            "containers": [server],
            "volumes": [{"name": "kserve-provision-location", "emptyDir": {}}],
        },
    }
    response = await ask(webhook, review(pod, kind="Pod"), "/mutate-pods")
    assert sidecar({"spec": {"predictor": patched(pod, response)["spec"]}})["volumeMounts"] == [mount]


async def test_a_pod_without_the_sidecar_is_never_touched(webhook: Webhook) -> None:
    pod = {"kind": "Pod", "metadata": {}, "spec": {"containers": [{"name": "x"}]}}
    response = await ask(webhook, review(pod, kind="Pod"), "/mutate-pods")
    assert (response["allowed"], "patch" in response) == (True, False)


DEEP = b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"x","object":'


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", "application/json", 400),
        (review(service())[:-20], "application/json", 400),
        (review(service()), "text/plain", 415),
        (review(service()), "application/x-www-form-urlencoded", 415),
        (b"null", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"AdmissionReview"', "application/json", 400),
        (b"{}", "application/json", 400),
        (review(service()).replace(b"admission.k8s.io/v1", b"admission.k8s.io/v7"), "application/json", 400),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', "application/json", 400),
        (
            b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":[]}',
            "application/json",
            400,
        ),
        (DEEP + b"[" * 100_000 + b"]" * 100_000 + b"}}", "application/json", 400),
        (b"\xff\xfe" * 100, "application/json", 400),
        (b" " * (9 * 1024 * 1024), "application/json", 413),
    ],
)
async def test_garbage_is_a_4xx_and_the_server_lives(
    webhook: Webhook, body: bytes, content_type: str, expected: int
) -> None:
    status, text = await webhook.post(body, content_type=content_type)
    assert (status, bool(text.strip())) == (expected, True)
    assert (await ask(webhook, review(service())))["allowed"] is True


async def test_an_object_nested_deeper_than_anybody_reads_is_answered(webhook: Webhook) -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"x": deep}
    obj = service()
    obj["spec"]["predictor"]["model"]["deep"] = deep
    assert (await ask(webhook, review(obj)))["allowed"] is True


async def test_a_review_of_eight_megabytes_is_answered(webhook: Webhook) -> None:
    obj = service()
    obj["metadata"]["annotations"]["big"] = "x" * 4_000_000
    assert (await ask(webhook, review(obj, obj)))["allowed"] is True


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/mutate", 405), ("DELETE", "/mutate", 405), ("POST", "/", 404), ("POST", "/mutate/x", 404)],
)
async def test_other_methods_and_paths_are_refused(
    webhook: Webhook, method: str, path: str, expected: int
) -> None:
    async with webhook.session.request(method, webhook.url + path) as response:
        assert response.status == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("uid", "kind", "operation", "namespace", "name", "dryRun", "object", "oldObject")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON), path=st.sampled_from(["/mutate", "/mutate-pods"])
)
async def test_any_request_is_answered_by_a_review_or_a_4xx(
    webhook: Webhook, changes: dict[str, Any], path: str
) -> None:
    kind = "InferenceService" if path == "/mutate" else "Pod"
    envelope = json.loads(review(service(), kind=kind))
    envelope["request"].update(changes)
    status, answer = await webhook.post(json.dumps(envelope).encode(), path)
    if status == 200:
        assert answer["response"]["uid"] == envelope["request"]["uid"]
        assert isinstance(answer["response"]["allowed"], bool)
        assert answer["response"].get("status", {}).get("code") != 500
    else:
        assert 400 <= status < 500


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, child in items for p in _paths(child, (*path, key)))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(where=st.sampled_from(_paths(service(limit="10/hour"))[1:]), value=JSON, update=st.booleans())
async def test_an_object_with_any_field_wrong_is_answered_without_an_internal_error(
    webhook: Webhook, where: tuple[Any, ...], value: Any, *, update: bool
) -> None:
    obj = service(limit="10/hour")
    parent: Any = obj
    for step in where[:-1]:
        parent = parent[step]
    parent[where[-1]] = value
    response = await ask(webhook, review(obj, service() if update else None))
    assert response.get("status", {}).get("code") != 500, response


async def test_while_draining_it_answers_closes_and_is_not_ready(webhook: Webhook) -> None:
    assert await webhook.admin("/readyz") == (200, "ok\n")
    webhook.state.draining = True
    headers = {"Content-Type": "application/json"}
    async with webhook.session.post(
        webhook.url + "/mutate", data=review(service()), headers=headers
    ) as response:
        assert (response.status, response.headers["Connection"]) == (200, "close")
    assert await webhook.admin("/readyz") == (503, "shutting down\n")
    assert (await webhook.admin("/healthz"))[0] == 200


async def test_it_is_ready_only_with_a_certificate_and_a_known_cluster(webhook: Webhook) -> None:
    webhook.cluster.missing = ["namespaces"]
    assert await webhook.admin("/readyz") == (503, "namespaces not read yet\n")
    webhook.cluster.missing = []
    webhook.state.source = replace_ready(webhook)
    assert (await webhook.admin("/readyz"))[0] == 503


def replace_ready(webhook: Webhook) -> Any:
    source: Any = webhook.state.source
    source.ready = False
    return source


async def test_metrics_tell_when_the_certificate_ends_and_count_by_status(webhook: Webhook) -> None:
    await webhook.post(b"garbage")
    await webhook.post(review(service()))
    assert await webhook.metric('token_meter_admission_requests_total{code="400",path="/mutate"}') == 1
    assert await webhook.metric('token_meter_admission_requests_total{code="200",path="/mutate"}') == 1
    until = webhook.state.source.expiry["leaf"].timestamp()
    assert await webhook.metric('token_meter_certificate_not_after_seconds{certificate="leaf"}') == until


async def test_plain_http_and_wrong_certificates_do_not_hurt(webhook: Webhook) -> None:
    port = int(webhook.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /mutate HTTP/1.1\r\n\r\n" * 10)
    await asyncio.gather(reader.read(), return_exceptions=True)
    writer.close()
    strict = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ssl.create_default_context()))
    async with strict:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await strict.post(webhook.url + "/mutate")
    assert (await ask(webhook, review(service())))["allowed"] is True
