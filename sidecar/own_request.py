"""A request of the sidecar's own to the model server, over the pool that the clients' requests go by."""

from typing import TYPE_CHECKING

from sidecar.forward import read_some
from sidecar.lost import UpstreamLost
from sidecar.messages import request_message

if TYPE_CHECKING:
    from sidecar.proxy import Proxy

_MOST_ANSWER = 16 * 1024 * 1024


async def post(proxy: "Proxy", path: bytes, body: bytes) -> tuple[int, bytes]:
    """POST this JSON and read the whole answer: its status and body. Raises Refusal, UpstreamLost or UpstreamTimeout
    where there is none; whoever gives up waiting closes the connection, and the server stops."""
    host, port = proxy.settings.upstream_address
    headers = [
        (b"host", b"%b:%d" % (host.encode(), port)),
        (b"user-agent", b"token-meter"),
        (b"content-type", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"content-length", b"%d" % len(body)),
    ]
    upstream, head = await proxy.open(request_message(b"POST", path, headers, body))
    try:
        answer = await read_some(upstream, _MOST_ANSWER)
        if not upstream.complete:
            raise UpstreamLost(f"the model server's answer to {path.decode()} is too long")
        return head.status, answer
    finally:
        # Not whole: the pool closes it.
        proxy.pool.release(upstream)
