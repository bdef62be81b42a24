"""Three pods behind one real Envoy, set up as Envoy Gateway 1.9 does for a Backend that names a headless Service.

A DNS cluster whose every address is an endpoint, least_request; the retry on connect-failure is our policy's; TLS is
verified as a BackendTLSPolicy has it.
"""

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

import parts
from certs import keys
from demo.processes import Child, Processes, free_ports
from tests.sidecar.dns import Dns
from tests.sidecar.process import eventually
from tests.sidecar.upstream import Upstream
from tests.sidecar.wire import json_answer, usage

ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
SERVICE = "token-meter-m.models.svc.cluster.local"
CHAT = json.dumps({"model": "m", "messages": []})
REPLY = json_answer({"id": "x", "choices": [], "usage": usage(3, 4)})
REPOSITORY = Path(__file__).resolve().parents[2]
ENVOY = "type.googleapis.com/envoy."


@dataclass(frozen=True, slots=True)
class Pods:
    """The gateway's port, and the pods by address."""

    gateway: int
    port: int
    admin_port: int
    children: dict[str, Child]

    def ask(self, connection: HTTPConnection) -> int:
        connection.request("POST", "/v1/chat/completions", CHAT, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def served(self) -> Counter[str]:
        """Requests counted by each pod that is there."""
        found: Counter[str] = Counter()
        for address, child in self.children.items():
            if child.process.poll() is None:
                connection = HTTPConnection(address, self.admin_port, timeout=20)
                connection.request("GET", "/metrics")
                lines = connection.getresponse().read().decode().splitlines()
                connection.close()
                counts = (line for line in lines if line.startswith("token_meter_requests_total{"))
                found[address] = int(sum(float(line.rpartition(" ")[2]) for line in counts))
        return found


def ready(address: str, port: int) -> bool:
    connection = HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(params=["plain", "tls"])
def pods(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> Iterator[Pods]:
    upstream.answer(REPLY)
    tls = request.param == "tls"
    port, admin_port, gateway = free_ports(3)
    ca = keys.make_ca(datetime.now(UTC), subject="sidecar")
    leaf = keys.mint_leaf(ca, [SERVICE], datetime.now(UTC), subject="sidecar")
    (tmp_path / "tls.crt").write_bytes(leaf.certificate_pem)
    (tmp_path / "tls.key").write_bytes(leaf.key_pem)
    processes = Processes(tmp_path)
    with Dns(ADDRESSES) as dns:
        try:
            children = {}
            for address in ADDRESSES:
                settings = {
                    "HOST": address,
                    "PORT": port,
                    "ADMIN_PORT": admin_port,
                    "UPSTREAM": f"http://127.0.0.1:{upstream.port}",
                    "BASE_PATH": "/v1",
                    "READINESS_PATH": "/health",
                    **({"TLS_DIR": tmp_path} if tls else {}),
                }
                environ = {f"TOKEN_METER_{name}": str(value) for name, value in settings.items()}
                environ |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
                children[address] = processes.start(address, [sys.executable, "-m", "sidecar"], environ)
            for address in ADDRESSES:
                eventually(lambda address=address: ready(address, admin_port), f"{address} is ready")  # type: ignore[misc]
            config = tmp_path / "envoy.json"
            config.write_text(json.dumps(envoy(gateway, port, dns.port, ca if tls else None)))
            command = [str(parts.path("envoy")), "--config-path", str(config), "--concurrency", "1"]
            processes.start("envoy", [*command, "--use-dynamic-base-id", "--log-level", "error"])
            found = Pods(gateway, port, admin_port, children)
            eventually(lambda: _through(found), "the gateway answers")
            yield found
        finally:
            processes.stop()


def _through(pods: Pods) -> bool:
    connection = HTTPConnection("127.0.0.1", pods.gateway, timeout=5)
    try:
        return pods.ask(connection) == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def envoy(gateway: int, port: int, dns: int, ca: keys.Pair | None) -> dict[str, Any]:
    def address(host: str, number: int) -> dict[str, Any]:
        return {"socket_address": {"address": host, "port_value": number}}

    previous = {"@type": f"{ENVOY}extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}
    retry = {
        "retry_on": "connect-failure",
        "num_retries": 2,
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": previous}
        ],
        "host_selection_retry_max_attempts": "5",
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "pods", "retry_policy": retry}}
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{ENVOY}extensions.filters.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{ENVOY}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    resolver = {
        "@type": f"{ENVOY}extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [address("127.0.0.1", dns)],
        "dns_resolver_options": {"no_default_search_domain": True},
    }
    cluster: dict[str, Any] = {
        "name": "pods",
        "type": "STRICT_DNS",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{"max_retries": 1024}]},
        "dns_lookup_family": "V4_ONLY",
        "connect_timeout": "5s",
        "typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares", "typed_config": resolver},
        "load_assignment": {
            "cluster_name": "pods",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(SERVICE, port)}}]}],
        },
    }
    if ca:
        name = {"san_type": "DNS", "matcher": {"exact": SERVICE}}
        validation = {
            "trusted_ca": {"inline_string": ca.certificate_pem.decode()},
            "match_typed_subject_alt_names": [name],
        }
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{ENVOY}extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": SERVICE,
                "common_tls_context": {"validation_context": validation},
            },
        }
    return {
        "static_resources": {
            "listeners": [
                {"address": address("127.0.0.1", gateway), "filter_chains": [{"filters": filters}]}
            ],
            "clusters": [cluster],
        }
    }


def test_requests_of_one_connection_are_spread_over_the_pods(pods: Pods) -> None:
    before = pods.served()
    connection = HTTPConnection("127.0.0.1", pods.gateway, timeout=20)
    assert {pods.ask(connection) for _ in range(600)} == {200}
    connection.close()
    shares = pods.served() - before
    assert shares.total() == 600
    assert all(130 <= share <= 270 for share in shares.values()), shares


def test_a_pod_that_is_gone_costs_no_request_that_had_not_begun(pods: Pods) -> None:
    """One of three is killed under load: what fails was on its way in that pod, or in its listener's queue, at most
    two for each connection."""
    failed: list[str] = []
    after_the_kill = threading.Event()
    done = threading.Event()
    late: list[str] = []

    def load() -> None:
        connection = HTTPConnection("127.0.0.1", pods.gateway, timeout=20)
        while not done.is_set():
            begun_after = after_the_kill.is_set()
            try:
                status = str(pods.ask(connection))
            except (OSError, HTTPException) as error:
                status = repr(error)
                connection.close()
            if status != "200":
                (late if begun_after else failed).append(status)
        connection.close()

    workers = [threading.Thread(target=load) for _ in range(4)]
    for worker in workers:
        worker.start()
    begun = pods.served().total()
    eventually(lambda: pods.served().total() > begun + 200, "load")
    gone = pods.children[ADDRESSES[0]].process
    gone.kill()
    gone.wait()
    after_the_kill.set()
    begun = pods.served().total()
    eventually(lambda: pods.served().total() > begun + 200, "load on the others")
    done.set()
    for worker in workers:
        worker.join()
    assert len(failed) <= 2 * len(workers)
    assert late == []
