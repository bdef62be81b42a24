"""A real model behind a sidecar, and OpenAI's own client in front of it."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

import parts
from demo.processes import free_ports
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.upstream import Upstream

MODEL = "gemma3-270m"
_INPUT = ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total")
_OUTPUT = "llamacpp:tokens_predicted_total"
_BUSY = "llamacpp:requests_processing"


@dataclass(frozen=True, slots=True)
class ModelServer:
    """llama.cpp, which counts every token itself."""

    port: int

    @property
    def ready(self) -> bool:
        """Whether it has loaded."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def tokens(self) -> tuple[int, int]:
        """All tokens that it has read and written so far."""
        samples = self._samples()
        return sum(samples[name] for name in _INPUT), samples[_OUTPUT]

    @property
    def idle(self) -> bool:
        """Whether it works on nothing."""
        return self._samples()[_BUSY] == 0

    def _samples(self) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            sample.name: int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    parts.require("model", "xllamacpp")
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("model") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.openai_client.model_server", parts.path("model"), MODEL, str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
        )
    try:
        server = ModelServer(port)

        def ready() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            return server.ready

        eventually(ready, "the model is loaded", bound=60)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def sidecar(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    output = tmp_path_factory.mktemp("sidecar") / "stdout"
    sidecar = Sidecar(
        model.port,
        output,
        base_path="/v1",
        server="llama.cpp",
        models=MODEL,
        readiness_path="/health",
        max_body_bytes=100_000,
    )
    yield sidecar
    sidecar.stop()


def connect(sidecar: Sidecar, **options: object) -> openai.OpenAI:
    """OpenAI's client as a user makes it, without retries."""
    given = {"api_key": "unused", "max_retries": 0, "timeout": 60.0, **options}
    return openai.OpenAI(base_url=f"http://127.0.0.1:{sidecar.port}/v1", **given)  # type: ignore[arg-type]


@pytest.fixture
def client(sidecar: Sidecar) -> Iterator[openai.OpenAI]:
    with connect(sidecar) as client:
        yield client


@pytest.fixture(scope="session")
def scripted_model() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(scripted_model: Upstream) -> Iterator[Upstream]:
    scripted_model.reset()
    yield scripted_model
    scripted_model.reset()


@pytest.fixture(scope="session")
def _before_script(scripted_model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    key_file = tmp_path_factory.mktemp("key") / "apiKey"
    key_file.write_text("right")
    sidecar = Sidecar(
        scripted_model.port,
        tmp_path_factory.mktemp("sidecar") / "stdout",
        base_path="/v1",
        api_key_file=key_file,
        gateway="envoy-gateway-system/ai-gateway",
        upstream_timeout=0.5,
    )
    yield sidecar
    sidecar.stop()


@pytest.fixture
def before_script(_before_script: Sidecar, upstream: Upstream) -> Sidecar:
    """A sidecar that wants the key `right`, before a scripted model server."""
    return _before_script


def environment() -> dict[str, str]:
    """The environment of a client's own process."""
    return {"PATH": os.environ["PATH"]}
