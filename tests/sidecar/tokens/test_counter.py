"""Tokens are counted by the best way there is, and a count never fails."""

import asyncio
from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from sidecar.endpoints import Endpoint
from sidecar.record import CountedBy
from sidecar.settings import ServerKind
from sidecar.tokens.counter import Counted, TokenCounter
from sidecar.tokens.helper import Helper
from tests.sidecar.process import eventually
from tests.sidecar.tokens.words import children, put


@given(st.lists(st.text(st.characters(exclude_categories=()))))
async def test_any_text_has_an_estimate_of_at_most_its_bytes(texts: list[str]) -> None:
    counted = await TokenCounter().text(texts)
    assert counted.by is CountedBy.ESTIMATE
    assert 0 <= counted.tokens <= sum(len(text.encode("utf-8", "replace")) for text in texts)


@given(st.sampled_from(Endpoint), st.binary())
async def test_any_body_has_a_count(endpoint: Endpoint, body: bytes) -> None:
    assert (await TokenCounter().prompt(endpoint, body)).tokens >= 0


async def test_the_models_own_tokenizer_counts_where_the_server_has_no_route(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def post(path: bytes, body: bytes) -> tuple[int, bytes]:
        asked.append(path)
        return 404, b""

    counter = TokenCounter(server=ServerKind.VLLM, post=post, helper=Helper(put(tmp_path)))
    assert await counter.text(["a b a", "c"]) == Counted(4, CountedBy.TOKENIZER)
    assert await counter.text(["a b"]) == Counted(2, CountedBy.TOKENIZER)
    assert asked == [b"/tokenize"]  # learnt
    counter.close()


async def test_a_chat_is_counted_through_the_models_template(tmp_path: Path) -> None:
    template = "{% for m in messages %}a {{ m.content }} b {% endfor %}"
    counter = TokenCounter(helper=Helper(put(tmp_path, template)))
    body = orjson.dumps({"messages": [{"role": "user", "content": "x y"}]})
    assert await counter.prompt(Endpoint.CHAT_COMPLETIONS, body) == Counted(4, CountedBy.TOKENIZER)
    counter.close()


async def test_a_template_that_fails_leaves_an_estimate(tmp_path: Path) -> None:
    counter = TokenCounter(helper=Helper(put(tmp_path, "{{ raise_exception('no') }}")))
    body = orjson.dumps({"messages": [{"role": "user", "content": "a b"}]})
    assert await counter.prompt(Endpoint.CHAT_COMPLETIONS, body) == Counted(2, CountedBy.ESTIMATE)
    counter.close()


async def test_given_token_ids_are_counted_as_they_are() -> None:
    body = orjson.dumps({"prompt": [[1, 2, 3], [4]]})
    assert (await TokenCounter().prompt(Endpoint.COMPLETIONS, body)).tokens == 4


async def test_a_broken_tokenizer_file_leaves_an_estimate_and_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    told: list[str] = []
    counter = TokenCounter(helper=Helper(tmp_path), tell=told.append)
    for _ in range(3):
        assert (await counter.text(["a"])).by is CountedBy.ESTIMATE
    assert len(told) == 1
    counter.close()


async def test_a_tokenizer_that_nobody_asks_is_ended_and_comes_back(tmp_path: Path) -> None:
    counter, before = TokenCounter(helper=Helper(put(tmp_path)), idle_seconds=0.0), children()
    for _ in range(2):
        assert await counter.text(["a b"]) == Counted(2, CountedBy.TOKENIZER)
        await asyncio.to_thread(eventually, lambda: children() <= before, "it is ended", 60)
    counter.close()
