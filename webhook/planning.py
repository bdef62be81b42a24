"""The plan for an InferenceService without obstacles, and for each of its canaries."""

from dataclasses import replace

from isvc import Access, InferenceService, Mode, Server, Settings, Shape, names
from isvc.annotations import own
from isvc.predictor import Probe
from isvc.service import PREFIX_VARIABLE, Canary
from webhook.environment import environment
from webhook.plan import Facts, Plan, Strategy
from webhook.takeover import takeover

SERVER_CONTAINER = "kserve-container"
PORT_NAME = "http1"


def plan(service: InferenceService, settings: Settings, facts: Facts) -> Plan:
    """What to write, canaries included; a sidecar that is there already keeps its ports."""
    who = access(service, settings)
    stable = _plan(service, settings, facts, who)
    return replace(
        stable, canaries=tuple(_of_canary(canary, settings, facts, who) for canary in service.canaries)
    )


def _plan(service: InferenceService, settings: Settings, facts: Facts, who: Access) -> Plan:
    there = service.sidecar
    port = there.port if there else facts.sidecar.port
    admin_port = (there and there.number("TOKEN_METER_ADMIN_PORT")) or facts.sidecar.admin_port
    taken = takeover(service, facts.sidecar) if service.container.runtime_ports else None
    server_port = service.port or 0
    if taken:
        port, server_port = taken.port, taken.moved
    standard = service.mode is Mode.STANDARD
    return Plan(
        strategy=Strategy.NATIVE_SIDECAR if standard else Strategy.CONTAINER,
        predictor=("spec", "predictor"),
        path=service.path,
        image=facts.sidecar.image,
        cpu=settings.sidecar_cpu,
        memory=settings.sidecar_memory,
        port=port,
        admin_port=admin_port,
        server_port=server_port,
        env=environment(
            service, settings, port=port, admin_port=admin_port, server_port=server_port, access=who
        ),
        key_secret=names.api_key_secret(service.name) if who is Access.GATEWAY or settings.tls else None,
        ports=taken is None,
        move=taken.argument if taken and service.told_port != taken.moved else None,
        redirect=_misled(service, port),
        # Without a probe of its own KServe would give the server one on ports[0], which is the sidecar's now.
        probe=standard and not service.container.readiness_probe,
        prefix=service.server is Server.HUGGINGFACE and PREFIX_VARIABLE not in service.container.env,
        # KServe renames a lone container itself; beside a second one it finds none and makes no workload.
        rename=not standard and service.shape is Shape.CUSTOM and service.container_name != SERVER_CONTAINER,
        as_root=service.as_root,
        known=there.path if there else None,
        former_port=there.number("TOKEN_METER_UPSTREAM") if there else None,
        revision=settings.revision,
    )


def _misled(service: InferenceService, port: int) -> tuple[Probe, ...]:
    """The probes that go to the sidecar's port, by its number or by the name that it has in the server's ports."""
    container = service.container
    first = container.taken or next(iter((*container.ports, *container.runtime_ports)), None)
    name = first.name if first else PORT_NAME  # the one that the sidecar's port is about to get
    return tuple(p for p in container.probes if p.port == port or (name and p.port == name))


def _of_canary(canary: Canary, settings: Settings, facts: Facts, who: Access) -> Plan:
    """The canary's own sidecar; of the server's fields those that replace the stable predictor's."""
    service = replace(canary.service, sidecar=canary.sidecar)
    whole = canary.shape is Shape.CUSTOM
    base = _plan(service, settings, facts, who)
    return replace(
        base,
        predictor=canary.path,
        path=canary.server,
        ports=whole or "ports" in canary.lists,
        probe=whole and base.probe,
        prefix=base.prefix and (whole or "env" in canary.lists),
        rename=whole and service.container_name != SERVER_CONTAINER,
        volume="volumes" in canary.lists,
        inherits=not whole,
    )


def access(service: InferenceService, settings: Settings) -> Access:
    """Who may call the metered paths.

    A transformer calls without the gateway's key. A sidecar that is there keeps its access unless the InferenceService
    itself names one: following the namespace's would restart GPU pods at some later, innocent update.
    """
    if service.transformer:
        return Access.OPEN
    if service.sidecar is None or "access" in own(service.annotations):
        return settings.access
    return Access.GATEWAY if "TOKEN_METER_API_KEY_FILE" in service.sidecar.env else Access.OPEN
