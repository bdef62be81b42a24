"""What a Pod's sidecar sends with: every pod that is injected gets it, and the sidecar starts with it."""

import copy
from collections.abc import Iterator
from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings import read_settings
from tests.oracle import make, security
from tests.webhook import recorded
from tests.webhook.test_golden import FOLDER, NAMES
from webhook.pods import complete
from webhook.sending import SAFE_TO_EVICT

URL = "http://token-meter-ledger.token-meter-system.svc:8080"
Json = dict[str, Any]
INJECTED = [name for name in NAMES if not name.endswith("-skipped")]


def pods(name: str) -> Iterator[Json]:
    """The Pods of an injected golden that carry the sidecar."""
    documents = [
        *yaml.safe_load_all((FOLDER / f"{name}.before.yaml").read_text()),
        *yaml.safe_load_all((FOLDER / f"{name}.after.yaml").read_text()),
    ]
    isvc = [one for one in documents if one["kind"] == "InferenceService"][-1]
    runtimes = [one for one in documents if one["kind"].endswith("ServingRuntime")]
    for workload in make(isvc, [*runtimes, *recorded.kserves_runtimes()]).workloads.values():
        pod: Json = {"kind": "Pod", "metadata": {"generateName": f"{workload.name}-"}, "spec": workload.pod}
        if "token-meter" in {container["name"] for container in containers(pod)}:
            yield pod


def pod(name: str = "guide-standard") -> Json:
    """One Pod."""
    return next(pods(name))


def containers(pod: Json) -> list[Json]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def sidecar(pod: Json) -> Json:
    (found,) = [container for container in containers(pod) if container["name"] == "token-meter"]
    return found


def completed(before: Json) -> Json:
    after: Json = jsonpatch.apply_patch(copy.deepcopy(before), complete(before, URL))
    return after


def environment(pod: Json, name: str = "llama-predictor-0") -> dict[str, str]:
    """The sidecar's, as the kubelet gives it to the Pod of this name."""
    found = {}
    for entry in sidecar(pod)["env"]:
        assert entry["name"] not in found, "a variable is there twice"
        source = entry.get("valueFrom", {}).get("fieldRef", {})
        found[entry["name"]] = name if source.get("fieldPath") == "metadata.name" else entry.get("value", "")
    return found


def mounted(pod: Json, path: str) -> tuple[Json, Json]:
    """What is mounted into the sidecar there, and the mount."""
    (mount,) = [one for one in sidecar(pod)["volumeMounts"] if path.startswith(f"{one['mountPath']}")]
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == mount["name"]]
    return volume, mount


@pytest.mark.parametrize("name", INJECTED)
def test_every_injected_pod_sends_to_the_ledger_in_its_own_name(name: str) -> None:
    for before in pods(name):
        after = completed(before)
        settings = read_settings(environment(after))
        assert (settings.ledger_url, settings.pod_name) == (URL, "llama-predictor-0")
        token, mount = mounted(after, str(settings.ledger_token_file))
        (source,) = token["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "token-meter"
        assert f"{mount['mountPath']}/{source['serviceAccountToken']['path']}" == str(
            settings.ledger_token_file
        )
        assert mount["readOnly"] is True


@pytest.mark.parametrize("name", INJECTED)
def test_the_spool_outlives_the_container_and_fits_into_its_volume(name: str) -> None:
    for before in pods(name):
        after = completed(before)
        settings = read_settings(environment(after))
        spool, mount = mounted(after, str(settings.spool_dir))
        assert spool["emptyDir"] == {"sizeLimit": "512Mi"}
        assert settings.spool_max_bytes <= 256 * 1024 * 1024
        assert not mount.get("readOnly")
        assert spool["name"] in after["metadata"]["annotations"][SAFE_TO_EVICT].split(",")


@pytest.mark.parametrize("name", INJECTED)
def test_nothing_else_of_the_pod_changes(name: str) -> None:
    for before in pods(name):
        after = completed(before)
        assert security.violations(after["spec"]) == security.violations(before["spec"])
        del after["metadata"]["annotations"]
        own = len(before["spec"].get("volumes", []))
        assert after["spec"]["volumes"][:own] == before["spec"].get("volumes", [])
        for key in ("env", "volumeMounts"):
            had = sidecar(before).get(key, [])
            assert sidecar(after)[key][: len(had)] == had
        for one in (before, after):
            one["spec"].pop("volumes", None)
            for key in ("env", "volumeMounts"):
                sidecar(one).pop(key, None)
        assert after == before


@pytest.mark.parametrize("name", INJECTED)
def test_completing_twice_is_completing_once(name: str) -> None:
    for before in pods(name):
        assert complete(completed(before), URL) == []


def test_no_ledger_leaves_the_pod_as_it_is() -> None:
    assert complete(pod(), None) == []


def test_a_sidecar_that_was_told_where_to_send_is_left_to_who_told_it() -> None:
    told = pod()
    sidecar(told)["env"].append({"name": "TOKEN_METER_LEDGER_URL", "value": "https://openmeter.example"})
    assert complete(told, URL) == []


def test_what_the_service_says_of_the_spool_stands() -> None:
    told = pod()
    sidecar(told)["env"].append({"name": "TOKEN_METER_SPOOL_DIR", "value": "/elsewhere"})
    assert environment(completed(told))["TOKEN_METER_SPOOL_DIR"] == "/elsewhere"


@given(st.lists(st.sampled_from(["", "-1", "-1-2", "-2", "-spool"]), unique=True))
def test_volumes_of_the_users_keep_their_names(taken: list[str]) -> None:
    before = pod()
    own = [{"name": f"token-meter-spool{end}", "configMap": {"name": "mine"}} for end in taken]
    own += [{"name": f"token-meter-ledger-token{end}", "emptyDir": {}} for end in taken]
    before["spec"]["volumes"] = [*before["spec"].get("volumes", []), *own]
    after = completed(before)
    names = [volume["name"] for volume in after["spec"]["volumes"]]
    assert len(names) == len(set(names)) == len(before["spec"]["volumes"]) + 2
    assert "emptyDir" in mounted(after, "/var/spool/token-meter")[0]
    assert "projected" in mounted(after, "/var/run/secrets/token-meter")[0]


def test_volumes_that_others_let_go_stay_named() -> None:
    before = pod()
    before["metadata"]["annotations"] = {SAFE_TO_EVICT: "cache", "a": "b"}
    assert completed(before)["metadata"]["annotations"] == {
        SAFE_TO_EVICT: "cache,token-meter-spool",
        "a": "b",
    }


@pytest.mark.parametrize("annotations", [None, {}])
def test_a_pod_without_annotations_gets_its_first(annotations: Json | None) -> None:
    before = pod()
    before["metadata"]["annotations"] = annotations
    assert completed(before)["metadata"]["annotations"] == {SAFE_TO_EVICT: "token-meter-spool"}
