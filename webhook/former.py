"""An update whose object lacks the sidecar that the stored one has: `kubectl replace`, or a file that lists containers.

The sidecar is put back as it was made, not as today's settings would make it, or else a newer image, or a default
that changed since, would restart a GPU pod at some innocent update. `token-meter.dev/revision` asks for a new one.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isvc import names
from isvc.annotations import own
from webhook.notes import REVISION
from webhook.plan import Facts, SidecarSettings

Object = Mapping[str, Any]
_FROM_ENVIRONMENT = {"limit-by": "TOKEN_METER_USER_HEADER", "gateway": "TOKEN_METER_GATEWAY"}


def remembered(facts: Facts, obj: Object, old: Object | None) -> Facts:
    """`facts` with the former sidecar's image, ports and settings for defaults, where `obj` has none itself."""
    former = _sidecar(old) if old is not None else None
    if former is None or _sidecar(obj) is not None:
        return facts
    environment = _environment(former)
    now, before = _annotations(obj), _annotations(old or {})
    if now.get("revision") not in (None, environment.get(REVISION)):
        return facts
    wanted = _settings(former, environment)
    # An annotation that was taken away asks for the default again.
    kept = {key: value for key, value in wanted.items() if key not in before or key in now}
    defaults = {key: value for key, value in facts.cluster_defaults.items() if key not in kept}
    annotations = {
        key: value
        for key, value in facts.namespace_annotations.items()
        if key.removeprefix(f"{names.DOMAIN}/") not in kept
    }
    return replace(
        facts,
        sidecar=_ports(former, environment, facts.sidecar),
        cluster_defaults={**defaults, **{key: value for key, value in kept.items() if value}},
        namespace_annotations=annotations,
    )


def _settings(sidecar: Object, environment: Mapping[str, str]) -> dict[str, str]:
    """What the sidecar was made with, by the annotations' short names; "" for none."""
    requests = _member(_member(sidecar, "resources"), "requests")
    settings = {f"sidecar-{name}": str(requests[name]) for name in ("cpu", "memory") if name in requests}
    settings |= {key: environment.get(variable, "") for key, variable in _FROM_ENVIRONMENT.items()}
    settings["access"] = "gateway" if "TOKEN_METER_API_KEY_FILE" in environment else "open"
    return settings


def _ports(sidecar: Object, environment: Mapping[str, str], default: SidecarSettings) -> SidecarSettings:
    try:
        return SidecarSettings(
            image=str(sidecar.get("image") or default.image),
            port=int(environment.get("TOKEN_METER_PORT", default.port)),
            admin_port=int(environment.get("TOKEN_METER_ADMIN_PORT", default.admin_port)),
        )
    except ValueError:  # somebody edited it; then it is made anew
        return default


def _sidecar(obj: Object) -> Object | None:
    """Our container in an InferenceService's predictor, known by its environment too."""
    predictor = _member(_member(obj, "spec"), "predictor")
    for key in ("initContainers", "containers"):
        containers = predictor.get(key)
        for container in containers if isinstance(containers, list) else ():
            if isinstance(container, dict) and container.get("name") == names.CONTAINER:
                return container if "TOKEN_METER_UPSTREAM" in _environment(container) else None
    return None


def _environment(container: Object) -> dict[str, str]:
    entries = container.get("env")
    pairs = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {str(entry.get("name")): str(entry.get("value") or "") for entry in pairs}


def _annotations(obj: Object) -> dict[str, str]:
    return own(_member(_member(obj, "metadata"), "annotations"))


def _member(parent: Object, key: str) -> Object:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
