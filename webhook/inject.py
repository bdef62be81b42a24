"""`inject(obj, plan)`: the InferenceService with the sidecar in it; the user's fields stay, in their order.

Every step finds what an earlier pass has done and leaves it, so that injecting twice is injecting once.
"""

import copy
from collections.abc import Mapping
from typing import Any

from isvc import names
from isvc.errors import Path
from isvc.service import PREFIX_VARIABLE
from webhook import notes
from webhook.container import container, key_mount, key_volume
from webhook.environment import FOLLOWING
from webhook.plan import Plan, Strategy

_Object = dict[str, Any]
LISTS = {Strategy.NATIVE_SIDECAR: "initContainers", Strategy.CONTAINER: "containers"}


def inject(obj: Mapping[str, Any], plan: Plan) -> _Object:
    """A copy of `obj` with the plan carried out; `obj` itself is not changed."""
    after: _Object = copy.deepcopy(dict(obj))
    for part in (plan, *plan.canaries):
        _inject(after, part)
    return after


def _inject(obj: _Object, plan: Plan) -> None:
    predictor = at(obj, plan.predictor)
    replaced: _Object = {}
    if plan.path is not None:
        _edit_server(at(obj, plan.path), plan, replaced)
    sidecar = _sidecar(predictor, plan)
    _give_key(predictor, sidecar, plan)
    notes.write(sidecar, replaced)


def at(obj: _Object, path: Path) -> _Object:
    """The object under a path."""
    value: Any = obj
    for step in path:
        value = value[step]
    found: _Object = value
    return found


def _edit_server(server: _Object, plan: Plan, replaced: _Object) -> None:
    """Lead the traffic, keep the probes on the server; what is replaced of the user's is noted in `replaced`."""
    first_time = plan.known is None
    if plan.rename:
        server["name"] = "kserve-container"
    if plan.ports:
        _lead_through_sidecar(server, plan, replaced)
    if plan.move:
        list_of(server, "args").append(plan.move)
        replaced["argument"] = plan.move
    _redirect_probes(server, plan, replaced)
    ours = {"tcpSocket": {"port": plan.server_port}}
    if plan.probe:
        server["readinessProbe"] = ours
    elif server.get("readinessProbe") == {"tcpSocket": {"port": plan.former_port}}:
        server["readinessProbe"]["tcpSocket"]["port"] = plan.server_port
    elif first_time and server.get("readinessProbe") == ours and "readinessProbe" not in replaced:
        replaced["readinessProbe"] = notes.KEPT
    if plan.prefix:
        list_of(server, "env").append({"name": PREFIX_VARIABLE, "value": ""})
    elif first_time and any(is_empty_prefix(entry) for entry in server.get("env") or ()):
        replaced["prefix"] = notes.KEPT


def is_empty_prefix(entry: Mapping[str, Any]) -> bool:
    """Whether a variable is the prefix and empty; clients with Go types drop an empty value."""
    return entry.get("name") == PREFIX_VARIABLE and not entry.get("value") and not entry.get("valueFrom")


def list_of(parent: _Object, key: str) -> list[Any]:
    """The list under `key`, made where it is absent or null."""
    if parent.get(key) is None:
        parent[key] = []
    items: list[Any] = parent[key]
    return items


def _lead_through_sidecar(server: _Object, plan: Plan, replaced: _Object) -> None:
    """`ports` begins with the sidecar's: KServe's Service, and Knative, send traffic to ports[0].

    A port that the server declared itself is taken over, with its name; further ports stay behind it.
    """
    ports = list_of(server, "ports")
    ours = next((port for port in ports if port.get("containerPort") == plan.port), None)
    if ours is None:
        if ports:
            replaced["port"] = ports[0]["containerPort"]
            ports[0]["containerPort"] = plan.port
        else:
            ports.append({"name": "http1", "containerPort": plan.port, "protocol": "TCP"})
        return
    for port in [port for port in ports if port is not ours]:
        # Server-side apply puts the user's port back beside ours.
        if port.get("name") in (None, "", ours.get("name")) or port.get("containerPort") == plan.server_port:
            replaced["port"] = port["containerPort"]
            ports.remove(port)
    if ports[0] is not ours:
        ports.remove(ours)
        ports.insert(0, ours)


def _redirect_probes(server: _Object, plan: Plan, replaced: _Object) -> None:
    """Probes that would reach the sidecar go to the server's own port, also those of the runtime."""
    for probe in plan.redirect:
        if server.get(probe.kind) is None:
            if plan.inherits:
                continue
            server[probe.kind] = {}
        handler = server[probe.kind].get(probe.handler)
        if handler is None:
            server[probe.kind][probe.handler] = {"port": plan.server_port}
            replaced[probe.kind] = notes.MADE
        elif handler.get("port") != plan.server_port:
            replaced[probe.kind] = handler.get("port")
            handler["port"] = plan.server_port


def _sidecar(predictor: _Object, plan: Plan) -> _Object:
    """The sidecar's container: put in, brought up to the ISVC's present fields, or made anew on demand."""
    built = container(plan)
    if plan.revision:
        notes.set_variable(built, notes.REVISION, plan.revision)
    if plan.known is None:
        list_of(predictor, LISTS[plan.strategy]).append(built)
        return built
    there: list[_Object] = predictor[LISTS[plan.strategy]]
    place = there.index(at(predictor, plan.known[-2:]))
    found = there[place]
    revision = next((e.get("value") for e in found.get("env") or () if e.get("name") == notes.REVISION), None)
    if plan.revision and plan.revision != revision:
        notes.write(built, notes.read(found))
        there[place] = built
        return built
    _follow(found, plan)
    return found


def _follow(sidecar: _Object, plan: Plan) -> None:
    """Bring a sidecar that is there up to the ISVC's present fields, and leave all else as it is."""
    env = list_of(sidecar, "env")
    for variable in FOLLOWING:
        value = plan.env.get(variable)
        if value is not None:
            notes.set_variable(sidecar, variable, value)
        else:
            for entry in [entry for entry in env if entry.get("name") == variable]:
                env.remove(entry)


def _give_key(predictor: _Object, sidecar: _Object, plan: Plan) -> None:
    """Mount the key where access is the gateway's alone; where it is open, take our mount and volume away."""
    secret = plan.key_secret
    _give(sidecar, "volumeMounts", key_mount() if secret else None)
    if plan.volume:
        _give(predictor, "volumes", key_volume(secret) if secret else None)


def _give(parent: _Object, key: str, wanted: _Object | None) -> None:
    there = [item for item in parent.get(key) or () if item.get("name") == names.KEY_VOLUME]
    if wanted and not there:
        list_of(parent, key).append(wanted)
    elif not wanted and there:
        for item in there:
            parent[key].remove(item)
        if not parent[key]:
            del parent[key]
