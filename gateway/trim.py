"""What the watches keep of an object."""

from collections.abc import Callable, Mapping
from typing import Any

from certs.api import Object


def trim(kind: str) -> Callable[[Object], Object]:
    """Lists leave out the kind of their items; of managedFields only who has written how."""

    def trimmed(obj: Object) -> Object:
        metadata = dict(obj.get("metadata") or {})
        fields = metadata.pop("managedFields", None) or ()
        metadata["managers"] = sorted({(str(f.get("manager")), str(f.get("operation"))) for f in fields})
        kept = {**obj, "kind": kind, "metadata": metadata}
        return {name: value for name, value in kept.items() if name != "spec" or not generated(kept)}

    return trimmed


def generated(obj: Mapping[str, Any]) -> bool:
    """Whether it is an HTTPRoute that AI Gateway has made of a route of ours, with our labels on it."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return obj["kind"] == "HTTPRoute" and any(owner.get("kind") == "AIGatewayRoute" for owner in owners)
