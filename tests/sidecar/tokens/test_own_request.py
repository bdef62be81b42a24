"""The sidecar asks the model server's own /tokenize, over the connections that its clients' requests go by."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import orjson
import pytest

from sidecar.log import Log
from sidecar.metrics import Metrics
from sidecar.pool import Pool
from sidecar.proxy import Proxy
from sidecar.record import CountedBy
from sidecar.settings import ServerKind, Settings
from sidecar.tokens.counter import Counted
from tests.sidecar.upstream import Gate, Peer, Received, Upstream
from tests.sidecar.wire import json_answer


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[Proxy]:
    upstream.scripts_tokenize = True
    loop = asyncio.get_running_loop()
    silent = os.open(os.devnull, os.O_WRONLY)
    log = Log(loop, silent)
    settings = Settings(upstream=f"http://127.0.0.1:{upstream.port}", server=ServerKind.VLLM)
    pool = Pool(settings.upstream_address, bound=4, keepalive=4.0, connect_timeout=5.0)
    proxy = Proxy(settings, pool, Metrics((), users=0), log)
    yield proxy
    proxy.close()
    log.close()
    os.close(silent)


async def test_the_server_is_asked_on_one_kept_connection(proxy: Proxy, upstream: Upstream) -> None:
    upstream.answer(json_answer({"count": 3, "max_model_len": 10, "tokens": [5, 6, 7]}))
    assert await proxy.counter.text(["a b c", "d"]) == Counted(6, CountedBy.TOKENIZE)
    assert [request.target for request in upstream.received] == [b"/tokenize", b"/tokenize"]
    assert len({request.connection for request in upstream.received}) == 1
    assert orjson.loads(upstream.received[0].body)["prompt"] == "a b c"


async def test_an_answer_without_an_end_is_given_up_and_its_connection_closed(
    proxy: Proxy, upstream: Upstream
) -> None:
    closed = Gate()

    def endless(peer: Peer, _: Received) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")
        if peer.wait_closed():
            closed.set()

    upstream.answer(endless)
    assert (await proxy.counter.text(["a"])).by is CountedBy.ESTIMATE
    await asyncio.to_thread(closed.pass_through)


async def test_an_answer_that_is_too_long_is_given_up(proxy: Proxy, upstream: Upstream) -> None:
    given_up = Gate()

    def long(peer: Peer, _request: Received) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                peer.send(b" " * 1024 * 1024)
            return
        given_up.set()

    upstream.answer(long)
    assert (await proxy.counter.text(["a"])).by is CountedBy.ESTIMATE
    await asyncio.to_thread(given_up.pass_through)


async def test_a_server_that_is_not_there_leaves_an_estimate(proxy: Proxy, upstream: Upstream) -> None:
    upstream.stop()
    assert (await proxy.counter.text(["a"])).by is CountedBy.ESTIMATE
