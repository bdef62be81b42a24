"""The oracle's answer."""

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """One Deployment (`knative` False) or Knative Service: its pod spec, and its Service's ports."""

    name: str
    pod: Object
    service: list[Object]
    knative: bool = False

    @property
    def server(self) -> Object:
        """The model server's container, KServe's index 0."""
        container: Object = self.pod["containers"][0]
        return container


@dataclass(frozen=True, slots=True)
class Made:
    """What stands in the cluster afterwards.

    `rejected`: why KServe's validator or the API server refuses the InferenceService; `failed`: why KServe cannot make
    a workload of it; `pod_containers` names the first pod's containers as they start, init containers first.
    """

    workloads: dict[str, Workload] = field(default_factory=dict)
    pod_containers: tuple[str, ...] = ()
    rejected: str | None = None
    failed: str | None = None

    @property
    def works(self) -> bool:
        return self.rejected is None and self.failed is None and bool(self.workloads)
