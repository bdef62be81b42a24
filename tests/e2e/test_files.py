"""What `make e2e-kind` does where there is a Docker engine, checked as far as it can be without one."""

import json
import re

import pytest
import yaml

from tests.e2e import flow
from tests.e2e.kind_cluster import TOOLS, unavailable
from tests.e2e.settings import FOLDER, IMAGES, VERSIONS, inference_service
from tests.e2e.surroundings import charts
from tests.manifests.render import objects
from webhook import injection
from webhook.plan import Facts

REPOSITORY = FOLDER.parents[1]


def test_the_inferenceservice_is_one_that_gets_the_sidecar() -> None:
    assert injection.run(inference_service(), Facts(injection="enabled")).patch


def test_each_version_is_said_once() -> None:
    files = [path for path in FOLDER.rglob("*") if path.suffix in {".yaml", ".py", ".toml"}]
    said = "\n".join(path.read_text() for path in files)
    assert [name for name, version in VERSIONS.items() if said.count(version) != 1] == []


def test_each_chart_has_a_version_and_its_values_are_a_mapping() -> None:
    for chart in charts():
        assert re.fullmatch(r"v\d+\.\d+\.\d+", chart.version)
        assert chart.source.startswith("oci://")
        if chart.values:
            assert isinstance(yaml.safe_load(chart.values.read_text()), dict)


def test_what_the_flow_waits_for_is_in_the_manifests() -> None:
    names = {(obj["kind"], obj["metadata"]["name"]) for obj in objects()}
    assert {("Deployment", name) for name in flow.DEPLOYMENTS} <= names
    assert ("Namespace", flow.SYSTEM) in names
    marked = [obj for obj in objects() if obj["kind"] in {"ClusterRole", "ClusterRoleBinding"}]
    assert all(obj["metadata"]["labels"]["app.kubernetes.io/part-of"] == "token-meter" for obj in marked)


def test_the_images_built_are_those_of_the_dockerfile_and_the_manifests() -> None:
    targets = re.findall(r"^FROM .* AS (\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert set(IMAGES) <= set(targets)
    text = json.dumps(objects())
    assert all(f"token-meter/{name}:0.1.0" in text for name in IMAGES)


def test_without_its_tools_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    reason = unavailable()
    assert reason is not None
    assert all(name in reason for name in TOOLS)
