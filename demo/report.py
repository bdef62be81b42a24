"""What a person sees of the demo: each step in plain text, in colour on a terminal."""

import difflib
import io
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from ruamel.yaml import YAML

WIDTH = 96
_GREEN, _RED, _BOLD, _DIM = "32", "31", "1", "2"


class Report:
    """Writes to a stream; colours only where it is a terminal and NO_COLOR is not set."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR")
        self._steps = 0

    def step(self, title: str) -> None:
        """A numbered headline."""
        self._steps += 1
        self._line(f"\n{self._paint(f'{self._steps}. {title}', _BOLD)}")

    def say(self, text: str) -> None:
        """A remark, wrapped and indented."""
        for line in textwrap.wrap(text, WIDTH - 3, break_long_words=False, break_on_hyphens=False):
            self._line(f"   {self._paint(line, _DIM)}")

    def show(self, text: str) -> None:
        """Text of a program or a model, indented."""
        self._line(textwrap.indent(text, "   "))

    @contextmanager
    def streaming(self, begin: str = "") -> Iterator[Callable[[str], None]]:
        """A streamed answer: what this gives writes each piece of it at once."""

        def piece(text: str) -> None:
            self._stream.write(text.replace("\n", "\n   "))
            self._stream.flush()

        piece(f"   {begin}")
        yield piece
        self._line("")

    def diff(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """What changes between two objects, as YAML."""
        lines = difflib.unified_diff(
            as_yaml(before).splitlines(), as_yaml(after).splitlines(), lineterm="", n=2
        )
        for line in list(lines)[2:]:
            self._line("   " + self._paint(line, {"+": _GREEN, "-": _RED}.get(line[0], _DIM)))

    def objects(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """One line for each object."""
        rows = [
            (item["kind"], f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}")
            for item in objects
        ]
        self.table(("kind", "namespace/name"), rows)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; a column whose cells are numbers stands to the right."""
        cells = [head, *rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
        right = [all(row[column].replace(",", "").isdigit() for row in rows) for column in range(len(head))]
        for number, row in enumerate(cells):
            text = "  ".join(
                cell.rjust(width) if number_like else cell.ljust(width)
                for cell, width, number_like in zip(row, widths, right, strict=True)
            ).rstrip()
            self._line(f"   {self._paint(text, _DIM) if number == 0 else text}")

    def verdict(self, well: bool, text: str) -> None:
        """The last line."""
        self._line(f"\n{self._paint(text, _GREEN if well else _RED)}")

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._coloured else text


def as_yaml(value: Mapping[str, Any]) -> str:
    """An object as YAML, in its own order."""
    yaml = YAML()
    yaml.width = 2**16
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()
