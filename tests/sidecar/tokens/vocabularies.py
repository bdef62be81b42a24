"""Real models' vocabularies, each as the files of a model volume and as a GGUF file for llama.cpp."""

import gzip
import json
import shutil
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

import parts
from demo.model_server import CHAT_TEMPLATE
from tests.sidecar.tokens import gguf

Merge = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Model:
    """`folder` is the volume, `file` what llama.cpp reads, `name` the served name."""

    name: str
    folder: Path
    file: Path


def gemma(folder: Path) -> Model:
    """The model of the demo. Its tokenizer.json is made of the vocabulary in its GGUF file, as transformers does it."""
    file = Path(parts.path("model"))
    given = gguf.read(file)
    tokens, scores, kinds = (given[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    cuts = [
        (-scores[index], index, token[:at], token[at:])
        for token, index in vocabulary.items()
        if kinds[index] == gguf.NORMAL
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    merges = [(left, right) for _, _, left, right in sorted(cuts)]
    made = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [
        token for token, kind in zip(tokens, kinds, strict=True) if kind not in (gguf.NORMAL, gguf.BYTE)
    ]
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<bos>"}))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return Model("gemma", folder, file)


def deepseek(folder: Path) -> Model:
    """tokenizer.json as DeepSeek publishes it."""
    shutil.copy(_part("deepseek.json"), folder / "tokenizer.json")
    content = json.loads(_part("deepseek.json").read_bytes())
    vocabulary: dict[str, int] = content["model"]["vocab"]
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    added = {entry["id"]: entry["content"] for entry in content["added_tokens"] if entry["id"] >= len(tokens)}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    return _byte_pairs("deepseek", "deepseek-v3", folder, tokens, merges, [added[i] for i in sorted(added)])


def llama3(folder: Path) -> Model:
    """tokenizer.model as Meta publishes it: tiktoken's ranks. The names of its special tokens are in the config."""
    shutil.copy(_part("llama3.model"), folder / "tokenizer.model")
    found = ranks(_part("llama3.model").read_bytes())
    named = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return _of_ranks("llama-3", "llama-bpe", folder, found, named, begin=True)


def mistral(folder: Path) -> Model:
    """tokenizer.model of SentencePiece."""
    shutil.copy(_part("mistral.model"), folder / "tokenizer.model")
    pieces = SentencePieceProcessor(model_file=str(_part("mistral.model")))
    every = range(pieces.vocab_size())
    file = folder / "model.gguf"
    gguf.write(
        file,
        {
            "model": "llama",
            "tokens": [pieces.id_to_piece(i) for i in every],
            "scores": [float(pieces.get_score(i)) for i in every],
            "token_type": [_kind(pieces, i) for i in every],
            "bos_token_id": pieces.bos_id(),
            "eos_token_id": pieces.eos_id(),
        },
    )
    return Model("mistral", folder, file)


def tekken(folder: Path) -> Model:
    """tekken.json as Mistral publishes it."""
    shutil.copy(_part("tekken.json"), folder / "tekken.json")
    content = json.loads(_part("tekken.json").read_bytes())
    about = content["config"]
    size = about["default_vocab_size"] - about["default_num_special_tokens"]
    found = {b64decode(entry["token_bytes"]): entry["rank"] for entry in content["vocab"][:size]}
    return _of_ranks(
        "mistral-nemo", "tekken", folder, found, ["<s>", "</s>", "[INST]", "[/INST]"], begin=True
    )


def gpt_oss(folder: Path) -> Model:
    """No file at all: the served name says that it is tiktoken's o200k_base."""
    packed = parts.path("tiktoken").parent / "o200k_base.tiktoken.gz"
    found = ranks(gzip.decompress(packed.read_bytes()))
    named = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>"]
    return _of_ranks("openai/gpt-oss-20b", "gpt-4o", folder, found, named, begin=False)


MODELS: tuple[Callable[[Path], Model], ...] = (gemma, deepseek, llama3, mistral, tekken, gpt_oss)


def _part(name: str) -> Path:
    return parts.path("vocabularies").parent / name


def ranks(content: bytes) -> dict[bytes, int]:
    """tiktoken's format: a line for each token."""
    lines = (line.split() for line in content.splitlines())
    return {b64decode(token): int(rank) for token, rank in lines}


def _of_ranks(
    name: str, pre: str, folder: Path, given: dict[bytes, int], special: list[str], *, begin: bool
) -> Model:
    tokens = [_visible(token) for token in sorted(given, key=lambda token: given[token])]
    merges = [f"{_visible(left)} {_visible(right)}" for left, right in _merges(given)]
    return _byte_pairs(name, pre, folder, tokens, merges, special, begin=begin)


def _byte_pairs(
    name: str,
    pre: str,
    folder: Path,
    tokens: list[str],
    merges: list[str],
    special: list[str],
    *,
    begin: bool = False,
) -> Model:
    file = folder / "model.gguf"
    gguf.write(
        file,
        {
            "model": "gpt2",
            "pre": pre,
            "tokens": [*tokens, *special],
            "token_type": [gguf.NORMAL] * len(tokens) + [gguf.CONTROL] * len(special),
            "merges": merges,
            "bos_token_id": len(tokens),
            "eos_token_id": len(tokens) + 1,
            "add_bos_token": begin,
        },
    )
    return Model(name, folder, file)


def _merges(given: dict[bytes, int]) -> list[Merge]:
    """The merges that ranks stand for: every way to make a token of two, in the order of what is made."""
    found = [
        (rank, given[token[:at]], given[token[at:]], token[:at], token[at:])
        for token, rank in given.items()
        for at in range(1, len(token))
        if token[:at] in given and token[at:] in given
    ]
    return [(left, right) for *_, left, right in sorted(found)]


_PLAIN = {*range(33, 127), *range(161, 173), *range(174, 256)}
_HIDDEN = {byte: 256 + index for index, byte in enumerate(sorted(set(range(256)) - _PLAIN))}


def _visible(token: bytes) -> str:
    """A token's bytes as GPT-2 writes them: each a character that can be seen."""
    return "".join(chr(_HIDDEN.get(byte, byte)) for byte in token)


def _kind(pieces: SentencePieceProcessor, index: int) -> int:
    if pieces.is_control(index):
        return gguf.CONTROL
    if pieces.is_unknown(index):
        return gguf.UNKNOWN
    return gguf.BYTE if pieces.is_byte(index) else gguf.NORMAL
