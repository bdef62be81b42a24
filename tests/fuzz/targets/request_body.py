"""A metered request's JSON at every endpoint: read or refused, small and large alike, and as every server reads it."""

import json
from typing import Any
from zlib import crc32

import orjson

from sidecar import json_scan
from sidecar.dialect import wanted
from sidecar.endpoints import Endpoint
from sidecar.errors import Refusal
from sidecar.request_body import _NAMES, Ask, RequestBody, read_request, read_scanned
from sidecar.settings import ServerKind
from sidecar.tokens.prompt import read_prompt

JSON = True
WORDS = (
    "model",
    "messages",
    "role",
    "content",
    "stream",
    "stream_options",
    "include_usage",
    "continuous_usage_stats",
    "n",
    "max_tokens",
    "tools",
    "prompt",
    "input",
    "documents",
    "query",
    "text_1",
    "include_reasoning",
    "return_token_ids",
    "stream_interval",
    "timings_per_token",
    "str\\u0065am",
    "image_url",
    "type",
)


def check(data: bytes) -> None:
    """Judge one body at three endpoints, which depend on it."""
    every = list(Endpoint)
    for number in range(3):
        endpoint = every[(crc32(data) + number) % len(every)]
        small = _read(data, endpoint)
        read_prompt(endpoint, data)
        if isinstance(small, Refusal):
            json.loads(small.body)
            continue
        _same_for_every_reader(small)
        large = _read_large(data, endpoint)
        assert isinstance(large, RequestBody), f"large it is refused: {large}"
        assert _essence(small) == _essence(large), endpoint
        _asked(small)


def _read(data: bytes, endpoint: Endpoint) -> RequestBody | Refusal:
    try:
        return read_request(data, endpoint)
    except Refusal as refusal:
        return refusal


def _read_large(data: bytes, endpoint: Endpoint) -> RequestBody | Refusal:
    """As it would be read if it came with more than 64 KiB."""
    scanner = json_scan.Scanner()
    try:
        scanner.feed(data)
        return read_scanned(data, scanner, endpoint)
    except (Refusal, json_scan.ScanError) as error:
        return error if isinstance(error, Refusal) else Refusal(400, "", str(error))


def _essence(body: RequestBody) -> Any:
    return body.model, body.stream, body.takes_options, body.given, body.chat, body.choices, body.most_output


def _same_for_every_reader(body: RequestBody) -> None:
    """Neither a reader that takes the first of two names nor one that takes the last sees anything else."""
    pairs: list[tuple[str, Any]] = json.loads(body.raw, object_pairs_hook=list)
    names = [name for name, _ in pairs if name in _NAMES]
    assert len(names) == len(set(names)), names


def _asked(body: RequestBody) -> None:
    """Asked for usage the body is the same JSON but for that."""
    before = orjson.loads(body.raw)
    for server in (ServerKind.VLLM, ServerKind.LLAMA_CPP, ServerKind.GENERIC):
        for ask in Ask:
            members = wanted(server, body, ask)
            after = orjson.loads(body.with_members(members))
            assert after == before | members, (server, ask)
