"""What a caller is told when a request cannot be served: RFC 9457 problem details, one shape for all."""

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Exception):
    """It cannot be served: `code` for programs, `detail` for people (what is wrong, where, what to do)."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after

    def response(self) -> web.Response:
        """As an answer."""
        body = {"status": self.status, "code": self.code, "detail": self.detail}
        headers = {"Content-Type": "application/problem+json"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return web.Response(status=self.status, body=orjson.dumps(body), headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal in the one shape, aiohttp's own too."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPRequestEntityTooLarge:
        return Problem(413, "body_too_large", "The body is too large; send smaller batches.").response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return Problem(
            error.status,
            error.reason.lower().replace(" ", "_"),
            f"{request.method} {request.path}: {error.reason}.",
        ).response()
