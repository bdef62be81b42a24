"""`token-meter render`: the gateway objects that the controller makes for InferenceServices, without a cluster.

An InferenceService is planned as it is once injected. ServingRuntimes, Namespaces and the Gateway among the input
count as the cluster's; everything else is left out. Objects go to standard output, the rest to standard error.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import isvc
from cli import _documents
from cli._documents import Document, InputError
from gateway.admission import placement
from gateway.facts import OLD_API, Capabilities, Facts, Placement, UnsupportedAPI
from gateway.plan import plan
from isvc import GatewayRef, InvalidAnnotation, Malformed, Mode
from isvc.annotations import ANNOTATIONS
from webhook import injection
from webhook.plan import Facts as InjectionFacts
from webhook.plan import Skip

_MODES = {"standard": Mode.STANDARD, "knative": Mode.KNATIVE}
_APIS = {"v1beta1": Capabilities(), "v1alpha1": OLD_API}
_RUNTIMES = ("ServingRuntime", "ClusterServingRuntime")
_SERVICE = ("InferenceService", "serving.kserve.io/v1beta1")
Object = Mapping[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="FILE",
        action="append",
        required=True,
        help="manifest to read, YAML or JSON, - for standard input; may be repeated",
    )
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
    parser.add_argument(
        "--mode",
        choices=list(_MODES),
        default="standard",
        help="the cluster's default deployment mode; an InferenceService's own comes first (default: %(default)s)",
    )
    parser.add_argument(
        "-n", "--namespace", default="default", help="of objects that name none (default: %(default)s)"
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
        objects = list(_render(args))
    except InputError as error:
        _say(str(error))
        return 1
    if not objects:
        _say("nothing is rendered: the input has no InferenceService that speaks OpenAI's API")
        return 1
    sys.stdout.write(_as_json(objects) if args.output == "json" else _as_yaml(objects))
    return 0


@dataclass(frozen=True, slots=True)
class _Found:
    """One object of the input and where it stands."""

    document: Document
    path: tuple[str | int, ...]
    obj: Object

    @property
    def where(self) -> str:
        return self.document.where(self.path)

    @property
    def kind(self) -> str:
        return str(self.obj.get("kind"))

    @property
    def metadata(self) -> Object:
        return self.obj.get("metadata") or {}


def _render(args: argparse.Namespace) -> Iterator[Object]:
    """The objects of every InferenceService, each object once."""
    capabilities = _capabilities(args)
    found = list(_objects(_documents.read(args.files)))
    taken: dict[GatewayRef, set[str]] = {}
    made: set[tuple[str, ...]] = set()
    for one in _services(found):
        for obj in _plan(one, found, args, capabilities, taken):
            metadata = obj["metadata"]
            identity = (obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"])
            if identity not in made:
                made.add(identity)
                yield obj


def _services(found: Sequence[_Found]) -> list[_Found]:
    """The InferenceServices, the oldest first: it keeps its model's name. The others are named on standard error."""
    services = []
    for one in found:
        if (one.kind, one.obj.get("apiVersion")) == _SERVICE:
            services.append(one)
        elif one.kind not in (*_RUNTIMES, "Namespace", "Gateway"):
            kind = f"{one.obj.get('apiVersion')} {one.kind}"
            _say(f"{one.where}: {kind} is left out; it is not a v1beta1 InferenceService of KServe")
    return sorted(services, key=lambda one: str(one.metadata.get("creationTimestamp") or "~"))


