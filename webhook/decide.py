"""Whether and how an InferenceService gets the sidecar: its obstacles in order, then the plan.

Each obstacle is one small function; a shape that becomes supported loses its obstacle and gets a strategy.
"""

import isvc
from isvc import Access, InferenceService, Mode, NotOpenAI, Server, Settings, Shape, names
from isvc.annotations import own
from isvc.service import PREFIX_VARIABLE
from webhook.environment import environment
from webhook.plan import Decision, Facts, Inject, Plan, Skip, Strategy
from webhook.reasons import Reason, not_openai

_SERVER_CONTAINER = "kserve-container"


def decide(service: InferenceService, facts: Facts) -> Decision:
    """Inject or Skip. Raises InvalidAnnotation for a namespace's or the cluster's setting that is not allowed."""
    settings = isvc.resolve(service.annotations, facts.namespace_annotations, facts.cluster_defaults)
    for obstacle in (_not_asked, _not_for_us, _beyond_us, _no_room):
        if skip := obstacle(service, settings, facts):
            return skip
    return Inject(_plan(service, settings, facts))


def _not_asked(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    if settings.inject is False:
        return Skip(Reason.OPTED_OUT)
    if facts.injection not in ("enabled", "annotated"):
        return Skip(Reason.NAMESPACE_NOT_LABELLED)
    if facts.injection == "annotated" and not settings.inject:
        return Skip(Reason.NOT_ANNOTATED)
    if not service.name:
        return Skip(Reason.NO_NAME)
    return None


def _not_for_us(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    match service.not_openai:
        case None:
            return None
        case NotOpenAI.UNKNOWN_FORMAT if not service.runtime_known:
            return Skip(Reason.RUNTIME_UNKNOWN, service.runtime or "")
        case NotOpenAI.UNKNOWN_SERVER as why:
            return Skip(not_openai(why), service.container.image or "no image")
        case why:
            return Skip(not_openai(why), service.model_format)


def _beyond_us(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    """Shapes whose strategy is not written yet."""
    if service.canaries:
        return Skip(Reason.CANARY)
    if service.multi_node:
        return Skip(Reason.MULTI_NODE)
    if service.transformer:
        return Skip(Reason.TRANSFORMER)
    if "transformer-container" in service.extra_containers:
        return Skip(Reason.COLLOCATED_TRANSFORMER)
    if service.extra_containers:
        return Skip(Reason.SEVERAL_CONTAINERS, ", ".join(service.extra_containers))
    if not service.runtime_known:
        return Skip(Reason.RUNTIME_UNKNOWN, service.runtime or "")
    if service.container.runtime_ports:
        return Skip(Reason.RUNTIME_DECLARES_PORTS, service.runtime or "")
    if len(service.container.ports) > 1:
        return Skip(Reason.SEVERAL_PORTS, ", ".join(str(port.number) for port in service.container.ports))
    if service.tls:
        return Skip(Reason.SERVER_TLS)
    if settings.tls:
        return Skip(Reason.TLS)
    return None


def _no_room(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    if service.port is None:
        return Skip(Reason.NO_HTTP_PORT)
    if service.mode is Mode.KNATIVE and not service.port_fixed:
        return Skip(Reason.PORT_FROM_ENVIRONMENT)
    if service.api_key and _access(service, settings) is Access.GATEWAY:
        return Skip(Reason.SERVER_API_KEY)
    if service.name_taken:
        return Skip(Reason.NAME_TAKEN)
    if service.sidecar:
        native = service.sidecar.path[2] == "initContainers"
        return Skip(Reason.OTHER_MODE) if native is not (service.mode is Mode.STANDARD) else None
    wanted = {facts.sidecar.port, facts.sidecar.admin_port}
    taken = {service.port, *(port.number for port in service.container.ports)} & wanted
    return Skip(Reason.PORT_TAKEN, ", ".join(map(str, sorted(taken)))) if taken else None


def _plan(service: InferenceService, settings: Settings, facts: Facts) -> Plan:
    """The plan for a service without obstacles; a sidecar that is there already keeps its ports."""
    there = service.sidecar
    port = (there and there.number("TOKEN_METER_PORT")) or facts.sidecar.port
    admin_port = (there and there.number("TOKEN_METER_ADMIN_PORT")) or facts.sidecar.admin_port
    access = _access(service, settings)
    standard = service.mode is Mode.STANDARD
    return Plan(
        strategy=Strategy.NATIVE_SIDECAR if standard else Strategy.CONTAINER,
        path=service.path,
        image=facts.sidecar.image,
        cpu=settings.sidecar_cpu,
        memory=settings.sidecar_memory,
        port=port,
        admin_port=admin_port,
        server_port=service.port or 0,
        env=environment(service, settings, port=port, admin_port=admin_port, access=access),
        key_secret=names.api_key_secret(service.name) if access is Access.GATEWAY else None,
        # Without a probe of its own KServe would give the server one on ports[0], which is the sidecar's now.
        probe=standard and not service.container.readiness_probe,
        prefix=service.server is Server.HUGGINGFACE and PREFIX_VARIABLE not in service.container.env,
        # KServe renames a lone container itself; beside a second one it finds none and makes no workload.
        rename=not standard and service.shape is Shape.CUSTOM and service.container_name != _SERVER_CONTAINER,
        known=there.path if there else None,
        former_port=there.number("TOKEN_METER_UPSTREAM") if there else None,
    )


def _access(service: InferenceService, settings: Settings) -> Access:
    """A sidecar that is there keeps its access unless the InferenceService itself names one.

    Following the namespace's would restart GPU pods at some later, innocent update.
    """
    if service.sidecar is None or "access" in own(service.annotations):
        return settings.access
    return Access.GATEWAY if "TOKEN_METER_API_KEY_FILE" in service.sidecar.env else Access.OPEN
