"""The component restricted-settings: who owns a model does not set his own limit, nor the Gateway that serves him."""

from collections.abc import Iterator

import pytest

from tests import crds
from tests.cluster.cluster import KubectlError
from tests.cluster.conftest import Namespace
from tests.cluster.installation import MANIFESTS, Installation, eventually
from tests.cluster.owner import Owner
from tests.cluster.shapes import inference_service

pytestmark = crds.needed
POLICY = MANIFESTS / "components" / "restricted-settings" / "policy.yaml"
RIGHTS = "--verb=get,list,create,update,patch,delete"
ANNOTATIONS = ("gateway=team-b/private", "limit=off", "limit-by=x-me", "access=open")
NAMES = [text.partition("=")[0] for text in ANNOTATIONS]


@pytest.fixture
def owner(installed: Installation, namespace: Namespace) -> Iterator[Owner]:
    """With the policy enforced; as `alice` he may change InferenceServices in his namespace."""
    made = Owner(installed, inference_service("guide", namespace()))
    made.run("create", "role", "owner", "--resource=inferenceservices.serving.kserve.io", RIGHTS)
    made.run("create", "rolebinding", "owner", "--role=owner", "--user=alice")
    made.file("apply", "--as=alice")
    installed.plane.kubectl("apply", "-f", str(POLICY))
    eventually(lambda: "may not set" in said(made, "limit=off", "--dry-run=server"))
    yield made
    installed.plane.kubectl("delete", "-f", str(POLICY))


def said(owner: Owner, annotation: str, *arguments: str) -> str:
    """What alice hears of `kubectl annotate`."""
    text = annotation if annotation.endswith("-") else f"token-meter.dev/{annotation}"
    try:
        return owner.run("annotate", "isvc", owner.name, "--overwrite", text, "--as=alice", *arguments)
    except KubectlError as error:
        return str(error)


def test_an_owner_may_not_set_them_and_hears_who_may(owner: Owner) -> None:
    for text, name in zip(ANNOTATIONS, NAMES, strict=True):
        answer = said(owner, text)
        assert f"alice may not set token-meter.dev/{name} on {owner.name}: it is for who may" in answer
    owner.manifest["metadata"]["name"] = "second"
    owner.manifest["metadata"]["annotations"] = {"token-meter.dev/limit": "off"}
    with pytest.raises(KubectlError, match=r"alice may not set token-meter\.dev/limit on second"):
        owner.file("apply", "--as=alice")


def test_an_owner_may_do_all_else(owner: Owner) -> None:
    assert "annotated" in said(owner, "model=other")
    owner.add_argument()
    owner.file("apply", "--as=alice")


def test_who_has_the_right_sets_them_and_the_owner_neither_changes_nor_removes_them(owner: Owner) -> None:
    owner.run("create", "rolebinding", "settings", "--clusterrole=token-meter-settings", "--user=bob")
    owner.run("create", "rolebinding", "bob", "--role=owner", "--user=bob")
    owner.run("annotate", "isvc", owner.name, "token-meter.dev/limit=5/minute", "--as=bob")
    assert "may not set token-meter.dev/limit" in said(owner, "limit=9999/minute")
    assert "may not set token-meter.dev/limit" in said(owner, "token-meter.dev/limit-")
    assert "annotated" in said(owner, "model=other")
