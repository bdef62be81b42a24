"""The Kubernetes objects among documents, each with its place, and those that say something about the cluster."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli._documents import Document, InputError
from isvc import Mode

Object = Mapping[str, Any]
MODES = {"standard": Mode.STANDARD, "knative": Mode.KNATIVE}
RUNTIMES = ("ServingRuntime", "ClusterServingRuntime")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of every subcommand that reads InferenceServices from files."""
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
        "--mode",
        choices=list(MODES),
        default="standard",
        help="the cluster's default deployment mode; an InferenceService's own comes first (default: %(default)s)",
    )
    parser.add_argument(
        "-n", "--namespace", default="default", help="of objects that name none (default: %(default)s)"
    )


@dataclass(frozen=True, slots=True)
class Found:
    """One object of the input: the document it is in, and the path to it there (() or ("items", i))."""

    document: Document
    path: tuple[str | int, ...]
    obj: Object

    def where(self, *path: str | int) -> str:
        """File, document and line of the object, or of the field at `path` in it; for messages."""
        return self.document.where((*self.path, *path))

    @property
    def kind(self) -> str:
        return str(self.obj.get("kind"))

    @property
    def metadata(self) -> Object:
        """Its metadata, empty where it has none: whoever reads the object as a whole says what is wrong."""
        return _member(self.obj, "metadata")

    @property
    def labels(self) -> dict[str, str]:
        return {key: str(text) for key, text in _member(self.metadata, "labels").items()}

    @property
    def annotations(self) -> dict[str, str]:
        return {key: str(text) for key, text in _member(self.metadata, "annotations").items()}


def objects(documents: Sequence[Document]) -> Iterator[Found]:
    """Every object, those of a List one by one; raises InputError for a document that holds none."""
    for document in documents:
        value = document.value
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise InputError(
                f"{document.where()}: this is not a Kubernetes object; remove it or correct the file"
            )
        items = value.get("items")
        if str(value.get("kind")).endswith("List") and isinstance(items, list):
            members = enumerate(items)
            yield from (
                Found(document, ("items", i), item) for i, item in members if isinstance(item, Mapping)
            )
        else:
            yield Found(document, (), value)


def pick(
    found: Sequence[Found], kind: str, name: str, namespace: str = "", default: str = ""
) -> Found | None:
    """The object of that kind and name; one that names no namespace is in the `default` one."""
    for one in found:
        own = str(one.metadata.get("namespace") or default)
        if (one.kind, one.metadata.get("name"), own) == (kind, name, namespace):
            return one
    return None


def _member(parent: Object, key: str) -> Object:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}
