"""Whether a Gateway's listener admits the routes of a namespace: the fact that placement follows from."""

from collections.abc import Mapping
from typing import Any

from gateway.facts import Placement

Object = Mapping[str, Any]
_NAME_LABEL = "kubernetes.io/metadata.name"  # Kubernetes itself puts it on every Namespace


def placement(
    gateway: Object, gateway_namespace: str, namespace: str, labels: Mapping[str, str] | None = None
) -> Placement:
    """Where route and policy of a model in `namespace` can stand; `labels` are the Namespace's."""
    labels = {_NAME_LABEL: namespace, **(labels or {})}
    listeners = gateway["spec"].get("listeners") or ()
    admitted = any(_admits(listener, gateway_namespace, namespace, labels) for listener in listeners)
    return Placement.LOCAL if admitted else Placement.CROSS


def _admits(listener: Object, own: str, namespace: str, labels: Mapping[str, str]) -> bool:
    """Gateway API's allowedRoutes: `Same` where nothing is said, HTTPRoute among the kinds where any are."""
    if listener.get("protocol") not in ("HTTP", "HTTPS"):
        return False
    allowed = listener.get("allowedRoutes") or {}
    kinds = [kind["kind"] for kind in allowed.get("kinds") or ()]
    if kinds and "HTTPRoute" not in kinds:
        return False
    namespaces = allowed.get("namespaces") or {}
    match namespaces.get("from") or "Same":
        case "All":
            return True
        case "Same":
            return own == namespace
        case "Selector":
            return selected(namespaces.get("selector") or {}, labels)
        case _:
            return False


def selected(selector: Object, labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one selects everything."""
    exact = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return exact and all(_holds(e, labels) for e in selector.get("matchExpressions") or ())


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False
