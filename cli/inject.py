"""`token-meter inject`: InferenceServices as the webhook would store them, in files or through a pipe.

The result goes to standard output, what happened to each InferenceService to standard error. Other kinds pass
untouched; ServingRuntimes, ClusterServingRuntimes and Namespaces among the input count as the cluster's.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli import _documents, _manifest
from cli._documents import Document, InputError
from cli._manifest import Found, objects, pick
from isvc import INJECTION_LABEL, SHIPPED_RUNTIMES, InvalidAnnotation, Malformed
from webhook import injection
from webhook.injection import Result
from webhook.plan import Facts, SidecarSettings, Skip

_GROUP = "serving.kserve.io/"
_Path = tuple[str | int, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommand's options."""
    _manifest.configure(parser)
    parser.add_argument(
        "-o",
        "--output",
        choices=["yaml", "json", "patch", "diff"],
        default="yaml",
        help="yaml: all documents; json: the same as one object or List; patch: one JSON Patch a line for each"
        " InferenceService; diff: what changes (default: %(default)s)",
    )
    parser.add_argument(
        "--image",
        default=SidecarSettings().image,
        metavar="IMAGE",
        help="the sidecar's image (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Inject and print; on wrong input nothing is printed but the error. Returns the exit code."""
    try:
        sys.stdout.write(_output(args))
    except InputError as error:
        _say(str(error))
        return 1
    return 0


def _output(args: argparse.Namespace) -> str:
    outcomes = [(document, results) for document, results in _inject_all(_documents.read(args.files), args)]
    if not any(results for _, results in outcomes):
        _say("there is no InferenceService in the input; nothing is changed")
    match args.output:
        case "json":
            return _as_json(
                [_after(document, results) for document, results in outcomes if document.value is not None]
            )
        case "patch":
            return "".join(
                json.dumps(result.patch) + "\n" for _, results in outcomes for result in results.values()
            )
        case "diff":
            return "".join(_as_diff(document, results) for document, results in outcomes)
        case _:
            return _joined([_as_yaml(document, results) for document, results in outcomes])


_Results = Mapping[_Path, Result]
"""What came of a document's InferenceServices, by their path in it: () or ("items", i)."""


def _inject_all(
    documents: Sequence[Document], args: argparse.Namespace
) -> Iterator[tuple[Document, _Results]]:
    found = list(objects(documents))
    for document in documents:
        results = {}
        for one in found:
            if one.document is document and _is_inference_service(one):
                results[one.path] = _inject(one, _facts(args, found, one))
        yield document, results


def _is_inference_service(one: Found) -> bool:
    version = one.obj.get("apiVersion")
    if one.kind != "InferenceService" or not str(version).startswith(_GROUP):
        return False
    if version == f"{_GROUP}v1beta1":
        return True
    _say(f"{one.where()}: InferenceService of apiVersion {version} is left as it is; KServe serves v1beta1")
    return False


def _facts(args: argparse.Namespace, found: Sequence[Found], one: Found) -> Facts:
    """What of the cluster is among the input."""
    name = str(one.metadata.get("namespace") or args.namespace)
    namespace = pick(found, "Namespace", name)
    return Facts(
        # Asking for injection by hand is opting in; a Namespace in the input can only narrow it.
        injection=namespace.labels.get(INJECTION_LABEL, "enabled") if namespace else "enabled",
        default_mode=_manifest.MODES[args.mode],
        default_namespace=args.namespace,
        namespace_annotations=namespace.annotations if namespace else {},
        serving_runtimes=[
            *(each.obj for each in found if each.kind in _manifest.RUNTIMES),
            *SHIPPED_RUNTIMES,
        ],
        sidecar=SidecarSettings(image=args.image),
    )


def _inject(one: Found, facts: Facts) -> Result:
    try:
        result = injection.run(one.obj, facts)
    except Malformed as error:
        raise InputError(f"{one.where(*error.path)}: InferenceService: {error}") from None
    except InvalidAnnotation as error:
        place = one.where("metadata", "annotations", error.key)
        raise InputError(f"{place}: {error}") from None
    name = f"{one.where()}: InferenceService {result.service.namespace}/{result.service.name}"
    match result.decision:
        case Skip() as skip:
            _say(f"{name} is skipped, {skip.reason.label}: {skip.text}")
        case _ if not result.changed:
            _say(f"{name} has the sidecar already")
    for warning in result.warnings:
        _say(f"{name}: {warning}")
    return result


def _after(document: Document, results: _Results) -> Any:
    """The document's data with every result in its place."""
    if () in results:
        return results[()].obj
    if not results:
        return document.value
    items = [
        results[("items", i)].obj if ("items", i) in results else item
        for i, item in enumerate(document.value["items"])
    ]
    return {**document.value, "items": items}


def _as_yaml(document: Document, results: _Results) -> str:
    operations = [
        {**operation, "path": "".join(f"/{step}" for step in path) + operation["path"]}
        for path, result in results.items()
        for operation in result.patch
    ]
    return document.edited(operations, _after(document, results)) if operations else document.text


def _as_json(values: Sequence[Any]) -> str:
    value = values[0] if len(values) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(values)}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _as_diff(document: Document, results: _Results) -> str:
    """A unified diff of the document, without what only the writing of YAML would change."""
    if not any(result.changed for result in results.values()):
        return ""
    name = f"{document.source} document {document.number}"
    before, after = document.rewritten(), _as_yaml(document, results)
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{name} as written", f"{name} as injected", lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)


def _joined(texts: Sequence[str]) -> str:
    """One stream of documents: the ones that a file of their own began without `---` get it."""
    joined = ""
    for text in texts:
        if joined and not re.search(r"^---(\s|$)", text, re.MULTILINE):
            joined += ("" if joined.endswith("\n") else "\n") + "---\n"
        joined += text
    return joined


def _say(message: str) -> None:
    print(f"token-meter inject: {message}", file=sys.stderr)
