"""What holds for one InferenceService: its annotations, its namespace's, and the cluster's defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isvc.annotations import ANNOTATIONS, Access, GatewayRef, Limit, Unit, own

DEFAULT_LIMIT = Limit(1000, Unit.HOUR)
DEFAULT_LIMIT_BY = "x-user-id"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one InferenceService.

    `limit` None is no limit; `gateway` None leaves the choice to the controller; `inject` None says nothing.
    """

    inject: bool | None = None
    model: str | None = None
    port: int | None = None
    gateway: GatewayRef | None = None
    limit: Limit | None = DEFAULT_LIMIT
    limit_by: str = DEFAULT_LIMIT_BY
    access: Access = Access.GATEWAY
    tls: bool = False
    sidecar_cpu: str = "100m"
    sidecar_memory: str = "128Mi"
    revision: str | None = None


def resolve(
    isvc_annotations: Mapping[str, str],
    namespace_annotations: Mapping[str, str] | None = None,
    cluster_defaults: Mapping[str, str] | None = None,
) -> Settings:
    """The InferenceService's annotation beats the namespace's, which beats the cluster's default.

    The first two by full key (`token-meter.dev/limit`), the defaults by short name (`limit`), as their
    ConfigMap. Raises InvalidAnnotation for a value that is not allowed, also where another one would beat it.
    """
    of_namespace = own(namespace_annotations or {})
    found: dict[str, Any] = {}
    for name, annotation in ANNOTATIONS.items():
        field = name.replace("-", "_")
        if annotation.cluster and cluster_defaults and name in cluster_defaults:
            found[field] = annotation.value(cluster_defaults[name], "cluster default for")
        if annotation.namespace and name in of_namespace:
            found[field] = annotation.value(of_namespace[name], "Namespace")
    for name, text in own(isvc_annotations).items():
        if name in ANNOTATIONS:
            found[name.replace("-", "_")] = ANNOTATIONS[name].value(text)
    return Settings(**found)
