"""`inject(obj, plan)`: the InferenceService with the sidecar in it; the user's fields stay, in their order.

Every step finds what an earlier pass has done and leaves it, so that injecting twice is injecting once.
"""

import copy
from collections.abc import Mapping
from typing import Any

from isvc import names
from isvc.service import PREFIX_VARIABLE
from webhook.container import container, key_mount, key_volume
from webhook.environment import FOLLOWING
from webhook.plan import Plan, Strategy

_Object = dict[str, Any]
_LISTS = {Strategy.NATIVE_SIDECAR: "initContainers", Strategy.CONTAINER: "containers"}


def inject(obj: Mapping[str, Any], plan: Plan) -> _Object:
    """A copy of `obj` with the plan carried out; `obj` itself is not changed."""
    after: _Object = copy.deepcopy(dict(obj))
    predictor, server = after["spec"]["predictor"], _at(after, plan)
    if plan.rename:
        server["name"] = "kserve-container"
    _lead_through_sidecar(server, plan)
    _watch_model(server, plan)
    if plan.prefix:
        _list(server, "env").append({"name": PREFIX_VARIABLE, "value": ""})
    if plan.known is None:
        _list(predictor, _LISTS[plan.strategy]).append(container(plan))
    else:
        _follow(predictor[plan.known[2]][plan.known[3]], plan)
    _give_key(predictor, plan)
    return after


def _at(obj: _Object, plan: Plan) -> _Object:
    value: Any = obj
    for step in plan.path:
        value = value[step]
    server: _Object = value
    return server


def _list(parent: _Object, key: str) -> list[Any]:
    """The list under `key`, made where it is absent or null."""
    if parent.get(key) is None:
        parent[key] = []
    items: list[Any] = parent[key]
    return items


def _lead_through_sidecar(server: _Object, plan: Plan) -> None:
    """`ports` names the sidecar's port and no other: KServe's Service, and Knative, send traffic to ports[0].

    A port that the server declared itself is taken over, with its name; a probe that went to it by that name
    now names the number, so that it still watches the server.
    """
    ports = _list(server, "ports")
    others = [port for port in ports if port.get("containerPort") != plan.port]
    if len(ports) > len(others):
        # Server-side apply puts the user's port back beside ours.
        for port in others:
            ports.remove(port)
        return
    if not others:
        ports.append({"name": "http1", "containerPort": plan.port, "protocol": "TCP"})
        return
    (port,) = others
    _name_port_by_number(server, port.get("name"), port["containerPort"])
    port["containerPort"] = plan.port


def _name_port_by_number(server: _Object, name: str | None, number: int) -> None:
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        for handler in ("httpGet", "tcpSocket"):
            target = _member(_member(server, probe), handler)
            if name and target.get("port") == name:
                target["port"] = number


def _member(parent: _Object, key: str) -> _Object:
    """The object under `key`, an empty one where there is none."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _watch_model(server: _Object, plan: Plan) -> None:
    """The server's readiness stays its own; a probe of its former port goes with it to the new one."""
    if plan.probe:
        server["readinessProbe"] = {"tcpSocket": {"port": plan.server_port}}
    elif server.get("readinessProbe") == {"tcpSocket": {"port": plan.former_port}}:
        server["readinessProbe"]["tcpSocket"]["port"] = plan.server_port


def _follow(sidecar: _Object, plan: Plan) -> None:
    """Bring a sidecar that is there up to the ISVC's present fields, and leave all else as it is."""
    env = _list(sidecar, "env")
    for variable in FOLLOWING:
        entry = next((entry for entry in env if entry.get("name") == variable), None)
        value = plan.env.get(variable)
        if value is None:
            if entry:
                env.remove(entry)
        elif entry is None:
            env.append({"name": variable, "value": value})
        elif entry.get("value") != value:
            entry["value"] = value


def _give_key(predictor: _Object, plan: Plan) -> None:
    """Mount the key where access is the gateway's alone; where it is open, take our mount and volume away."""
    sidecar = next(c for c in predictor[_LISTS[plan.strategy]] if c.get("name") == names.CONTAINER)
    for parent, key, wanted in (
        (sidecar, "volumeMounts", key_mount()),
        (predictor, "volumes", plan.key_secret and key_volume(plan.key_secret)),
    ):
        there = [item for item in parent.get(key) or () if item.get("name") == names.KEY_VOLUME]
        if plan.key_secret and not there:
            _list(parent, key).append(wanted)
        elif not plan.key_secret and there:
            for item in there:
                parent[key].remove(item)
            if not parent[key]:
                del parent[key]
