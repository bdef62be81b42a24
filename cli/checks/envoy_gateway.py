"""Envoy Gateway's own configuration: the Backend API, AI Gateway's hooks, the rate limit backend."""

from collections.abc import Mapping
from typing import Any

import yaml

from cli.checks.finding import Check, Finding, State, ok
from cli.checks.snapshot import Snapshot

CONFIG = "envoy-gateway-config"
HOOKS = ("Translation", "Cluster", "Route")
"""What AI Gateway needs to be asked about (its manifests/envoy-gateway-values.yaml, 1.1)."""
_RESTART = "kubectl -n {} rollout restart deployment/envoy-gateway"
_VALUES = "https://aigateway.envoyproxy.io/docs/getting-started/prerequisites"


def checks() -> tuple[Check, ...]:
    """All read the one ConfigMap."""
    judges = {"backend-api": backend_api, "ai-gateway-hooks": hooks, "rate-limit-backend": rate_limit}
    return tuple(Check(name, ("configmaps",), judge) for name, judge in judges.items())


def backend_api(snapshot: Snapshot) -> Finding:
    """Without it every Backend is refused."""
    config, missing = _config(snapshot)
    if config is None:
        return missing
    if (config.get("extensionApis") or {}).get("enableBackend") is True:
        return ok("Envoy Gateway takes Backends (extensionApis.enableBackend)")
    return Finding(
        State.FAILURE,
        "Envoy Gateway takes no Backends, so no model is reached",
        f"set extensionApis.enableBackend: true in ConfigMap {CONFIG} ({_VALUES}), then {_restart(snapshot)}",
    )


def hooks(snapshot: Snapshot) -> Finding:
    """Without them AI Gateway reads no body: no model is chosen and no token counted."""
    config, missing = _config(snapshot)
    if config is None:
        return missing
    manager = config.get("extensionManager") or {}
    translator = ((manager.get("hooks") or {}).get("xdsTranslator")) or {}
    lacking = [hook for hook in HOOKS if hook not in (translator.get("post") or ())]
    host = ((manager.get("service") or {}).get("fqdn") or {}).get("hostname")
    if not lacking and host:
        return ok(f"Envoy Gateway asks AI Gateway at {host}")
    what = f"lacks {', '.join(lacking)}" if lacking else "names no service"
    return Finding(
        State.FAILURE,
        f"Envoy Gateway's extensionManager {what}: AI Gateway would read no request",
        f"set extensionManager in ConfigMap {CONFIG} as AI Gateway's values file has it ({_VALUES}),"
        f" then {_restart(snapshot)}",
    )


def rate_limit(snapshot: Snapshot) -> Finding:
    """Without one no limit is applied: Envoy Gateway would answer 500 to a limited route."""
    config, missing = _config(snapshot)
    if config is None:
        return missing
    if ((config.get("rateLimit") or {}).get("backend") or {}).get("type"):
        return ok("Envoy Gateway has a rate limit backend")
    return Finding(
        State.WARNING,
        "Envoy Gateway has no rate limit backend, so no token limit is applied",
        f"set rateLimit.backend in ConfigMap {CONFIG}, then {_restart(snapshot)}",
    )


def _config(snapshot: Snapshot) -> tuple[Mapping[str, Any] | None, Finding]:
    obj = snapshot.config_map(CONFIG)
    if obj is None:
        todo = "see that Envoy Gateway is installed by its chart"
        return None, Finding(State.FAILURE, f"no namespace has Envoy Gateway's ConfigMap {CONFIG}", todo)
    where = f"{obj['metadata']['namespace']}/{CONFIG}"
    try:
        read = yaml.safe_load((obj.get("data") or {}).get("envoy-gateway.yaml") or "")
    except yaml.YAMLError as error:
        read = str(error)
    if not isinstance(read, Mapping):
        return None, Finding(
            State.FAILURE, f"ConfigMap {where} cannot be read", "mend its envoy-gateway.yaml"
        )
    return read, ok("")


def _restart(snapshot: Snapshot) -> str:
    obj = snapshot.config_map(CONFIG)
    return _RESTART.format(obj["metadata"]["namespace"] if obj else "envoy-gateway-system")
