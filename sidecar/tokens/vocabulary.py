"""The model's vocabulary, out of its own files or of tiktoken's, which stand in the image. Blocking.

The libraries are imported where they are needed: whoever has another kind of file never pays for them.
"""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    pass

# Llama 3's, which is cl100k_base's, and o200k_base's, which is Llama 4's too (tiktoken_ext/openai_public.py).
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LARGE = 150_000
"""Tokens: Llama 3 has 128,000 and o200k_base 200,000."""
_SPECIAL = r"<\|[^|\s]{1,64}\|>"
_RANK_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


class Vocabulary(Protocol):
    """Counts a text; `special` adds what the model puts before one. Special tokens in the text are one each."""

    def count(self, text: str, *, special: bool) -> int: ...


class HuggingFace:
    """tokenizer.json."""

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415

        self._tokenizer: Tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str, *, special: bool) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=special).ids)


class Ranks:
    """Byte pairs by rank, as tiktoken has them. `pattern` cuts a text into words; `added` are special tokens."""

    def __init__(
        self, ranks: dict[bytes, int], pattern: str, *, added: Iterable[str] = (), begin: bool = False
    ) -> None:
        from tiktoken import Encoding  # noqa: PLC0415

        self._encoding: Encoding = Encoding(
            "model", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
        )
        self._special = re.compile("|".join([_SPECIAL, *(re.escape(token) for token in added if token)]))
        self._begin = begin

    def count(self, text: str, *, special: bool) -> int:
        pieces = self._special.split(text)
        tokens = sum(len(self._encoding.encode_ordinary(piece)) for piece in pieces if piece)
        return tokens + len(pieces) - 1 + (self._begin and special)


class SentencePiece:
    """tokenizer.model of Llama 2's and Mistral's kind, where the model begins with <s>."""

    def __init__(self, file: Path, *, added: Iterable[str] = (), begin: bool = True) -> None:
        from sentencepiece import SentencePieceProcessor  # noqa: PLC0415

        self._processor: SentencePieceProcessor = SentencePieceProcessor(model_file=str(file))
        given = range(self._processor.vocab_size())
        control = [self._processor.id_to_piece(i) for i in given if self._processor.is_control(i)]
        self._special = re.compile(
            "|".join(re.escape(token) for token in {*control, *added} if token) or "$^"
        )
        self._begin = begin and self._processor.bos_id() >= 0

    def count(self, text: str, *, special: bool) -> int:
        pieces = self._special.split(text)
        tokens = sum(len(self._processor.encode(piece)) for piece in pieces if piece)
        return tokens + len(pieces) - 1 + (self._begin and special)


def of_json(file: Path, config: Mapping[str, Any]) -> Vocabulary:
    """tokenizer.json. Raises where it is none."""
    return HuggingFace(file)


def of_model(file: Path, config: Mapping[str, Any]) -> Vocabulary:
    """tokenizer.model in its two kinds: tiktoken's ranks (Llama 3), or SentencePiece. Raises where it is neither."""
    with file.open("rb") as stream:
        first = stream.readline(256)
    added, begin = _added(config), config.get("add_bos_token", True) is not False
    if not _RANK_LINE.fullmatch(first):
        return SentencePiece(file, added=added, begin=begin)
    ranks = _read_ranks(file.read_bytes())
    return Ranks(ranks, _O200K if len(ranks) > _LARGE else _CL100K, added=added, begin=begin)


def of_tekken(file: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Mistral's tekken.json: ranks with their pattern. Raises where it is none."""
    content = json.loads(file.read_bytes())
    about = content["config"]
    size = about["default_vocab_size"] - about["default_num_special_tokens"]
    ranks = {b64decode(one["token_bytes"]): one["rank"] for one in content["vocab"][:size]}
    added = [one["token_str"] for one in content.get("special_tokens") or ()]
    return Ranks(ranks, about["pattern"], added=added or ("<s>", "</s>", "[INST]", "[/INST]"), begin=True)


def of_tiktoken(file: Path) -> Vocabulary:
    """One of tiktoken's own files, NAME.tiktoken.gz. Raises where it is none."""
    ranks = _read_ranks(gzip.decompress(file.read_bytes()))
    return Ranks(ranks, _O200K if len(ranks) > _LARGE else _CL100K)


def _read_ranks(content: bytes) -> dict[bytes, int]:
    """A line for each token: base64, a space, the rank."""
    lines = (line.split() for line in content.splitlines() if line)
    return {b64decode(token): int(rank) for token, rank in lines}


def _added(config: Mapping[str, Any]) -> list[str]:
    """The special tokens that tokenizer_config.json adds."""
    entries = config.get("added_tokens_decoder")
    found = entries.values() if isinstance(entries, dict) else ()
    return [one["content"] for one in found if isinstance(one, dict) and isinstance(one.get("content"), str)]
