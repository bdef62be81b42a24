"""GGUF files (github.com/ggml-org/ggml, docs/gguf.md): a model's vocabulary read, and models that are nothing else.

llama.cpp reads its vocabulary, cuts and merges by code of its own: what its /tokenize says of a text is a second
opinion on any vocabulary that is put into a file here. The model around it has one layer of zeros.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

_NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _UINT64 = 4, 5, 6, 7, 8, 9, 10
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Kinds of tokens, as llama.cpp numbers them."""
_WIDTH = 32
_ALIGN = 32
Value = str | bool | int | float | list[str] | list[int] | list[float]


def read(file: Path) -> dict[str, Any]:
    """The key-value pairs of a file, version 3."""
    with file.open("rb") as stream:
        _, _, _, pairs = struct.unpack("<4sIQQ", stream.read(24))
        return {_string(stream): _value(stream, _number(stream, _UINT32)) for _ in range(pairs)}


def write(file: Path, vocabulary: Mapping[str, Value]) -> None:
    """A llama of one layer with this vocabulary (the keys `tokenizer.ggml.*`, without that beginning)."""
    given = {f"tokenizer.ggml.{name}": value for name, value in vocabulary.items()}
    size = len(given["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
    pairs: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.context_length": 4096,
        "llama.embedding_length": _WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": _WIDTH,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        **given,
    }
    square, line = (_WIDTH, _WIDTH), (_WIDTH,)
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd": (_WIDTH, size),
        "output_norm": line,
        **{f"blk.0.{name}": square for name in ("attn_q", "attn_k", "attn_v", "attn_output")},
        **{f"blk.0.{name}": square for name in ("ffn_gate", "ffn_up", "ffn_down")},
        **{f"blk.0.{name}": line for name in ("attn_norm", "ffn_norm")},
    }
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs))
    head += b"".join(_text(key) + _pack(value) for key, value in pairs.items())
    offset = 0
    for name, shape in tensors.items():
        head += _text(f"{name}.weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    with file.open("wb") as stream:
        stream.write(head + bytes(-len(head) % _ALIGN))
        stream.truncate(stream.tell() + offset)  # zeros, and no blocks on the disk


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _pack(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II", _UINT32, value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
        case str():
            return struct.pack("<I", _STRING) + _text(value)
    kind = {str: _STRING, int: _INT32, float: _FLOAT32}[type(value[0])]
    head = struct.pack("<IIQ", _ARRAY, kind, len(value))
    if kind == _STRING:
        return head + b"".join(_text(str(item)) for item in value)
    return head + struct.pack(f"<{len(value)}{'i' if kind == _INT32 else 'f'}", *value)


def _number(stream: BinaryIO, kind: int) -> Any:
    form = _NUMBERS[kind]
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]


def _string(stream: BinaryIO) -> str:
    return stream.read(_number(stream, _UINT64)).decode()


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(stream)
    if kind == _ARRAY:
        inner, length = _number(stream, _UINT32), _number(stream, _UINT64)
        return [_value(stream, inner) for _ in range(length)]
    return _number(stream, kind)
