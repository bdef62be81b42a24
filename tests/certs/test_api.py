"""How the API server is found, and what its refusals look like."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from certs.api import Api, ApiError, ConfigError, from_kubeconfig, in_cluster, load_config
from tests.certs.api_server import ApiServer, running


@pytest.fixture
async def parts() -> AsyncIterator[tuple[ApiServer, Api]]:
    async with running() as (server, api):
        yield server, api


async def test_a_refusal_carries_kubernetes_reason_and_message(parts: tuple[ApiServer, Api]) -> None:
    _, api = parts
    with pytest.raises(ApiError, match="404 NotFound: said the test") as caught:
        await api.get("/api/v1/namespaces/none")
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")


async def test_an_answer_that_is_not_json_is_an_api_error(parts: tuple[ApiServer, Api]) -> None:
    server, api = parts
    server.objects["/x"] = "not an object"  # type: ignore[assignment]
    with pytest.raises(ApiError, match="not an object"):
        await api.get("/x")


def kubeconfig(folder: Path, **user: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1234/"}}],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    path = folder / "config"
    path.write_text(json.dumps(config))
    return str(path)


def test_a_kubeconfig_is_read(tmp_path: Path) -> None:
    config = from_kubeconfig(kubeconfig(tmp_path, token="abc"))
    assert config.url == "http://127.0.0.1:1234"


def test_kubeconfig_beats_the_pods_account(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": kubeconfig(tmp_path), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert load_config(environ).url == "http://127.0.0.1:1234"


def test_without_any_way_to_a_cluster_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set KUBECONFIG"):
        from_kubeconfig(str(tmp_path / "none"))


def test_a_pod_without_a_token_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ServiceAccount token"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


def test_a_pods_account_is_read_and_its_token_again_each_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    from certs import keys

    (tmp_path / "ca.crt").write_bytes(keys.make_ca(datetime.now(UTC)).certificate_pem)
    (tmp_path / "token").write_text("first\n")
    now = 1000.0
    monkeypatch.setattr("certs.api.time.monotonic", lambda: now)
    config = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, tmp_path)
    assert config.url == "https://[fd00::1]:6443"
    (tmp_path / "token").write_text("second\n")
    assert config.authorization() == "Bearer first"
    now = 1061.0
    assert config.authorization() == "Bearer second"
