"""The controller's own objects as they stand, by whom they are for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.cases import Key
from gateway.intent import Id, id_of
from gateway.objects.metadata import MANAGED_BY, NAMESPACE_LABEL, SERVICE_LABELS
from gateway.objects.traffic import GATEWAY_LABEL
from isvc import GatewayRef

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WholeCluster:
    """The key of what the cluster's settings ask for."""


CLUSTER = WholeCluster()
Owner = Key | GatewayRef | WholeCluster
"""An InferenceService, a Gateway (its name as a label has it), or the cluster."""


def owner_of(obj: Object) -> Owner | None:
    """Whom an object is for; None where it is not the controller's."""
    labels = obj["metadata"].get("labels") or {}
    if not MANAGED_BY.items() <= labels.items():
        return None
    for kind, name in SERVICE_LABELS.items():
        if name in labels and NAMESPACE_LABEL in labels:
            return Key(labels[NAMESPACE_LABEL], labels[name], kind)
    if GATEWAY_LABEL in labels:
        return GatewayRef(obj["metadata"]["namespace"], labels[GATEWAY_LABEL])
    return None


class Owned:
    """What watches and our own writes have shown last."""

    def __init__(self) -> None:
        self._of: dict[Owner, dict[Id, Object]] = {}

    def of(self, owner: Owner) -> dict[Id, Object]:
        """The owner's objects, a copy."""
        return dict(self._of.get(owner, {}))

    def __iter__(self) -> Iterator[Owner]:
        return iter(list(self._of))

    def put(self, owner: Owner, obj: Object) -> None:
        """Take note of an object; what is older than the one known is passed over."""
        known = self._of.get(owner, {}).get(id_of(obj))
        if known is None or _version(obj) >= _version(known):
            self._of.setdefault(owner, {})[id_of(obj)] = obj

    def drop(self, owner: Owner, obj: Object) -> None:
        """Take note that this very object is gone."""
        mine = self._of.get(owner, {})
        if (known := mine.get(id_of(obj))) and known["metadata"].get("uid") == obj["metadata"].get("uid"):
            del mine[id_of(obj)]
        if not mine:
            self._of.pop(owner, None)

    def clear(self) -> None:
        """Forget all."""
        self._of.clear()


def _version(obj: Object) -> int:
    """Comparable within one kind: Kubernetes 1.35 says so, and etcd has always made it so."""
    text = obj["metadata"].get("resourceVersion") or "0"
    return int(text) if text.isdigit() else 0
