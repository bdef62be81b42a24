"""What is counted by a model's own files is what its server counts, for whole texts of real vocabularies.

The server is llama.cpp: Gemma with the real model, the others with their vocabulary around a model of zeros.
"""

import asyncio
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

import parts
from demo.processes import free_ports
from sidecar.endpoints import Endpoint
from sidecar.record import CountedBy
from sidecar.settings import ServerKind
from sidecar.tokens.counter import TokenCounter
from sidecar.tokens.helper import Helper
from tests.sidecar.process import eventually
from tests.sidecar.tokens.texts import TEXTS
from tests.sidecar.tokens.vocabularies import MODELS, Model, gemma

ROOT = Path(__file__).parents[3]


Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """A model and the server that has it."""

    model: Model
    port: int

    def post(self, path: bytes, body: bytes) -> tuple[int, bytes]:
        """One request; blocking."""
        url = f"http://127.0.0.1:{self.port}{path.decode()}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            return answer.status, answer.read()


def _serve(make: Callable[[Path], Model], folder: Path) -> Iterator[Served]:
    parts.require("model", "xllamacpp")
    model, (port,), log = make(folder), free_ports(1), folder / "log"
    arguments = ["--model", str(model.file), "--name", "m", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.model_server", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        return b"serving" in log.read_bytes()

    try:
        eventually(ready, "the vocabulary is loaded", bound=120)
        yield Served(model, port)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=MODELS, ids=lambda make: make.__name__)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from _serve(request.param, tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture
async def by_server(served: Served) -> TokenCounter:
    async def post(path: bytes, body: bytes) -> tuple[int, bytes]:
        return await asyncio.to_thread(served.post, path, body)

    return TokenCounter(server=ServerKind.LLAMA_CPP, post=post)


@pytest.fixture
async def by_files(served: Served) -> AsyncIterator[TokenCounter]:
    helper = Helper(served.model.folder, [served.model.name], ranks=parts.path("tiktoken").parent)
    counter = TokenCounter(helper=helper)
    yield counter
    counter.close()


def _way(served: Served) -> CountedBy:
    return CountedBy.TIKTOKEN if "gpt-oss" in served.model.name else CountedBy.TOKENIZER


async def test_every_text_has_as_many_tokens_as_the_server_says(
    served: Served, by_server: TokenCounter, by_files: TokenCounter
) -> None:
    theirs, ours = {}, {}
    # llama.cpp's patterns of these two cut words at combining marks; tiktoken and Mistral do not.
    unlike = {"Hindi", "Thai"} if served.model.name in ("mistral-nemo", "openai/gpt-oss-20b") else set()
    for name, text in TEXTS.items():
        if name in unlike:
            continue
        asked, counted = await by_server.text([text]), await by_files.text([text])
        assert (asked.by, counted.by) == (CountedBy.TOKENIZE, _way(served))
        theirs[name], ours[name] = asked.tokens, counted.tokens
    assert ours == theirs


async def test_a_prompt_has_what_the_model_puts_before_it(
    by_server: TokenCounter, by_files: TokenCounter
) -> None:
    body = orjson.dumps({"prompt": [TEXTS["English"], TEXTS["Python"]]})
    theirs = await by_server.prompt(Endpoint.COMPLETIONS, body)
    ours = await by_files.prompt(Endpoint.COMPLETIONS, body)
    assert ours.tokens == theirs.tokens


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from _serve(gemma, tmp_path_factory.mktemp("gemma"))


TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
CHATS: tuple[Json, ...] = (
    {"messages": [{"role": "user", "content": "hello there"}]},
    {"messages": [{"role": "system", "content": TEXTS["Russian"]}, {"role": "user", "content": "👩‍👩‍👧"}]},
    {"messages": [{"role": "user", "content": TEXTS["Python"]}], "tools": [TOOL]},
)


@pytest.mark.parametrize("chat", CHATS)
async def test_a_chat_has_as_many_tokens_as_the_real_model_reads(real: Served, chat: Json) -> None:
    counter = TokenCounter(helper=Helper(real.model.folder))
    counted = await counter.prompt(Endpoint.CHAT_COMPLETIONS, orjson.dumps(chat))
    counter.close()
    assert counted.by is CountedBy.TOKENIZER
    asked = orjson.dumps(chat | {"max_tokens": 1})
    _, answer = await asyncio.to_thread(real.post, b"/v1/chat/completions", asked)
    assert counted.tokens == orjson.loads(answer)["usage"]["prompt_tokens"]
