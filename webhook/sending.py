"""What a Pod's sidecar sends its usage events with: the ledger's address, a token that says whose they are, a spool.

The token is the kubelet's (projected, bound to this Pod, renewed) for an audience that nobody but the ledger takes. The
spool is an emptyDir: it outlives the container, and the Pod's end is what SIGTERM tells the sidecar of.
"""

from typing import Any

LEDGER_URL = "TOKEN_METER_LEDGER_URL"
AUDIENCE = "token-meter"
SPOOL_VOLUME, SPOOL_MOUNT = "token-meter-spool", "/var/spool/token-meter"
TOKEN_VOLUME, TOKEN_MOUNT = "token-meter-ledger-token", "/var/run/secrets/token-meter"
_FILE = "token"
_TOKEN_SECONDS = 3600
_SPOOL_LIMIT = "512Mi"
"""Over it the kubelet evicts the Pod: twice what the sidecar keeps at most (TOKEN_METER_SPOOL_MAX_BYTES)."""
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
"""Volumes that do not keep the cluster autoscaler from taking a node away; any other emptyDir does."""
_Object = dict[str, Any]


def give(pod: _Object, sidecar: _Object, ledger_url: str) -> None:
    """Complete the sidecar of a raw Pod, in place. One that was told where to send is left to who told it."""
    env = sidecar["env"]
    known = [entry.get("name") for entry in env if isinstance(entry, dict)]
    if LEDGER_URL in known:
        return
    spool = {"emptyDir": {"sizeLimit": _SPOOL_LIMIT}}
    token = {"path": _FILE, "audience": AUDIENCE, "expirationSeconds": _TOKEN_SECONDS}
    projected = {"projected": {"sources": [{"serviceAccountToken": token}]}}
    if name := _mount(pod["spec"], sidecar, SPOOL_VOLUME, spool, {"mountPath": SPOOL_MOUNT}):
        _let_evict(pod, name)
    _mount(pod["spec"], sidecar, TOKEN_VOLUME, projected, {"mountPath": TOKEN_MOUNT, "readOnly": True})
    variables: list[_Object] = [
        {"name": LEDGER_URL, "value": ledger_url},
        {"name": "TOKEN_METER_LEDGER_TOKEN_FILE", "value": f"{TOKEN_MOUNT}/{_FILE}"},
        {"name": "TOKEN_METER_SPOOL_DIR", "value": SPOOL_MOUNT},
        # The token names the Pod in full; HOSTNAME may be cut short, or another.
        {"name": "TOKEN_METER_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    env.extend(variable for variable in variables if variable["name"] not in known)


def _mount(spec: _Object, sidecar: _Object, wanted: str, source: _Object, mount: _Object) -> str:
    """Add a volume and mount it; its name, "" where something is mounted there already."""
    mounts = _list(sidecar, "volumeMounts")
    if any(isinstance(one, dict) and one.get("mountPath") == mount["mountPath"] for one in mounts):
        return ""
    volumes = _list(spec, "volumes")
    taken = [volume.get("name") for volume in volumes if isinstance(volume, dict)]
    name, number = wanted, 1
    while name in taken:  # a volume of the user's
        name, number = f"{wanted}-{number}", number + 1
    volumes.append({"name": name, **source})
    mounts.append({"name": name, **mount})
    return name


def _let_evict(pod: _Object, volume: str) -> None:
    metadata = pod.get("metadata")
    if not isinstance(metadata, dict):  # the API server refuses it
        return
    annotations = metadata.get("annotations") or {}
    told = annotations.get(SAFE_TO_EVICT)
    metadata["annotations"] = annotations | {SAFE_TO_EVICT: f"{told},{volume}" if told else volume}


def _list(parent: _Object, key: str) -> list[Any]:
    """The list under `key`, made where there is none."""
    if not isinstance(parent.get(key), list):
        parent[key] = []
    items: list[Any] = parent[key]
    return items
