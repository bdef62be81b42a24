"""The cluster as `check` sees it: raw objects by what they are, read once; what could not be read, and why."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certs.api import Api, ApiError

Object = Mapping[str, Any]
SYSTEM = "token-meter-system"
_KSERVE = "/apis/serving.kserve.io"
_ENVOY = "/apis/gateway.envoyproxy.io/v1alpha1"
_GATEWAY_API = "/apis/gateway.networking.k8s.io"
LISTS = {
    "deployments": "/apis/apps/v1/deployments",
    "namespaces": "/api/v1/namespaces",
    "configmaps": "/api/v1/configmaps?fieldSelector=metadata.name%3D{}",
    "leases": f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases",
    "mutatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "endpointslices": f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1/rolebindings?fieldSelector=metadata.name%3Dtoken-meter-ledger",
    "inferenceservices": f"{_KSERVE}/v1beta1/inferenceservices",
    "inferencegraphs": f"{_KSERVE}/v1alpha1/inferencegraphs",
    "servingruntimes": f"{_KSERVE}/v1alpha1/servingruntimes",
    "clusterservingruntimes": f"{_KSERVE}/v1alpha1/clusterservingruntimes",
    "gateways": f"{_GATEWAY_API}/v1/gateways",
    "gatewayclasses": f"{_GATEWAY_API}/v1/gatewayclasses",
    "httproutes": f"{_GATEWAY_API}/v1/httproutes",
    "backendtrafficpolicies": f"{_ENVOY}/backendtrafficpolicies",
    "clienttrafficpolicies": f"{_ENVOY}/clienttrafficpolicies",
    "securitypolicies": f"{_ENVOY}/securitypolicies",
}
"""Name -> path of the list, in all namespaces where it has any."""
CONFIG_MAPS = ("envoy-gateway-config", "inferenceservice-config", "token-meter")
GROUPS = (
    "serving.kserve.io",
    "gateway.networking.k8s.io",
    "gateway.envoyproxy.io",
    "aigateway.envoyproxy.io",
)
_PAGE = "500"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`lists` by name; `groups` the versions that each API group serves, the preferred one first; `unreadable` names
    the lists that were refused, with the API server's own words; `probe` what a new InferenceService would get."""

    lists: Mapping[str, list[Object]] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> list[Object]:
        """A list; empty where its kind is not served."""
        return self.lists.get(name, [])

    def config_map(self, name: str, namespace: str = "") -> Object | None:
        """The ConfigMap of that name, wherever it stands unless a namespace is named."""
        for obj in self.of("configmaps"):
            metadata = obj["metadata"]
            if metadata["name"] == name and namespace in ("", metadata["namespace"]):
                return obj
        return None


async def collect(api: Api) -> Snapshot:
    """Read all of it. Raises what says that there is no API server, or that it does not know who asks."""
    await api.get("/version")
    groups = {group: await _versions(api, group) for group in GROUPS}
    names = [name for name in LISTS if name != "configmaps"]
    paths = [LISTS[name] for name in names] + [LISTS["configmaps"].format(name) for name in CONFIG_MAPS]
    names += ["configmaps"] * len(CONFIG_MAPS)
    if "v1beta1" in groups["aigateway.envoyproxy.io"] or "v1alpha1" in groups["aigateway.envoyproxy.io"]:
        version = next(v for v in ("v1beta1", "v1alpha1") if v in groups["aigateway.envoyproxy.io"])
        names.append("aigatewayroutes")
        paths.append(f"/apis/aigateway.envoyproxy.io/{version}/aigatewayroutes")
    answers = await asyncio.gather(*(_list(api, path) for path in paths))
    lists: dict[str, list[Object]] = {}
    unreadable: dict[str, str] = {}
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, str):
            unreadable[name] = answer
        else:
            lists.setdefault(name, []).extend(answer)
    return Snapshot(lists, groups, unreadable)


async def _versions(api: Api, group: str) -> tuple[str, ...]:
    try:
        answer = await api.get(f"/apis/{group}")
    except ApiError as error:
        if error.status == 404:
            return ()
        raise
    return tuple(version["version"] for version in answer.get("versions") or ())


async def _list(api: Api, path: str) -> list[Object] | str:
    """Every page of a list; what the API server says where it is refused."""
    where, _, query = path.partition("?")
    selector = dict([query.replace("%3D", "=").split("=", 1)]) if query else {}
    found: list[Object] = []
    proceed = ""
    try:
        while True:
            params = {**selector, "limit": _PAGE, **({"continue": proceed} if proceed else {})}
            answer = await api.get(where, **params)
            found += answer.get("items") or ()
            proceed = (answer.get("metadata") or {}).get("continue") or ""
            if not proceed:
                return found
    except ApiError as error:
        if error.status == 404:
            return []
        return str(error)
