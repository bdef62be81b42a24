"""What the webhook knows of a cluster, as it changes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from isvc import Mode
from tests.certs.api_server import ApiServer, running, until
from webhook.cluster import Cluster, default_mode

NAMESPACES = "/api/v1/namespaces"
RUNTIMES = "/apis/serving.kserve.io/v1alpha1"
SETTINGS = "/api/v1/namespaces/token-meter-system/configmaps/token-meter"
KSERVE = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"


class World:
    """An API server and a cluster that follows it."""

    def __init__(self, server: ApiServer, cluster: Cluster) -> None:
        self.server = server
        self.cluster = cluster

    async def settled(self) -> None:
        await until(lambda: not self.cluster.missing)

    def settings(self, **data: str) -> None:
        data = {key.replace("_", "-"): value for key, value in data.items()}
        metadata = {"name": "token-meter", "namespace": "token-meter-system"}
        self.server.put(SETTINGS, {"metadata": metadata, "data": data})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as (server, api):
        cluster = Cluster(
            api, namespace="token-meter-system", config_map_name="token-meter", kserve_namespace="kserve"
        )
        tasks = [asyncio.ensure_future(task) for task in cluster.tasks()]
        try:
            yield World(server, cluster)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def namespace(value: str | None, **annotations: str) -> dict[str, Any]:
    labels = {"token-meter.dev/injection": value, "other": "label"} if value else {}
    return {"metadata": {"name": "llm", "labels": labels, "annotations": annotations}}


async def test_a_namespaces_label_and_annotations_are_known(world: World) -> None:
    world.server.put(
        f"{NAMESPACES}/llm", namespace("annotated", **{"token-meter.dev/limit": "off", "x": "y"})
    )
    await world.settled()
    await until(lambda: world.cluster.namespaces.get("llm"))
    facts = await world.cluster.facts("llm")
    assert facts.injection == "annotated"
    assert facts.namespace_annotations == {"token-meter.dev/limit": "off"}
    assert facts.default_namespace == "llm"


async def test_a_namespace_that_was_labelled_this_moment_is_asked_for(world: World) -> None:
    await world.settled()
    world.server.objects[f"{NAMESPACES}/llm"] = namespace("enabled")
    assert (await world.cluster.facts("llm")).injection == "enabled"


async def test_a_namespace_that_cannot_be_asked_for_is_not_labelled(world: World) -> None:
    await world.settled()
    assert (await world.cluster.facts("none")).injection is None


async def test_only_the_namespaces_own_runtimes_and_the_clusters_are_given(world: World) -> None:
    for place in ("llm", "other"):
        world.server.put(
            f"{RUNTIMES}/servingruntimes/{place}", {"metadata": {"name": f"of-{place}", "namespace": place}}
        )
    await world.settled()
    await until(lambda: len(world.cluster.runtimes["ServingRuntime"]) == 2)
    facts = await world.cluster.facts("llm")
    assert [(o["kind"], o["metadata"]["name"]) for o in facts.serving_runtimes or ()] == [
        ("ServingRuntime", "of-llm")
    ]


async def test_without_kserves_crds_its_shipped_runtimes_are_assumed(world: World) -> None:
    for name in ("servingruntimes", "clusterservingruntimes"):
        world.server.absent.add(f"{RUNTIMES}/{name}")
    await world.settled()
    assert (await world.cluster.facts("llm")).serving_runtimes is None


async def test_a_runtime_that_no_watch_has_told_yet_is_found_by_a_refresh(world: World) -> None:
    await world.settled()
    world.server.objects[f"{RUNTIMES}/servingruntimes/new"] = {
        "metadata": {"name": "new", "namespace": "llm"}
    }
    assert await world.cluster.refresh() is True
    assert len((await world.cluster.facts("llm")).serving_runtimes or ()) == 1
    before = len(world.server.log)
    assert await world.cluster.refresh() is False
    assert len(world.server.log) == before


async def test_defaults_follow_the_config_map(world: World) -> None:
    world.settings(limit="5/minute", sidecar_image="registry/meter:1", sidecar_port="9280")
    await world.settled()
    await until(lambda: world.cluster._defaults)
    facts = await world.cluster.facts("llm")
    assert facts.cluster_defaults == {"limit": "5/minute"}
    assert (facts.sidecar.image, facts.sidecar.port) == ("registry/meter:1", 9280)
    await until(lambda: world.server.watching >= 6)
    world.settings(limit="6/minute")
    await until(lambda: world.cluster._defaults == {"limit": "6/minute"})
    assert (await world.cluster.facts("llm")).sidecar.port == 9180


async def test_defaults_that_are_not_allowed_are_left_out_and_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.settings(limit="lots", access="open", colour="red", sidecar_port="80")
    await world.settled()
    await until(lambda: world.cluster._defaults)
    facts = await world.cluster.facts("llm")
    assert facts.cluster_defaults == {"access": "open"}
    assert facts.sidecar.port == 9180
    for word in ('"lots" is not allowed', "colour is not a setting", "cannot listen on 80"):
        assert word in caplog.text


async def test_kserves_default_mode_is_followed(world: World) -> None:
    await world.settled()
    assert (await world.cluster.facts("llm")).default_mode is Mode.KNATIVE
    await until(lambda: world.server.watching >= 6)
    deploy = json.dumps({"defaultDeploymentMode": "RawDeployment"})
    metadata = {"name": "inferenceservice-config", "namespace": "kserve"}
    world.server.put(KSERVE, {"metadata": metadata, "data": {"deploy": deploy}})
    await until(lambda: world.cluster._mode is Mode.STANDARD)


@pytest.mark.parametrize(
    "deploy", [None, "", "{}", "not json", "[]", '{"defaultDeploymentMode": "Nonsense"}']
)
def test_a_config_map_that_says_nothing_means_kserves_own_default(deploy: str | None) -> None:
    assert default_mode({} if deploy is None else {"deploy": deploy}) is Mode.KNATIVE
