"""A scripted model server and sidecars in front of it; each sidecar starts once, where a test first asks for it."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.sidecar.client import Client
from tests.sidecar.process import Sidecar
from tests.sidecar.upstream import Upstream


class StartSidecar(Protocol):
    """Starts a sidecar with these settings; it is ended with the test."""

    def __call__(self, *, wait: bool = True, **settings: object) -> Sidecar: ...


@pytest.fixture(scope="session")
def model() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(model: Upstream) -> Iterator[Upstream]:
    """The model server, with nothing left of the test before."""
    model.reset()
    yield model
    failures = model.failures
    model.reset()
    assert failures == []


@pytest.fixture(scope="session")
def sidecars(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator["SidecarFactory"]:
    with ExitStack() as stack:
        yield SidecarFactory(model, tmp_path_factory, stack)


class SidecarFactory:
    """Starts sidecars and ends them together."""

    def __init__(self, model: Upstream, directories: pytest.TempPathFactory, stack: ExitStack) -> None:
        self._model = model
        self._directories = directories
        self._stack = stack

    def __call__(self, *, wait: bool = True, **settings: object) -> Sidecar:
        output = self._directories.mktemp("sidecar") / "stdout"
        sidecar = Sidecar(self._model.port, output, wait=wait, **settings)
        self._stack.callback(sidecar.stop)
        return sidecar


@pytest.fixture
def start_sidecar(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSidecar]:
    with ExitStack() as stack:
        yield SidecarFactory(upstream, tmp_path_factory, stack)


@pytest.fixture(scope="session")
def plain_sidecar(sidecars: SidecarFactory) -> Sidecar:
    return sidecars(base_path="/v1")


@pytest.fixture
def sidecar(plain_sidecar: Sidecar, upstream: Upstream) -> Sidecar:
    """Open to everyone, before a server that has no running usage, whose API is at /v1."""
    return plain_sidecar


@pytest.fixture(scope="session")
def vllm_sidecar(sidecars: SidecarFactory) -> Sidecar:
    return sidecars(base_path="/v1", server="vllm")


@pytest.fixture
def vllm(vllm_sidecar: Sidecar, upstream: Upstream) -> Sidecar:
    """Open to everyone, before vLLM, which is asked for running usage."""
    return vllm_sidecar


KEY = "k-3f9a7c"


@pytest.fixture(scope="session")
def guarded_sidecar(sidecars: SidecarFactory, tmp_path_factory: pytest.TempPathFactory) -> Sidecar:
    key_file = tmp_path_factory.mktemp("key") / "apiKey"
    key_file.write_text(KEY)
    return sidecars(base_path="/v1", api_key_file=key_file, gateway="envoy-gateway-system/ai-gateway")


@pytest.fixture
def guarded(guarded_sidecar: Sidecar, upstream: Upstream) -> Sidecar:
    """Wants the key of the gateway."""
    return guarded_sidecar


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[Client]:
    with sidecar.client() as client:
        yield client


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "apiKey"


_numbers = itertools.count(1)


@pytest.fixture
def request_id() -> str:
    """An x-request-id of the test's own."""
    return f"r-{threading.get_ident()}-{next(_numbers)}"
