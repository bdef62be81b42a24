"""Heads of HTTP messages as values, and what of them a proxy passes on (RFC 9110, section 7.6.1)."""

from dataclasses import dataclass

Headers = list[tuple[bytes, bytes]]

# Of one connection only; names in lower case.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)

# What Connection may say of itself, and what a client may not make us drop with it: it frames or routes the message.
_NEVER_NAMED = frozenset(
    (b"close", b"keep-alive", b"host", b"content-length", b"content-type", b"authorization")
)


@dataclass(slots=True)
class RequestHead:
    """A request's head: names in lower case, values without surrounding white space, both in their order."""

    method: bytes
    target: bytes
    headers: Headers
    http_1_1: bool
    keep_alive: bool

    def get(self, name: bytes) -> bytes | None:
        """The first value of a header (name in lower case), or None."""
        for given, value in self.headers:
            if given == name:
                return value
        return None

    @property
    def path(self) -> bytes:
        """The target's path, without its query."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """The query with its question mark, or nothing."""
        _, mark, query = self.target.partition(b"?")
        return mark + query

    @property
    def upgrades_to_websocket(self) -> bool:
        """Whether the client asks to switch to WebSocket, the only switch that is passed on: h2c would hide
        requests from the count."""
        upgrade = self.get(b"upgrade")
        return (
            upgrade is not None
            and self.method == b"GET"
            and upgrade.lower() == b"websocket"
            and b"upgrade" in connection_options(self.headers)
        )


@dataclass(slots=True)
class ResponseHead:
    """A response's head; header names as the server wrote them."""

    status: int
    reason: bytes
    headers: Headers
    keep_alive: bool
    length: int | None
    chunked: bool

    def get(self, name: bytes) -> bytes:
        """The first value of a header (name in lower case), or nothing."""
        for given, value in self.headers:
            if given.lower() == name:
                return value
        return b""


def connection_options(headers: Headers) -> set[bytes]:
    """The options of all Connection headers, in lower case: further headers that end at this hop."""
    return {
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    }


def dropping(*names: bytes) -> frozenset[bytes]:
    """The hop-by-hop headers and these (lower case), for `end_to_end`."""
    return HOP_BY_HOP.union(names)


def end_to_end(headers: Headers, dropped: frozenset[bytes] = HOP_BY_HOP) -> Headers:
    """The headers that are passed on, in their order: without `dropped`, and without what Connection names."""
    passed = [header for header in headers if header[0].lower() not in dropped]
    if len(passed) != len(headers) and (named := connection_options(headers) - _NEVER_NAMED):
        passed = [header for header in passed if header[0].lower() not in named]
    return passed


def serialise(first_line: bytes, headers: Headers) -> bytes:
    """A head as bytes, with its empty line."""
    return b"%b\r\n%b\r\n" % (first_line, b"".join([b"%b: %b\r\n" % header for header in headers]))


def request_message(method: bytes, target: bytes, headers: Headers, body: bytes = b"") -> bytes:
    """A request as it goes to the server: written anew, so that nothing of the client's framing is in it."""
    return serialise(b"%b %b HTTP/1.1" % (method, target), headers) + body
