"""The model's volume reaches the sidecar of a Pod, and no other Pod is touched; test_sending.py has the rest."""

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import make
from tests.webhook import recorded
from webhook.injection import run
from webhook.pods import complete

MOUNT = {"name": "kserve-provision-location", "mountPath": "/mnt/models", "readOnly": True}


def _pod(name: str = "standard/vllm-runtime", **server_mount: Any) -> dict[str, Any]:
    """The Pod of an injected recorded case, after KServe's storage initializer."""
    made = make(run(recorded.given(name)).obj, recorded.all_runtimes())
    (workload,) = made.workloads.values()
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": workload.pod}
    pod["spec"].setdefault("volumes", []).append({"name": "kserve-provision-location", "emptyDir": {}})
    workload.server.setdefault("volumeMounts", []).append({**MOUNT, **server_mount})
    return pod


def _sidecar(pod: dict[str, Any]) -> dict[str, Any]:
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return next(dict(c) for c in containers if c["name"] == "token-meter")


@pytest.mark.parametrize("name", ["standard/vllm-runtime", "knative/vllm-runtime"])
def test_model_is_mounted_read_only_into_the_sidecar_and_nowhere_else(name: str) -> None:
    pod = _pod(name)
    after = jsonpatch.apply_patch(copy.deepcopy(pod), complete(pod, None))
    assert _sidecar(after)["volumeMounts"] == [*_sidecar(pod)["volumeMounts"], MOUNT]
    _sidecar(after)["volumeMounts"].pop()
    assert after == pod
    assert pod == _pod(name)


def test_mounting_twice_is_mounting_once() -> None:
    pod = _pod()
    after = jsonpatch.apply_patch(copy.deepcopy(pod), complete(pod, None))
    assert complete(after, None) == []


def test_path_in_the_volume_is_the_servers() -> None:
    after = jsonpatch.apply_patch(_pod(), complete(_pod(subPath="m"), None))
    assert _sidecar(after)["volumeMounts"][-1] == {**MOUNT, "subPath": "m"}


def test_sidecar_without_mounts_gets_its_first() -> None:
    pod = _pod()
    for container in pod["spec"]["initContainers"]:
        container.pop("volumeMounts", None)
    after = jsonpatch.apply_patch(copy.deepcopy(pod), complete(pod, None))
    assert _sidecar(after)["volumeMounts"] == [MOUNT]


@pytest.mark.parametrize("part", ["initContainers", "volumes", "mount"])
def test_pod_without_sidecar_volume_or_mount_is_not_touched(part: str) -> None:
    pod = _pod()
    if part == "mount":
        pod["spec"]["containers"][0]["volumeMounts"].pop()
    else:
        del pod["spec"][part]
    assert complete(pod, None) == []


def test_container_of_somebody_elses_with_our_name_is_not_touched() -> None:
    pod = _pod()
    pod["spec"]["initContainers"] = [{"name": "token-meter", "image": "someone/else:1"}]
    assert complete(pod, None) == []


_JSON = st.recursive(
    st.one_of(st.none(), st.integers(), st.sampled_from(["token-meter", "kserve-container", "/mnt/models"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "containers", "env", "volumes", "volumeMounts"]), inner, max_size=4
        ),
    ),
    max_leaves=10,
)


@given(_JSON)
def test_any_other_pod_gives_no_operations(spec: Any) -> None:
    assert complete({"kind": "Pod", "spec": spec}, "http://ledger:8080") == []


def test_names_that_are_no_texts_are_left_to_the_api_server() -> None:
    pod = _pod()
    _sidecar(pod)["env"].append({"name": ["a"]})
    _sidecar(pod)["volumeMounts"].append({"mountPath": {}})
    pod["spec"]["volumes"].append({"name": []})
    after = jsonpatch.apply_patch(copy.deepcopy(pod), complete(pod, "http://ledger:8080"))
    assert MOUNT in _sidecar(after)["volumeMounts"]
