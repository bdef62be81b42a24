"""Whether and how an InferenceService gets the sidecar: its obstacles in order, then the plan.

Each obstacle is one small function.
"""

import isvc
from isvc import Access, InferenceService, Mode, NotOpenAI, Settings, Shape
from isvc.annotations import own
from webhook.plan import Decision, Facts, Inject, Skip
from webhook.planning import access, plan
from webhook.reasons import Reason, not_openai
from webhook.takeover import takeover


def decide(service: InferenceService, facts: Facts) -> Decision:
    """Inject or Skip. Raises InvalidAnnotation for a namespace's or the cluster's setting that is not allowed."""
    settings = isvc.resolve(service.annotations, facts.namespace_annotations, facts.cluster_defaults)
    for obstacle in (_not_asked, *_OF_PREDICTORS, _canaries):
        if skip := obstacle(service, settings, facts):
            return skip
    return Inject(plan(service, settings, facts))


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


def _shape(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    """Shapes of the pod in which traffic cannot be led through the sidecar, or KServe makes no pod."""
    if service.host_network:
        return Skip(Reason.HOST_NETWORK)
    if "transformer-container" in service.extra_containers:
        return Skip(Reason.COLLOCATED_TRANSFORMER)
    if not service.server_first:
        return Skip(Reason.SEVERAL_CONTAINERS, ", ".join(service.extra_containers))
    if not service.runtime_known:
        return Skip(Reason.RUNTIME_UNKNOWN, service.runtime or "")
    if service.multi_node and service.mode is not Mode.STANDARD:
        return Skip(Reason.MULTI_NODE)
    return None


def _callers(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    """Who calls the server besides the gateway, and so has no key."""
    if service.transformer and own(service.annotations).get("access") == Access.GATEWAY:
        return Skip(Reason.TRANSFORMER)
    if access(service, settings) is Access.GATEWAY:
        if service.api_key:
            return Skip(Reason.SERVER_API_KEY)
        if graph := _graph(service, facts):
            return Skip(Reason.INFERENCE_GRAPH, graph)
    return None


def _graph(service: InferenceService, facts: Facts) -> str:
    """The InferenceGraph that has this InferenceService among its steps, "" without one."""
    for graph in facts.inference_graphs:
        metadata, spec = graph.get("metadata") or {}, graph.get("spec") or {}
        nodes = (spec.get("nodes") or {}).values()
        steps = [step.get("serviceName") for node in nodes for step in node.get("steps") or ()]
        if metadata.get("namespace") == service.namespace and service.name in steps:
            return str(metadata.get("name"))
    return ""


def _tls(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    if service.tls:
        return Skip(Reason.SERVER_TLS)
    if not settings.tls:
        return None
    callers = {
        "Knative's queue-proxy": service.mode is Mode.KNATIVE,
        "KServe's agent (logger, batcher)": service.logger or service.batcher,
        "its transformer": service.transformer,
        "an InferenceGraph": bool(_graph(service, facts)),
    }
    plain = next((caller for caller, there in callers.items() if there), None)
    return Skip(Reason.TLS, plain) if plain else None


def _ports(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    """Ports beside the server's, and ports that its runtime declares."""
    container = service.container
    declared = container.ports or container.runtime_ports
    listed = ", ".join(str(number) for number in (*(p.number for p in declared), *service.other_ports))
    if service.mode is Mode.KNATIVE and (
        service.other_ports or len(declared) > 1 or (container.taken and declared)
    ):
        return Skip(Reason.SEVERAL_PORTS, listed)
    if container.runtime_ports:
        return None if takeover(service, facts.sidecar) else Skip(Reason.RUNTIME_DECLARES_PORTS, listed)
    if len(declared) > 1 and not container.taken and declared[0].number != service.port:
        return Skip(Reason.SEVERAL_PORTS, listed)
    return None


def _no_room(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    if service.port is None:
        return Skip(Reason.NO_HTTP_PORT)
    if service.mode is Mode.KNATIVE and not service.port_fixed:
        return Skip(Reason.PORT_FROM_ENVIRONMENT)
    if service.name_taken:
        return Skip(Reason.NAME_TAKEN)
    runtime_ports = [port.number for port in service.container.runtime_ports]
    if service.sidecar:
        native = service.sidecar.path[2] == "initContainers"
        moved = service.sidecar.port in runtime_ports
        fits = native is (service.mode is Mode.STANDARD) and moved is bool(runtime_ports)
        return None if fits else Skip(Reason.OTHER_MODE)
    used = {*(port.number for port in service.container.ports), *runtime_ports, *service.other_ports}
    ours = facts.sidecar.moved_port if runtime_ports else facts.sidecar.port
    taken = {service.port, *used} & {ours, facts.sidecar.admin_port}
    return Skip(Reason.PORT_TAKEN, ", ".join(map(str, sorted(taken)))) if taken else None


def _canaries(service: InferenceService, settings: Settings, facts: Facts) -> Skip | None:
    """What stands in the way of a canary, which gets a sidecar of its own or keeps the whole from one."""
    for canary in service.canaries:
        own_server = canary.shape is Shape.CUSTOM
        why = ""
        if service.mode is not Mode.STANDARD:
            why = "KServe has canaries in Standard mode only"
        elif canary.shape not in (Shape.NONE, service.shape) or canary.shape is Shape.FRAMEWORK:
            why = "it is another kind of predictor"
        elif service.container.runtime_ports or canary.service.container.runtime_ports:
            why = "its ServingRuntime declares ports"
        elif canary.service.port != service.port and not own_server:
            why = "its server listens on another port"
        elif service.own_init and "initContainers" not in canary.lists:
            why = "it has the stable predictor's init containers"
        elif canary.probe not in (None, "tcpSocket") and not own_server and _has_tcp_probe(service):
            why = "its readiness probe would be merged with the stable predictor's"
        else:
            skips = (obstacle(canary.service, settings, facts) for obstacle in _OF_PREDICTORS)
            why = next((skip.text for skip in skips if skip), "")
        if why:
            return Skip(Reason.CANARY, f"{canary.name}: {why}")
    return None


def _has_tcp_probe(service: InferenceService) -> bool:
    """Whether the stable server has a TCP readiness probe, or is about to get ours."""
    found = [probe for probe in service.container.probes if probe.kind == "readinessProbe"]
    return not service.container.readiness_probe or any(probe.handler == "tcpSocket" for probe in found)


_OF_PREDICTORS = (_not_for_us, _shape, _callers, _tls, _ports, _no_room)
