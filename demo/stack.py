"""The real programs of one run, started in order: model, sidecar, valkey, ledger, ratelimit, Envoy."""

import http.client
import json
from dataclasses import dataclass
from pathlib import Path

import parts
from demo import envoy, pod, ratelimit
from demo.processes import Processes, listening, python
from demo.scene import Ports, Scene
from webhook.sending import LEDGER_URL


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the real programs and of the model's file."""

    envoy: Path
    ratelimit: Path
    valkey: Path
    model: Path


def fetch() -> Programs:
    """Where the programs are, made first where they are missing; raises PartError."""
    parts.require("model", "xllamacpp")
    return Programs(*(parts.path(name) for name in ("envoy", "ratelimit", "valkey", "model")))


def start(processes: Processes, scene: Scene, ports: Ports, programs: Programs, folder: Path) -> None:
    """Start everything, and come back when a request would be answered; raises DemoError."""
    hint = "the model needs about 1 GB of free memory; `make clean` and `make demo` install it anew"
    serve = python("demo.model_server", "--model", str(programs.model), "--name", scene.model)
    model = processes.start("model", [*serve, "--port", str(ports.model)], hint=hint)
    valkey = processes.start(
        "valkey",
        [
            programs.valkey,
            "--port",
            str(ports.valkey),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ],
    )
    env = pod.mount(scene.sidecar, scene.objects, folder) | {
        "HOSTNAME": f"{scene.before['metadata']['name']}-demo",
        "TOKEN_METER_HOST": "127.0.0.1",  # in a pod it is all of the pod's addresses
        # The stand-in for the guide's server has a dialect of its own.
        "TOKEN_METER_SERVER": "llama.cpp",
        # The Pod webhook's part; the token is left out, for here is nobody who could check it.
        LEDGER_URL: f"http://127.0.0.1:{ports.ledger}",
        "TOKEN_METER_SPOOL_DIR": str(_made(folder / "spool")),
    }
    sidecar = processes.start("sidecar", python("sidecar"), env)
    ledger = processes.start("ledger", python("ledger"), _ledger(scene, ports, folder))
    gateway = processes.start("envoy", _envoy(scene, ports, programs, folder))
    processes.wait(valkey, lambda: listening(ports.valkey), 20)
    limits = processes.start("ratelimit", [programs.ratelimit], _ratelimit(scene, ports, folder))
    processes.wait(limits, lambda: answers(ports.ratelimit_http, "/healthcheck"), 20)
    processes.wait(gateway, lambda: answers(ports.gateway_admin, "/ready"), 30)
    processes.wait(model, lambda: answers(ports.model, "/health"), 60)
    processes.wait(ledger, lambda: answers(ports.ledger_admin, "/readyz"), 30)
    processes.wait(sidecar, lambda: answers(ports.sidecar_admin, "/readyz"), 30)


def answers(port: int, path: str) -> bool:
    """Whether GET on a local port is answered 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ledger(scene: Scene, ports: Ports, folder: Path) -> dict[str, str]:
    """Open, on the loopback: without a cluster there is nobody to ask who a caller is."""
    objects = folder / "gateway-objects.json"
    objects.write_text(json.dumps([scene.place, *scene.objects], default=str))
    objects.chmod(0o600)
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(ports.ledger),
        "ADMIN_PORT": str(ports.ledger_admin),
        "AUTH": "none",
        "DATABASE_URL": f"sqlite:///{folder}/ledger.db",
        "RATE_LIMIT": f"127.0.0.1:{ports.ratelimit}",
        "GATEWAY_OBJECTS": str(objects),
    }
    return {f"TOKEN_METER_LEDGER_{name}": value for name, value in settings.items()}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _envoy(scene: Scene, ports: Ports, programs: Programs, folder: Path) -> list[str]:
    config = envoy.bootstrap(
        scene.gateway,
        port=ports.gateway,
        admin_port=ports.gateway_admin,
        ratelimit_port=ports.ratelimit,
        resolve=lambda backend: pod.target_port(backend, scene.objects),
    )
    file = folder / "envoy.json"
    file.write_text(json.dumps(config, indent=1))
    # The binary itself: its Python wrapper would end it with its own parent. No hot restart: no shared memory.
    return [
        str(programs.envoy),
        "-c",
        str(file),
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "-l",
        "warning",
    ]


def _ratelimit(scene: Scene, ports: Ports, folder: Path) -> dict[str, str]:
    config = folder / "ratelimit" / "config"
    config.mkdir(parents=True)
    # JSON is YAML.
    (config / "demo.yaml").write_text(json.dumps(ratelimit.configuration(scene.gateway), indent=1))
    return ratelimit.environment(
        str(config.parent), ports.valkey, ports.ratelimit, ports.ratelimit_http, ports.ratelimit_debug
    )
