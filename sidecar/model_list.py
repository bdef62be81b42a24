"""GET /v1/models in OpenAI's shape, whatever the server answers.

KServe's own V1 protocol has the same path and comes first where the OpenAI prefix is empty: it answers
`{"models": ["name"]}` (KServe 0.20, protocol/rest/v1_endpoints.py), which OpenAI clients cannot read.
"""

from typing import TYPE_CHECKING

import orjson

from sidecar.client import ClientConnection, Request
from sidecar.errors import Refusal
from sidecar.forward import read_some
from sidecar.messages import dropping, end_to_end, request_message
from sidecar.upstream import UpstreamLost, UpstreamTimeout

if TYPE_CHECKING:
    from sidecar.proxy import Proxy

_LIMIT = 1024 * 1024
_OURS = dropping(b"accept-encoding", b"expect", b"content-length")


async def serve(proxy: "Proxy", connection: ClientConnection, request: Request) -> None:
    """Answer with the server's list, translated where it has to be."""
    headers = [
        *end_to_end(request.head.headers, _OURS),
        (b"accept-encoding", b"identity"),
    ]
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
    except UpstreamTimeout as error:
        raise Refusal(504, "upstream_timeout", f"The model server gave no answer: {error}.") from None
    except UpstreamLost as error:
        raise Refusal(502, "upstream_error", f"The model server gave no answer: {error}.") from None
    translated = translate(body) if head.status == 200 else None
    answer = body if translated is None else translated
    connection.start(head, length=len(answer), first=answer)


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
