"""Keeping what a stream has delivered until its usage comes, and reading it only if none does.

Most streams bring usage with their first chunk or their last: theirs is dropped unread. Of a long stream without
running usage the text is read in batches, which takes a tenth of the memory and hardly any time for each chunk.
"""

from sidecar.chunks import load
from sidecar.output_text import OutputText
from sidecar.sse import EventSplitter, data_of

_BATCH = 16 * 1024


class Gather:
    """Feed it the stream's bytes; `text` is what they say."""

    __slots__ = ("_pieces", "_size", "_splitter", "_text")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._splitter = EventSplitter()
        self._text = OutputText()

    def add(self, data: bytes) -> None:
        """The next bytes of the stream."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _BATCH:
            self._read()

    @property
    def text(self) -> OutputText:
        """All that was said up to here."""
        if self._pieces:
            self._read()
        return self._text

    def _read(self) -> None:
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        for event in self._splitter.feed(data):
            found = data_of(event)
            if found is not None:
                self._text.add(load(found))
