"""What the plan rests on besides the InferenceService: the Gateway, the cluster's APIs, what others hold already."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from isvc import LLM_KIND, LLM_VERSIONS, GatewayRef

AI_GATEWAY_GROUP = "aigateway.envoyproxy.io"
GATEWAY_API_GROUP = "gateway.networking.k8s.io"
ENVOY_GATEWAY_GROUP = "gateway.envoyproxy.io"


class Placement(StrEnum):
    """Where route and traffic policy stand; the Gateway's listener decides it by its allowedRoutes."""

    LOCAL = "local"
    """Beside the model: the listener admits routes of that namespace."""

    CROSS = "cross"
    """Beside the Gateway: the listener admits only its own namespace's routes."""


class UnsupportedAPI(ValueError):
    """The cluster's CRDs serve no version that the objects can be written in."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the installed APIs have; the default is AI Gateway 1.1.

    `ai_gateway` and `reference_grant` are versions. `backend_namespace`: a route can name an AIServiceBackend of
    another namespace (AI Gateway 0.4). `stream_idle_timeout`: a route's rules have that field (AI Gateway 1.1).
    `backend_tls` is BackendTLSPolicy's version, `llm` that of LLMInferenceService, None where it is not installed.
    """

    ai_gateway: str = "v1beta1"
    reference_grant: str = "v1beta1"
    backend_namespace: bool = True
    stream_idle_timeout: bool = True
    llm: str | None = None
    backend_tls: str = "v1"

    @classmethod
    def from_crds(cls, crds: Iterable[Mapping[str, Any]]) -> "Capabilities":
        """Read them from raw CustomResourceDefinitions: the served versions and the fields in their schemas.

        Raises UnsupportedAPI where AIGatewayRoute is missing or too old (AI Gateway 0.3 is the oldest that works).
        """
        kinds = {crd["spec"]["names"]["kind"]: crd for crd in crds}
        if (route := kinds.get("AIGatewayRoute")) is None:
            raise UnsupportedAPI("there is no AIGatewayRoute CRD; install AI Gateway 0.3 or newer")
        version = _newest(route, "v1beta1", "v1alpha1")
        spec = _properties(_schema(route, version), "spec")
        if "parentRefs" not in spec:
            raise UnsupportedAPI("AIGatewayRoute has no spec.parentRefs; install AI Gateway 0.3 or newer")
        rule = spec["rules"]["items"]["properties"]
        grant, llm, tls = (kinds.get(kind) for kind in ("ReferenceGrant", LLM_KIND, "BackendTLSPolicy"))
        return cls(
            ai_gateway=version,
            reference_grant=_newest(grant, "v1", "v1beta1") if grant else cls().reference_grant,
            backend_namespace="namespace" in rule["backendRefs"]["items"]["properties"],
            stream_idle_timeout="streamIdleTimeout" in rule,
            llm=_newest(llm, *LLM_VERSIONS) if llm else None,
            backend_tls=_newest(tls, "v1", "v1alpha3") if tls else cls().backend_tls,
        )


OLD_API = Capabilities(ai_gateway="v1alpha1", stream_idle_timeout=False)
"""AI Gateway 0.4 and 0.5, which serve nothing newer."""


def _newest(crd: Mapping[str, Any], *versions: str) -> str:
    """The first of `versions` that the CRD serves."""
    served = [version["name"] for version in crd["spec"]["versions"] if version["served"]]
    for version in versions:
        if version in served:
            return version
    kind = crd["spec"]["names"]["kind"]
    raise UnsupportedAPI(f"{kind} is served as {', '.join(served)}; known are {', '.join(versions)}")


def _schema(crd: Mapping[str, Any], version: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(v for v in crd["spec"]["versions"] if v["name"] == version)
    return found["schema"]["openAPIV3Schema"]  # type: ignore[no-any-return]


def _properties(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema["properties"][name]["properties"]
    return found


@dataclass(frozen=True, slots=True)
class Material:
    """What TLS to the sidecar is made of, all PEM: its certificate and key, the CAs that Envoy verifies it by."""

    certificate: str
    key: str
    ca: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The cluster as the plan has to know it.

    `rate_limit`: Envoy Gateway has a rate limit backend (without one a limited route answers 500).
    `taken`: model names that an older InferenceService has behind this Gateway.
    `own_traffic_policy`, `own_client_policy`: the user has one on the route or the Gateway; ours stays away.
    `key`: the API key's value, None where it is not known yet; `tls`: likewise, for a sidecar that speaks TLS.
    """

    gateway: GatewayRef
    placement: Placement = Placement.LOCAL
    capabilities: Capabilities = Capabilities()
    rate_limit: bool = True
    taken: frozenset[str] = field(default_factory=frozenset)
    own_traffic_policy: bool = False
    own_client_policy: bool = False
    key: str | None = None
    tls: Material | None = None
    cluster_domain: str = "cluster.local"