def _plan(
    one: _Found,
    found: Sequence[_Found],
    args: argparse.Namespace,
    capabilities: Capabilities,
    taken: dict[GatewayRef, set[str]],
) -> tuple[Object, ...]:
    """One InferenceService's objects; none, and a line that says why, where the webhook would skip it."""
    namespace = _find(found, "Namespace", one.metadata.get("namespace") or args.namespace)
    try:
        injected = injection.run(one.obj, _injection_facts(args, namespace, found))
        label = f"{one.where}: InferenceService {injected.service.namespace}/{injected.service.name}"
        if isinstance(injected.decision, Skip):
            _say(f"{label} gets no objects, {injected.decision.reason.label}: {injected.decision.text}")
            return ()
        service = isvc.read(
            injected.obj,
            default_mode=_MODES[args.mode],
            default_namespace=args.namespace,
            serving_runtimes=_runtimes(found),
        )
        settings = isvc.resolve(service.annotations, namespace.get("annotations") or {})
    except Malformed as error:
        raise InputError(
            f"{one.document.where((*one.path, *error.path))}: InferenceService: {error}"
        ) from None
    except InvalidAnnotation as error:
        raise InputError(
            f"{one.document.where((*one.path, 'metadata', 'annotations', error.key))}: {error}"
        ) from None
    gateway = settings.gateway or args.gateway
    if gateway != args.gateway:
        _say(f"{label} names the Gateway {gateway} itself; that one is taken, not {args.gateway}")
    others = taken.setdefault(gateway, set())
    facts = Facts(
        gateway=gateway,
        placement=_placement(args, found, gateway, service.namespace, namespace.get("labels") or {}),
        capabilities=capabilities,
        taken=frozenset(others),
    )
    result = plan(service, settings, facts)
    others.update(result.models)
    for text in (*injected.warnings, *result.notices):
        _say(f"{label}: {text}")
    return result.objects


def _injection_facts(args: argparse.Namespace, namespace: Object, found: Sequence[_Found]) -> InjectionFacts:
    return InjectionFacts(
        default_mode=_MODES[args.mode],
        default_namespace=args.namespace,
        namespace_annotations=namespace.get("annotations") or {},
        serving_runtimes=_runtimes(found),
    )


def _runtimes(found: Sequence[_Found]) -> list[Object]:
    return [*(one.obj for one in found if one.kind in _RUNTIMES), *isvc.SHIPPED_RUNTIMES]


def _placement(
    args: argparse.Namespace,
    found: Sequence[_Found],
    gateway: GatewayRef,
    namespace: str,
    labels: Mapping[str, str],
) -> Placement:
    if args.placement:
        return Placement(args.placement)
    for one in found:
        own = one.metadata.get("namespace") or args.namespace
        if one.kind == "Gateway" and GatewayRef(own, str(one.metadata.get("name"))) == gateway:
            return placement({**one.obj, "metadata": {**one.metadata, "namespace": own}}, namespace, labels)
    return Placement.CROSS


def _capabilities(args: argparse.Namespace) -> Capabilities:
    if not args.crds:
        return _APIS[args.api]
    crds = [one.obj for one in _objects(_documents.read(args.crds)) if one.kind == "CustomResourceDefinition"]
    try:
        return Capabilities.from_crds(crds)
    except (UnsupportedAPI, KeyError, TypeError) as error:
        problem = str(error) if isinstance(error, UnsupportedAPI) else "these are not whole CRDs"
        raise InputError(f"{', '.join(args.crds)}: {problem}") from None


def _find(found: Sequence[_Found], kind: str, name: str) -> Object:
    """The metadata of that cluster-wide object of the input, else nothing."""
    return next((one.metadata for one in found if one.kind == kind and one.metadata.get("name") == name), {})


def _objects(documents: Sequence[Document]) -> Iterator[_Found]:
    """The Kubernetes objects of the documents, those of a List one by one."""
    for document in documents:
        value = document.value
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise InputError(
                f"{document.where()}: this is not a Kubernetes object; remove it or correct the file"
            )
        items = value.get("items")
        if str(value.get("kind", "")).endswith("List") and isinstance(items, list):
            yield from (
                _Found(document, ("items", i), item)
                for i, item in enumerate(items)
                if isinstance(item, Mapping)
            )
        else:
            yield _Found(document, (), value)


def _as_json(objects: Sequence[Object]) -> str:
    value = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _as_yaml(objects: Sequence[Object]) -> str:
    return "---\n".join(_documents.dump(obj) for obj in objects)


def _say(message: str) -> None:
    print(f"token-meter render: {message}", file=sys.stderr)
