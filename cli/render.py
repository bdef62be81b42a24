"""`token-meter render`: the gateway objects that the controller makes for InferenceServices, without a cluster.

An InferenceService is planned as it is once injected. ServingRuntimes, Namespaces and the Gateway among the input
count as the cluster's; everything else is left out. Objects go to standard output, the rest to standard error.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

import isvc
from cli import _documents, _manifest
from cli._documents import InputError
from cli._manifest import Found, Object, objects, pick
from gateway.facts import OLD_API, Capabilities, Facts, Placement, UnsupportedAPI
from gateway.listeners import placement
from gateway.plan import plan
from isvc import GatewayRef, InvalidAnnotation, Malformed
from isvc.annotations import ANNOTATIONS
from webhook import injection
from webhook.plan import Facts as InjectionFacts
from webhook.plan import Skip

_APIS = {"v1beta1": Capabilities(), "v1alpha1": OLD_API}
_SERVICE = ("InferenceService", "serving.kserve.io/v1beta1")


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    _manifest.configure(parser)
    parser.add_argument(
        "--gateway",
        type=_gateway_ref,
        required=True,
        metavar="NAMESPACE/NAME",
        help="the Gateway; an InferenceService's or namespace's own annotation comes first",
    )
    parser.add_argument(
        "--placement",
        choices=list(Placement),
        help="where the route stands: local, beside the model; cross, beside the Gateway (default: as the Gateway's"
        " listeners admit where it is among the input, else cross, which every listener admits)",
    )
    api = parser.add_mutually_exclusive_group()
    api.add_argument(
        "--api",
        choices=list(_APIS),
        default="v1beta1",
        help="AI Gateway's API: v1beta1 for AI Gateway 1.1, v1alpha1 for 0.4 and 0.5 (default: %(default)s)",
    )
    api.add_argument(
        "--crds",
        metavar="FILE",
        action="append",
        help="take AI Gateway's API and fields from its CRDs instead (kubectl get crd -o yaml); for any release",
    )
    parser.add_argument("-o", "--output", choices=["yaml", "json"], default="yaml")


def _gateway_ref(text: str) -> GatewayRef:
    try:
        found: GatewayRef = ANNOTATIONS["gateway"].value(text)
    except InvalidAnnotation:
        raise argparse.ArgumentTypeError(f'"{text}" is not a Gateway; write NAMESPACE/NAME') from None
    return found


def run(args: argparse.Namespace) -> int:
    """Plan and print; 1 on wrong input, and where there was nothing to make objects for."""
    try:
        rendered = list(_render(args))
    except InputError as error:
        _say(str(error))
        return 1
    if not rendered:
        _say("nothing is rendered: the input has no InferenceService that speaks OpenAI's API")
        return 1
    sys.stdout.write(_as_json(rendered) if args.output == "json" else _as_yaml(rendered))
    return 0


def _render(args: argparse.Namespace) -> Iterator[Object]:
    """The objects of every InferenceService, each object once."""
    capabilities = _capabilities(args)
    found = list(objects(_documents.read(args.files)))
    taken: dict[GatewayRef, set[str]] = {}
    made: set[tuple[str, ...]] = set()
    for one in _services(found):
        for obj in _plan(one, found, args, capabilities, taken):
            metadata = obj["metadata"]
            identity = (obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"])
            if identity not in made:
                made.add(identity)
                yield obj


def _services(found: Sequence[Found]) -> list[Found]:
    """The InferenceServices, the oldest first: it keeps its model's name. The others are named on standard error."""
    services = []
    for one in found:
        if (one.kind, one.obj.get("apiVersion")) == _SERVICE:
            services.append(one)
        elif one.kind not in (*_manifest.RUNTIMES, "Namespace", "Gateway"):
            kind = f"{one.obj.get('apiVersion')} {one.kind}"
            _say(f"{one.where()}: {kind} is left out; it is not a v1beta1 InferenceService of KServe")
    return sorted(services, key=lambda one: str(one.metadata.get("creationTimestamp") or "~"))


def _plan(
    one: Found,
    found: Sequence[Found],
    args: argparse.Namespace,
    capabilities: Capabilities,
    taken: dict[GatewayRef, set[str]],
) -> tuple[Object, ...]:
    """One InferenceService's objects; none, and a line that says why, where the webhook would skip it."""
    namespace = pick(found, "Namespace", str(one.metadata.get("namespace") or args.namespace))
    annotations = namespace.annotations if namespace else {}
    runtimes = [
        *(other.obj for other in found if other.kind in _manifest.RUNTIMES),
        *isvc.SHIPPED_RUNTIMES,
    ]
    mode = _manifest.MODES[args.mode]
    try:
        injected = injection.run(
            one.obj,
            InjectionFacts(
                default_mode=mode,
                default_namespace=args.namespace,
                namespace_annotations=annotations,
                serving_runtimes=runtimes,
            ),
        )
        service = isvc.read(
            injected.obj, default_mode=mode, default_namespace=args.namespace, serving_runtimes=runtimes
        )
        settings = isvc.resolve(service.annotations, annotations)
    except Malformed as error:
        raise InputError(f"{one.where(*error.path)}: InferenceService: {error}") from None
    except InvalidAnnotation as error:
        raise InputError(f"{one.where('metadata', 'annotations', error.key)}: {error}") from None
    label = f"{one.where()}: InferenceService {service.namespace}/{service.name}"
    if isinstance(injected.decision, Skip):
        _say(f"{label} gets no objects, {injected.decision.reason.label}: {injected.decision.text}")
        return ()
    gateway = settings.gateway or args.gateway
    if gateway != args.gateway:
        _say(
            f"{label} goes by the Gateway {gateway} of its or its namespace's annotation, not by {args.gateway}"
        )
    others = taken.setdefault(gateway, set())
    result = plan(
        service,
        settings,
        Facts(
            gateway=gateway,
            placement=_placement(args, found, gateway, service.namespace, namespace),
            capabilities=capabilities,
            taken=frozenset(others),
        ),
    )
    others.update(result.models)
    for text in (*injected.warnings, *result.notices):
        _say(f"{label}: {text}")
    return result.objects


def _placement(
    args: argparse.Namespace,
    found: Sequence[Found],
    gateway: GatewayRef,
    namespace: str,
    known: Found | None,
) -> Placement:
    """As asked for, else as the Gateway of the input admits, else where every listener admits it."""
    if args.placement:
        return Placement(args.placement)
    there = pick(found, "Gateway", gateway.name, gateway.namespace, default=args.namespace)
    if there is None:
        return Placement.CROSS
    try:
        return placement(there.obj, gateway.namespace, namespace, known.labels if known else {})
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(
            f"{there.where('spec')}: this Gateway cannot be read; correct its listeners or give --placement"
        ) from None


def _capabilities(args: argparse.Namespace) -> Capabilities:
    if not args.crds:
        return _APIS[args.api]
    found = objects(_documents.read(args.crds))
    try:
        return Capabilities.from_crds(one.obj for one in found if one.kind == "CustomResourceDefinition")
    except UnsupportedAPI as error:
        raise InputError(f"{', '.join(args.crds)}: {error}") from None
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"{', '.join(args.crds)}: a CRD in it is not whole; write it with kubectl get crd NAME -o yaml"
        ) from None


def _as_json(rendered: Sequence[Object]) -> str:
    value = {"apiVersion": "v1", "kind": "List", "items": list(rendered)}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _as_yaml(rendered: Sequence[Object]) -> str:
    return "---\n".join(_documents.dump(obj) for obj in rendered)


def _say(message: str) -> None:
    print(f"token-meter render: {message}", file=sys.stderr)
