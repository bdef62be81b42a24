"""GET /v1/models in OpenAI's shape, whatever the server answers.

KServe's own V1 protocol has the same path and comes first where the OpenAI prefix is empty: it answers
`{"models": ["name"]}` (KServe 0.20, protocol/rest/v1_endpoints.py), which OpenAI clients cannot read.
"""

from typing import TYPE_CHECKING

import orjson

from sidecar.client import ClientConnection
from sidecar.forward import read_some
from sidecar.incoming import Request
from sidecar.lost import UpstreamLost, UpstreamTimeout, no_answer
from sidecar.messages import dropping, end_to_end, request_message

if TYPE_CHECKING:
    from sidecar.proxy import Proxy

_LIMIT = 1024 * 1024
_OURS = dropping(b"accept-encoding", b"expect", b"content-length")
_OURS_WITH_KEY = _OURS | {b"authorization"}


async def serve(proxy: "Proxy", connection: ClientConnection, request: Request) -> None:
    """Answer with the server's list, translated where it has to be."""
    keyed = proxy.access.carries_key(request.head)
    headers = end_to_end(request.head.headers, _OURS_WITH_KEY if keyed else _OURS)
    headers.append((b"accept-encoding", b"identity"))
    given = request.head.path.removesuffix(b"/models")
    try:
        for base in proxy.base_paths(given):
            message = request_message(b"GET", base + b"/models" + request.head.query, headers)
            upstream, head = await proxy.open(message)
            try:
                body = await read_some(upstream, _LIMIT)
            finally:
                proxy.pool.release(upstream)
            if head.status != 404:
                break
    except (UpstreamLost, UpstreamTimeout) as error:
        raise no_answer(error) from None
    translated = translate(body) if head.status == 200 else None
    answer = body if translated is None else translated
    connection.answer.start(head, length=len(answer), first=answer)


def translate(body: bytes) -> bytes | None:
    """KServe's list as OpenAI's; None where it is no list of KServe's and stays as it is."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or "data" in value or not isinstance(value.get("models"), list):
        return None
    names = [name for name in value["models"] if isinstance(name, str)]
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "kserve"} for name in names]
    return orjson.dumps({"object": "list", "data": data})
