"""Every answer that the sidecar itself gives in place of the model's, in OpenAI's error shape."""

import orjson

_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Refusal(Exception):
    """A request that is answered by the sidecar: status, OpenAI error type and code, and a sentence for its user."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def body(self) -> bytes:
        """The JSON body, `{"error": {"message", "type", "param", "code"}}`."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})

    @property
    def event(self) -> bytes:
        """The same as a server-sent event, for a stream that has begun."""
        return b"data: " + self.body + b"\n\n"

    def response(self, *, keep_alive: bool, head_only: bool = False) -> bytes:
        """The whole HTTP/1.1 response."""
        body = self.body
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Error')}",
            "content-type: application/json",
            f"content-length: {len(body)}",
        ]
        if self.retry_after is not None:
            lines.append(f"retry-after: {self.retry_after}")
        if self.status == 401:
            lines.append('www-authenticate: Bearer realm="token-meter"')
        if not keep_alive:
            lines.append("connection: close")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return head if head_only else head + body


def bad_request(message: str, *, code: str | None = None, param: str | None = None) -> Refusal:
    """A request that the sidecar cannot or must not pass on."""
    return Refusal(400, "invalid_request_error", message, code=code, param=param)
