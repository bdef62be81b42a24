"""Request smuggling: every published way, straight to the sidecar and through a real Envoy; the server is strict h11.

Straight: what reaches the model server are the requests that h11 reads in the client's own bytes, with their bodies, or
fewer. Through Envoy: each of them is one that Envoy made, which it marks with the path and length that it saw.
"""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import parts
from demo.processes import Processes, free_ports
from tests.fuzz.targets.http_request import strict
from tests.sidecar.client import Client
from tests.sidecar.conftest import SidecarFactory
from tests.sidecar.process import Sidecar, eventually
from tests.sidecar.smuggling import CASES, END, ODD_BYTES, TE_FAMILIES, TE_LINES, cl_te, te_cl
from tests.sidecar.test_behind_envoy import envoy
from tests.sidecar.upstream import Upstream
from tests.sidecar.wire import answer

PATH, LENGTH = b"x-gateway-path", b"x-gateway-length"


@pytest.fixture(scope="module")
def hurried(sidecars: SidecarFactory) -> Sidecar:
    """A request that is not whole ends soon: most attacks leave one of the readers waiting."""
    return sidecars(base_path="/v1", header_timeout=0.2, body_timeout=0.2)


@pytest.fixture(scope="module")
def gateway(hurried: Sidecar, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an Envoy in front of it."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("envoy")
    (folder / "envoy.json").write_text(json.dumps(_marking(envoy(port, hurried.port, 1, None), hurried.port)))
    processes = Processes(folder)
    try:
        command = [
            str(parts.path("envoy")),
            "--config-path",
            str(folder / "envoy.json"),
            "--concurrency",
            "1",
        ]
        processes.start("envoy", [*command, "--use-dynamic-base-id", "--log-level", "error"])
        eventually(lambda: _listens(port), "the gateway listens")
        yield port
    finally:
        processes.stop()


def _marking(config: dict[str, Any], port: int) -> dict[str, Any]:
    """The configuration of test_behind_envoy with one pod, a mark on each request, and short timeouts."""
    resources = config["static_resources"]
    (cluster,) = resources["clusters"]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster["type"] = "STATIC"
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    for name in ("dns_lookup_family", "typed_dns_resolver_config"):
        del cluster[name]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager |= {"request_timeout": "0.2s", "stream_idle_timeout": "2s", "delayed_close_timeout": "0.01s"}
    manager["route_config"]["request_headers_to_add"] = [
        _mark(PATH.decode(), "%REQ(:PATH)%"),
        _mark(LENGTH.decode(), "%REQ(CONTENT-LENGTH)%"),
    ]
    return config


def _mark(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def attack(port: int, payload: bytes) -> bytes:
    """Send it all and read until the other side closes, which is after `/end`, a refusal or a timeout."""
    received = b""
    with Client(port) as client:
        try:
            client.send(payload)
            while more := client.receive_some(65536):
                received += more
        except ConnectionError:
            pass
    return received


def _nothing_is_refused(upstream: Upstream, payload: bytes) -> None:
    """The strict server understands all that it gets."""
    assert upstream.failures == [], payload
    unfinished = [one.target for one in upstream.heads if one not in upstream.received]
    assert b"/smuggled" not in unfinished, payload


def _straight(sidecar: Sidecar, upstream: Upstream, payload: bytes) -> None:
    upstream.reset()
    upstream.answer(answer(b"seen"))
    got = attack(sidecar.port, payload)
    sidecar.settle()
    _nothing_is_refused(upstream, payload)
    seen = [(one.method, one.target, one.body) for one in upstream.received]
    due = [(method, target.removeprefix(b"http://other"), body) for method, target, body in strict(payload)]
    assert seen == due[: len(seen)], payload
    assert got.count(b"HTTP/1.1 200") == len(seen), (payload, got)


def _behind_envoy(sidecar: Sidecar, gateway: int, upstream: Upstream, payload: bytes) -> None:
    upstream.reset()
    upstream.answer(answer(b"seen"))
    attack(gateway, payload)
    sidecar.settle()
    _nothing_is_refused(upstream, payload)
    for one in upstream.received:
        assert one.header(PATH) == one.target, payload
        length = one.header(LENGTH)
        assert length is None or int(length) == len(one.body), payload


@pytest.mark.parametrize("payload", CASES.values(), ids=CASES)
def test_the_model_sees_what_a_strict_reader_sees(
    hurried: Sidecar, upstream: Upstream, payload: bytes
) -> None:
    _straight(hurried, upstream, payload)


@pytest.mark.parametrize("make", [cl_te, te_cl])
def test_however_transfer_encoding_is_written_the_model_sees_what_a_strict_reader_sees(
    hurried: Sidecar, upstream: Upstream, make: Any
) -> None:
    for line in TE_LINES.values():
        _straight(hurried, upstream, make(line))


@pytest.mark.parametrize("make", [cl_te, te_cl])
@pytest.mark.parametrize("family", TE_FAMILIES.values(), ids=TE_FAMILIES)
def test_whatever_byte_stands_in_transfer_encoding_the_model_sees_what_a_strict_reader_sees(
    hurried: Sidecar, upstream: Upstream, family: bytes, make: Any
) -> None:
    for odd in ODD_BYTES:
        _straight(hurried, upstream, make(family.replace(b"%", odd)))


@pytest.mark.parametrize("payload", CASES.values(), ids=CASES)
def test_behind_envoy_the_model_sees_what_envoy_sees(
    hurried: Sidecar, gateway: int, upstream: Upstream, payload: bytes
) -> None:
    _behind_envoy(hurried, gateway, upstream, payload)


@pytest.mark.parametrize("make", [cl_te, te_cl])
def test_behind_envoy_however_transfer_encoding_is_written_the_model_sees_what_envoy_sees(
    hurried: Sidecar, gateway: int, upstream: Upstream, make: Any
) -> None:
    for line in TE_LINES.values():
        _behind_envoy(hurried, gateway, upstream, make(line))


@pytest.mark.parametrize("make", [cl_te, te_cl])
@pytest.mark.parametrize("family", TE_FAMILIES.values(), ids=TE_FAMILIES)
def test_behind_envoy_whatever_byte_stands_in_transfer_encoding_the_model_sees_what_envoy_sees(
    hurried: Sidecar, gateway: int, upstream: Upstream, family: bytes, make: Any
) -> None:
    for odd in ODD_BYTES:
        _behind_envoy(hurried, gateway, upstream, make(family.replace(b"%", odd)))


def test_the_attacks_have_teeth(hurried: Sidecar, gateway: int, upstream: Upstream) -> None:
    """Two requests in a row that are no attack arrive, by both ways, marked by Envoy where it stands in front."""
    for port in (hurried.port, gateway):
        upstream.reset()
        upstream.answer(answer(b"seen"))
        got = attack(port, CASES["pipelined"])
        assert [one.target for one in upstream.received] == [b"/upload", b"/smuggled", b"/end"]
        assert got.count(b"HTTP/1.1 200") == 3
    assert [one.header(PATH) for one in upstream.received] == [b"/upload", b"/smuggled", b"/end"]
    assert END in CASES["pipelined"]
