"""`remove(obj)`: the InferenceService without what the injection put in, and nothing else of it changed.

What the injection replaced is put back from its notes. A value that someone has changed since is left as it is.
"""

import copy
from collections.abc import Mapping
from typing import Any

from isvc import Server, names
from isvc.predictor import FRAMEWORKS, PROBES
from webhook import notes
from webhook.inject import is_empty_prefix

_Object = dict[str, Any]


def remove(obj: Mapping[str, Any]) -> _Object:
    """A copy of `obj` without the sidecars of its predictor and its canaries; without one it is as it was.

    A custom container that was given the name kserve-container keeps it: KServe would name a lone one so itself. A
    list that is empty afterwards is dropped.
    """
    after: _Object = copy.deepcopy(dict(obj))
    spec = after.get("spec") or {}
    for predictor in (spec.get("predictor"), *(c.get("predictor") for c in spec.get("canary") or ())):
        if predictor:
            _remove(predictor)
            _remove_volume(predictor, names.api_key_secret((obj.get("metadata") or {}).get("name") or ""))
    return after


def _remove(predictor: _Object) -> None:
    for key in ("initContainers", "containers"):
        for container in predictor.get(key) or ():
            if container.get("name") == names.CONTAINER and "TOKEN_METER_UPSTREAM" in _variables(container):
                _drop(predictor, key, container)
                _restore_server(predictor, _variables(container), notes.read(container))
                return


def _remove_volume(predictor: _Object, secret: str) -> None:
    for volume in list(predictor.get("volumes") or ()):
        if (
            volume.get("name") == names.KEY_VOLUME
            and (volume.get("secret") or {}).get("secretName") == secret
        ):
            _drop(predictor, "volumes", volume)


def _variables(container: Mapping[str, Any]) -> dict[str, str]:
    return {entry.get("name") or "": entry.get("value") or "" for entry in container.get("env") or ()}


def _drop(parent: _Object, key: str, item: Any) -> None:
    """Take an item out of the list under `key`, and the list with it where nothing else is left."""
    parent[key].remove(item)
    if not parent[key]:
        del parent[key]


def _restore_server(predictor: _Object, variables: Mapping[str, str], replaced: Mapping[str, Any]) -> None:
    server = _server(predictor)
    port, server_port = (
        _number(variables.get(name)) for name in ("TOKEN_METER_PORT", "TOKEN_METER_UPSTREAM")
    )
    argument = replaced.get("argument")
    if argument in (server.get("args") or ()):
        _drop_last(server, "args", argument)
    if argument is None:
        _restore_ports(server, port, replaced.get("port"))
    for kind in PROBES:
        _restore_probe(server, kind, server_port, replaced)
    if variables.get("TOKEN_METER_SERVER") == Server.HUGGINGFACE and replaced.get("prefix") != notes.KEPT:
        for entry in [entry for entry in server.get("env") or () if is_empty_prefix(entry)]:
            _drop(server, "env", entry)


def _server(predictor: _Object) -> _Object:
    """The server's container as the injection found it (isvc.predictor.find), an empty one where there is none."""
    for key in ("model", *FRAMEWORKS):
        if predictor.get(key) is not None:
            found: _Object = predictor[key]
            return found
    containers: list[_Object] = predictor.get("containers") or [{}]
    return next((c for c in containers if c.get("name") == "kserve-container"), containers[0])


def _drop_last(parent: _Object, key: str, item: Any) -> None:
    """Take the last of equal items out, which is the one that was appended."""
    items = parent[key]
    del items[len(items) - 1 - items[::-1].index(item)]
    if not items:
        del parent[key]


def _restore_ports(server: _Object, ours: int | None, theirs: int | None) -> None:
    ports = server.get("ports") or ()
    for entry in [entry for entry in ports if entry.get("containerPort") == ours]:
        if theirs is None or any(other.get("containerPort") == theirs for other in ports):
            _drop(server, "ports", entry)
        else:
            entry["containerPort"] = theirs


def _restore_probe(server: _Object, kind: str, server_port: int | None, replaced: Mapping[str, Any]) -> None:
    """A probe of the user's gets its own port again; one that was made by the injection goes."""
    probe = server.get(kind) or {}
    handlers = [h for h in ("httpGet", "tcpSocket") if (probe.get(h) or {}).get("port") == server_port]
    match replaced.get(kind):
        case None if kind == "readinessProbe" and probe == {"tcpSocket": {"port": server_port}}:
            del server[kind]
        case notes.MADE:
            for handler in [handler for handler in handlers if probe[handler] == {"port": server_port}]:
                del probe[handler]
            if not probe:
                del server[kind]
        case None | notes.KEPT:
            pass
        case port:
            for handler in handlers:
                probe[handler]["port"] = port


def _number(text: str | None) -> int | None:
    digits = (text or "").rsplit(":", 1)[-1]
    return int(digits) if digits.isascii() and digits.isdigit() else None
