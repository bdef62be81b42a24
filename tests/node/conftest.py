"""One cluster with a node for all tests of this folder, and token-meter in it: they are one group, in one process."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from tests import crds
from tests.cluster.cluster import NodeCluster
from tests.node import choice, product
from tests.node.product import Predictor

Start = Callable[..., Predictor]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeCluster]:
    """Up, with the images on its node."""
    if reason := choice.unavailable():
        pytest.skip(reason)
    with choice.cluster(tmp_path_factory.mktemp("node"), "token-meter-tests") as up:
        product.load_images(up)
        yield up


@pytest.fixture(scope="session")
def installed(cluster: NodeCluster) -> NodeCluster:
    """token-meter, installed by its manifests."""
    if not crds.FOLDER.is_dir():
        pytest.skip("no CRDs: set TOKEN_METER_CRDS to the folder that holds them")
    product.install(cluster)
    return cluster


@pytest.fixture
def predictor(installed: NodeCluster) -> Iterator[Start]:
    """Starts InferenceServices, each in a namespace of its own (see Predictor)."""
    started = []

    def start(**variables: str) -> Predictor:
        made = Predictor(installed, f"models-{uuid4().hex[:8]}", **variables)
        started.append(made)
        made.create()
        return made

    yield start
    for made in started:
        installed.kubectl("delete", "namespace", made.namespace, "--wait=false")
