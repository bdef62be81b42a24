"""Manifests as files hold them: several documents in a text, each kept byte for byte until it is edited.

A document is parsed for reading and, when a JSON Patch is to be shown in it, edited in place with its comments and
order. What cannot be read is an InputError that names file, document and line.
"""

import datetime
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarint import ScalarInt

from webhook.patch import Operation, apply

_MARKER = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_OUTSIDE = re.compile(r"[ \t]*(#.*|%.*|---[ \t]*(#.*)?|\.\.\.[ \t]*)?\r?\n?")
"""A line that holds nothing of a document: blank, comment, directive or marker."""


class InputError(Exception):
    """The input is wrong; the message says in which file, document and line, and what to do."""


@dataclass(slots=True)
class Document:
    """One document: `text` as in the file, `number` and `line` from 1, `value` as plain data (None if empty)."""

    source: str
    number: int
    line: int
    text: str
    value: Any = None
    _tree: Any = None

    def where(self, path: Sequence[str | int] = (), line: int | None = None) -> str:
        """For messages: file, document and the line of the field at `path`, or of its nearest parent."""
        if line is None:
            line = self.line + _line(self._tree, path)
        return f"{self.source}: document {self.number}, line {line}"

    def edited(self, operations: Sequence[Operation], after: Any) -> str:
        """The text with the operations carried out; `after` is the data that must come out."""
        head, body, tail = _frame(self.text)
        if _is_json(body):
            return head + dump(after) + tail
        yaml = _yaml_like(body)
        tree = yaml.load(body)  # anew: a copy of a parsed tree forgets how its numbers were written
        apply(tree, operations)
        if plain(tree) != after:  # an anchor that is used twice, or a merge key: write the data itself
            tree = after
        newline = "\r\n" if "\r\n" in body else "\n"
        return head + _dumped(yaml, tree).replace("\n", newline) + tail

    def rewritten(self) -> str:
        """The text as `edited` writes it when nothing is edited."""
        return self.edited([], self.value)


def read(paths: Iterable[str]) -> list[Document]:
    """The documents of files, `-` being standard input; raises InputError."""
    return [
        document
        for path in paths
        for document in parse(_content(path), "standard input" if path == "-" else path)
    ]


def _content(path: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return data.decode()
    except OSError as error:
        raise InputError(
            f"{path}: {(error.strerror or str(error)).lower()}; name a file that can be read, or -"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def parse(text: str, source: str) -> list[Document]:
    """The documents of one text, in order, with nothing of it left out."""
    documents: list[Document] = []
    line = 1
    for chunk in _split(text):
        document = Document(source, len(documents) + 1, line, chunk)
        line += chunk.count("\n")
        _load(document)
        documents.append(document)
    return documents


def _split(text: str) -> Iterator[str]:
    """The text cut before each `---`; comments and directives before the first one stay with it."""
    starts = [match.start() for match in _MARKER.finditer(text)]
    if starts and all(map(_OUTSIDE.fullmatch, text[: starts[0]].splitlines(keepends=True))):
        starts = starts[1:]
    bounds = [0, *starts, len(text)]
    yield from (text[begin:end] for begin, end in pairwise(bounds) if end > begin)


def _load(document: Document) -> None:
    head, body, _ = _frame(document.text)
    if _is_json(body):
        try:
            document.value = json.loads(body)
            return
        except ValueError:
            pass  # YAML's flow style begins alike
    offset = document.line + head.count("\n")
    try:
        document._tree = _yaml_like(body).load(body)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = offset + (mark.line if mark else 0)
        problem = (error.problem or error.context or "cannot be read").strip()
        raise InputError(
            f"{document.where(line=line)}: this is not YAML: {problem}; correct it there"
        ) from None
    except (YAMLError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{document.where(line=offset)}: this is not YAML: {problem}") from None
    document.line = offset
    document.value = plain(document._tree)


def _frame(text: str) -> tuple[str, str, str]:
    """A document's text as marker and comments before it, the content, and blank and comment lines after it."""
    lines = text.splitlines(keepends=True)
    begin, end = 0, len(lines)
    while begin < end and _OUTSIDE.fullmatch(lines[begin]):
        begin += 1
    while end > begin and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return "".join(lines[:begin]), "".join(lines[begin:end]), "".join(lines[end:])


def _is_json(body: str) -> bool:
    return body.lstrip().startswith("{")


def _yaml_like(body: str) -> YAML:
    """A round-trip parser that writes with the indentation that `body` has."""
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 2**16
    nested = re.search(r"^( *)[^\s#-][^\n]*:[ \t]*(?:#.*)?\r?\n\1( +)[^\s#-]", body, re.MULTILINE)
    listed = re.search(r"^( *)[^\s#-][^\n]*:[ \t]*(?:#.*)?\r?\n\1( *)- ", body, re.MULTILINE)
    offset = len(listed[2]) if listed else 0
    yaml.explicit_start = body.startswith("---")
    yaml.indent(mapping=len(nested[2]) if nested else 2, sequence=offset + 2, offset=offset)
    return yaml


def dump(value: Any) -> str:
    """Plain data as YAML in kubectl's style."""
    return _dumped(_yaml_like(""), value)


def _dumped(yaml: YAML, value: Any) -> str:
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def _line(tree: Any, path: Sequence[str | int]) -> int:
    """How many lines below the document's first the field at `path` stands; 0 where that is not known."""
    line = 0
    for step in path:
        try:
            position = tree.lc.key(step) if isinstance(tree, CommentedMap) else tree.lc.item(step)
            line, tree = position[0], tree[step]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def plain(value: Any) -> Any:
    """A parsed tree as the data that `kubectl` would send: plain objects, lists and scalars."""
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case str():
            return str(value)
        case bool() | None:
            return value
        case ScalarInt():
            # Kubernetes reads YAML 1.1, where 0644 is octal.
            width = getattr(value, "_width", None)
            digits = f"{int(value):0{width or 0}d}"
            octal = width and digits.startswith("0") and not set(digits) - set("01234567")
            return int(digits, 8) if octal else int(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case datetime.datetime() | datetime.date():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return bool(value) if type(value).__name__ == "ScalarBoolean" else str(value)
