"""The Gateway that the cluster's settings ask for (`create-gateway: NAMESPACE/NAME`), where there is none yet. Pure.

It is made and kept as it should be; it is never deleted, for with it go its address and everybody's traffic.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.choice import CONTROLLER
from gateway.difference import stamped
from gateway.facts import GATEWAY_API_GROUP
from gateway.objects.metadata import MANAGED_BY, Object
from isvc import INJECTION_LABEL, GatewayRef

SETTING = "create-gateway"
CLASS = "token-meter"
"""The GatewayClass that is made where Envoy Gateway has none."""
Raw = Mapping[str, Any]


def wanted(ref: GatewayRef, gateways: Sequence[Raw], classes: Sequence[Raw]) -> tuple[Object, ...]:
    """What is to be applied: nothing where Envoy Gateway has a Gateway of somebody else's, or the name is taken."""
    own = [obj for obj in classes if (obj.get("spec") or {}).get("controllerName") == CONTROLLER]
    names = {obj["metadata"]["name"] for obj in own}
    others = [obj for obj in gateways if not _ours(obj)]
    if any((obj.get("spec") or {}).get("gatewayClassName") in names or _place(obj) == ref for obj in others):
        return ()
    named = min(names - {CLASS}, default=CLASS)
    current = next((obj for obj in gateways if _place(obj) == ref), None)
    if current and (kept := (current.get("spec") or {}).get("gatewayClassName")) in names:
        named = kept  # a second class in the cluster moves nobody's Gateway
    made = (
        ()
        if named in names and not any(_ours(o) for o in own if o["metadata"]["name"] == named)
        else (_class(),)
    )
    return (*made, _gateway(ref, named))


def _class() -> Object:
    head = {"apiVersion": f"{GATEWAY_API_GROUP}/v1", "kind": "GatewayClass"}
    metadata = {"name": CLASS, "labels": dict(MANAGED_BY)}
    return stamped(head | {"metadata": metadata, "spec": {"controllerName": CONTROLLER}})


def _gateway(ref: GatewayRef, class_name: str) -> Object:
    """The guide's: plain HTTP on port 80. It admits routes of the namespaces that ask for token-meter."""
    selector = {"matchExpressions": [{"key": INJECTION_LABEL, "operator": "Exists"}]}
    listener = {
        "name": "http",
        "protocol": "HTTP",
        "port": 80,
        "allowedRoutes": {"namespaces": {"from": "Selector", "selector": selector}},
    }
    metadata = {"name": ref.name, "namespace": ref.namespace, "labels": dict(MANAGED_BY)}
    head = {"apiVersion": f"{GATEWAY_API_GROUP}/v1", "kind": "Gateway", "metadata": metadata}
    return stamped(head | {"spec": {"gatewayClassName": class_name, "listeners": [listener]}})


def _ours(obj: Raw) -> bool:
    return MANAGED_BY.items() <= (obj["metadata"].get("labels") or {}).items()


def _place(obj: Raw) -> GatewayRef:
    return GatewayRef(obj["metadata"]["namespace"], obj["metadata"]["name"])
