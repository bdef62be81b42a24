"""What the objects are made for: one InferenceService with its settings, reduced to what they say."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from gateway import names
from gateway.facts import Facts, Placement
from gateway.models import Model, public_names
from isvc import Access, InferenceService, Limit, LLMInferenceService, Mode, Settings
from isvc.names import DATA_PORT, TLS_VARIABLE

AGENT_PORT = 9081
"""KServe's agent, which stands in front of the pod where logger or batcher are set (KServe 0.20, agent_injector.go)."""


@dataclass(frozen=True, slots=True)
class Target:
    """One InferenceService as the gateway sees it.

    `pods` is KServe's `app` label of the predictor's pods and None in Knative, where KServe's own address leads to
    them; `host` and `port` are where the gateway sends its requests. `uid` is "" before the object is stored.
    `backend_namespace`: where Backend and what hangs on it stand; `name` everything's there, `route` the route's;
    `service` is our Service's name. `canaries` get their share of the requests, `weight` is what is left, in percent.
    """

    isvc: str
    namespace: str
    uid: str
    models: tuple[Model, ...]
    pods: str | None
    host: str
    port: int
    limit: Limit | None
    limit_by: str
    access: Access
    backend_namespace: str
    name: str
    route_namespace: str
    route: str
    service: str
    tls: bool = False
    kind: str = "InferenceService"
    api_version: str = "serving.kserve.io/v1beta1"
    weight: int = 100
    canaries: "tuple[Target, ...]" = ()

    @property
    def revisions(self) -> "tuple[Target, ...]":
        """The stable predictor and its canaries."""
        return (self, *self.canaries)


def target_of(service: InferenceService, settings: Settings, facts: Facts) -> Target:
    """The target that an InferenceService is behind this Gateway."""
    standard = service.mode is Mode.STANDARD
    own = names.service(service.name)
    host, port = _own_service(service, own, facts) if standard else _knative_address(service, facts)
    cross = facts.placement is Placement.CROSS and facts.gateway.namespace != service.namespace
    route_namespace = facts.gateway.namespace if cross else service.namespace
    # AI Gateway 0.3 knows no backend of another namespace; a Backend's host may be anywhere.
    away = cross and not facts.capabilities.backend_namespace
    beside_model = names.beside_model(service.name)
    beside_gateway = names.beside_gateway(service.namespace, service.name)
    target = Target(
        isvc=service.name,
        namespace=service.namespace,
        uid=service.uid,
        models=public_names(
            service.served_models, namespace=service.namespace, isvc=service.name, taken=facts.taken
        ),
        pods=f"isvc.{names.predictor_service(service.name, service.predictor_name)}" if standard else None,
        host=host,
        port=port,
        limit=settings.limit,
        limit_by=settings.limit_by,
        access=_access(service, settings),
        backend_namespace=route_namespace if away else service.namespace,
        name=beside_gateway if away else beside_model,
        route_namespace=route_namespace,
        route=beside_gateway if cross else beside_model,
        service=own,
        tls=speaks_tls(service, settings),
    )
    canaries = tuple(_canaries(target, service, facts, away=away)) if standard else ()
    left = max(100 - sum(canary.weight for canary in canaries), 0)
    return replace(target, canaries=canaries, weight=left)


def target_of_pool(service: LLMInferenceService, settings: Settings, facts: Facts) -> Target:
    """The same for an LLMInferenceService: `name` is its InferencePool's, and all stands beside that."""
    part = names.llm(service.name)
    return Target(
        isvc=service.name,
        namespace=service.namespace,
        uid=service.uid,
        models=public_names(service.served_models, namespace=service.namespace, isvc=part, taken=facts.taken),
        pods=None,
        host="",
        port=0,
        limit=settings.limit,
        limit_by=settings.limit_by,
        access=Access.OPEN,
        backend_namespace=service.namespace,
        name=service.pool,
        route_namespace=service.namespace,
        route=names.beside_model(part),
        service="",
        kind=service.kind,
        api_version=service.api_version,
    )


def _canaries(stable: Target, service: InferenceService, facts: Facts, *, away: bool) -> Iterator[Target]:
    """Those that can be sent requests to: KServe says that they are ready, and their pods have our sidecar."""
    for canary in service.canaries:
        if not (canary.ready and canary.metered):
            continue
        whole = replace(canary.service, sidecar=canary.sidecar or service.sidecar)
        part = names.canary(service.name, canary.name)
        made = replace(
            stable,
            pods=f"isvc.{names.predictor_service(service.name, canary.name)}",
            name=names.beside_gateway(service.namespace, part) if away else names.beside_model(part),
            service=names.canary_service(service.name, canary.name),
            weight=canary.percent,
        )
        host, port = _own_service(whole, made.service, facts)
        yield replace(made, host=host, port=port)


def _own_service(service: InferenceService, name: str, facts: Facts) -> tuple[str, int]:
    """Our headless Service: each pod is an endpoint of its own to Envoy, so that requests spread over GPU pods."""
    sidecar = service.sidecar.port if service.sidecar else DATA_PORT
    port = AGENT_PORT if service.logger or service.batcher else sidecar
    return f"{name}.{service.namespace}.svc.{facts.cluster_domain}", port


def _knative_address(service: InferenceService, facts: Facts) -> tuple[str, int]:
    """Where KServe says that the service is; before it says so, where KServe 0.20 puts it."""
    fallback = f"http://{service.name}.{service.namespace}.svc.{facts.cluster_domain}"
    url = urlsplit(service.address or fallback)
    return url.hostname or urlsplit(fallback).netloc, url.port or (443 if url.scheme == "https" else 80)


def speaks_tls(service: InferenceService, settings: Settings) -> bool:
    """Likewise: what a sidecar speaks is told to it when it is put in."""
    if service.sidecar:
        return TLS_VARIABLE in service.sidecar.env
    return settings.tls and service.mode is Mode.STANDARD


def _access(service: InferenceService, settings: Settings) -> Access:
    """A sidecar that is there asks for the key or does not, whatever the namespace says since."""
    if service.sidecar:
        return Access.GATEWAY if "TOKEN_METER_API_KEY_FILE" in service.sidecar.env else Access.OPEN
    return Access.OPEN if service.transformer else settings.access
