"""Telling the gateway the count where it looks for it: a member added to a JSON answer, every other byte as it came.

AI Gateway charges rerank from Cohere's `meta.tokens` alone (1.1, translator/cohere_rerank_v2.go), which neither vLLM
nor KServe writes, and everything else from `usage`.
"""

import orjson

from sidecar.chunks import usage_json
from sidecar.endpoints import Endpoint
from sidecar.json_scan import Member, ScanError, scan, with_member
from sidecar.usage import Usage

RANKS = frozenset({Endpoint.RERANK, Endpoint.SCORE})


def with_count(body: bytes, endpoint: Endpoint, usage: Usage, *, replace: bool) -> bytes:
    """The answer with what it lacks; `replace` where its own usage is not the whole count."""
    try:
        members = {member.name: member for member in scan(body)}
        if replace:
            body = with_member(body, "usage", usage_json(usage))
        if endpoint in RANKS:
            meta = meta_of(members.get("meta"), usage)
            if meta is not None:
                body = with_member(body, "meta", meta)
    except ScanError:
        pass  # no JSON object: nothing can be added to it
    return body


def meta_of(member: Member | None, usage: Usage) -> bytes | None:
    """Cohere's `meta` with the tokens; None where it has them, or is no object."""
    tokens = {"input_tokens": usage.input, "output_tokens": usage.output}
    if member is None or member.value == b"null":
        return orjson.dumps({"tokens": tokens})
    if member.value is None or not member.value.startswith(b"{"):
        return None
    try:
        found = orjson.loads(member.value)
    except orjson.JSONDecodeError:
        return None
    if found.get("tokens"):
        return None
    return with_member(member.value, "tokens", orjson.dumps(tokens))


class Tail:
    """Holds back the end of a large JSON object on its way, so that a member can still be added to it."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The next bytes; returns what can go."""
        data = self._held + data
        end = data.rstrip(b" \t\r\n")
        keep = len(end) - 1 if end.endswith(b"}") else len(end)
        self._held = data[keep:]
        return data[:keep]

    def finish(self, member: bytes) -> bytes:
        """The end of the object, with a member (`"name":value`) where there is one to add."""
        if member and self._held.startswith(b"}"):
            return b"," + member + self._held
        return self._held
