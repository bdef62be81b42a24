"""The objects that put one InferenceService behind one Gateway. Pure: the same input gives the same objects.

What holds when the InferenceService is ready is planned; whether it is, and what is there already, is for the
caller to know.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway import names
from gateway.facts import Facts
from gateway.models import share_out
from gateway.notices import Notice, Reason
from gateway.objects import access, backend, route, tls, traffic
from gateway.objects.metadata import Object
from gateway.target import Target, target_of, target_of_pool
from isvc import Access, InferenceService, LLMInferenceService, Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """`objects` in the order in which they can be applied: each after those that it names.

    `early` are those among them that an injected pod waits for, to be applied before it is ready. `models` maps
    the name that clients send to the one that the server knows.
    """

    objects: tuple[Object, ...]
    early: tuple[Object, ...]
    models: dict[str, str]
    notices: tuple[Notice, ...]


def plan(service: InferenceService, settings: Settings, facts: Facts) -> Plan:
    """Everything that the InferenceService needs behind the Gateway of the facts."""
    target = target_of(service, settings, facts)
    secrets = tuple(_secrets(target, facts))
    return Plan(
        objects=(*secrets, *_backends(target, facts), *_routes(target, facts), *_of_gateway(facts)),
        early=tuple(s for s in secrets if s["metadata"]["namespace"] == target.namespace),
        models={model.public: model.served for model in target.models},
        notices=tuple(_notices(service, settings, target, facts)),
    )


def plan_llm(service: LLMInferenceService, settings: Settings, facts: Facts) -> Plan:
    """The route to its InferencePool, and the limit on that. AI Gateway wants both in one namespace: always local."""
    target = target_of_pool(service, settings, facts)
    return Plan(
        objects=(*_routes(target, facts), *_of_gateway(facts)),
        early=(),
        models={model.public: model.served for model in target.models},
        notices=(*_of_models(target, facts), Notice(Reason.GATEWAY_COUNTS_ALONE)),
    )


def _secrets(target: Target, facts: Facts) -> Iterator[Object]:
    if target.access is Access.GATEWAY:
        for namespace in dict.fromkeys((target.namespace, target.backend_namespace)):
            yield access.secret(target, facts, namespace)
    elif target.tls:
        yield access.secret(target, facts, target.namespace)


def _backends(target: Target, facts: Facts) -> Iterator[Object]:
    """Where requests go, and by what right. CAs and policy come before the route: no request goes in the clear."""
    for revision in target.revisions:
        if revision.pods is not None:
            yield backend.service(revision)
        yield backend.backend(revision)
        yield backend.ai_service_backend(revision, facts.capabilities)
    if target.tls:
        yield tls.ca_config_map(target, facts.tls.ca if facts.tls else None)
        yield tls.backend_tls_policy(target, facts.capabilities)
    if target.access is Access.GATEWAY:
        yield access.backend_security_policy(target, facts.capabilities)
    if target.backend_namespace != target.route_namespace:
        yield access.reference_grant(target, facts.capabilities)


def _routes(target: Target, facts: Facts) -> Iterator[Object]:
    for index, rules in enumerate(share_out(target.models)):
        name = names.numbered(target.route, index)
        yield route.ai_gateway_route(target, facts, name, rules)
        if not facts.own_traffic_policy:
            models = [model for rule in rules for model in rule]
            yield traffic.backend_traffic_policy(
                target, name, models, target.limit if facts.rate_limit else None
            )


def _of_gateway(facts: Facts) -> Iterator[Object]:
    if not facts.own_client_policy:
        yield traffic.client_traffic_policy(facts.gateway)


def _of_models(target: Target, facts: Facts) -> Iterator[Notice]:
    for model in target.models:
        if model.renamed:
            yield Notice(Reason.MODEL_NAME_TAKEN, f"{model.served} is asked for by {model.public}")
    if target.limit and not facts.rate_limit and not facts.own_traffic_policy:
        yield Notice(Reason.RATE_LIMIT_UNAVAILABLE)


def _notices(service: InferenceService, settings: Settings, target: Target, facts: Facts) -> Iterator[Notice]:
    yield from _of_models(target, facts)
    if service.transformer and settings.access is Access.GATEWAY and target.access is Access.OPEN:
        yield Notice(Reason.TRANSFORMER_NEEDS_OPEN)
    if target.access is Access.GATEWAY and facts.key is None:
        yield Notice(
            Reason.KEY_PLACEHOLDER,
            f"Secret {target.namespace}/{access.secret_name(target, target.namespace)}",
        )
    if target.tls and facts.tls is None:
        yield Notice(Reason.TLS_PLACEHOLDER, f"ConfigMap {target.backend_namespace}/{target.name}")
