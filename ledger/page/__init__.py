"""The page at `/`: plain files, read once; what they show they ask `GET /api/v1/usage` for, as their reader.

Their addresses are relative, so that the API server's proxy to Services leads to them too. Nothing is loaded from
elsewhere and nothing in the markup runs: the policy below holds the browser to both.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).parent
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'",
    "Cache-Control": "no-cache",  # asked for again each time, and answered by 304
    "Referrer-Policy": "no-referrer",  # an address may name a user
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class File:
    """One of them, as it is sent."""

    body: bytes
    content_type: str
    etag: str


def files() -> dict[str, File]:
    """What is served, by path within this folder."""
    found = (path for path in sorted(FOLDER.rglob("*")) if path.suffix in _TYPES)
    return {path.relative_to(FOLDER).as_posix(): _read(path) for path in found}


def add_page(app: web.Application) -> None:
    """Serve the page at `/` and its other files at `/page/...`."""
    known = files()

    async def page(request: web.Request) -> web.Response:
        file = known.get(request.match_info.get("name", "index.html"))
        if file is None:
            raise web.HTTPNotFound
        if request.if_none_match and any(tag.value in (file.etag, "*") for tag in request.if_none_match):
            return _answer(file, web.Response(status=304))
        return _answer(file, web.Response(body=file.body, content_type=file.content_type, charset="utf-8"))

    app.router.add_get("/", page)
    app.router.add_get("/page/{name:.+}", page)


def _read(path: Path) -> File:
    body = path.read_bytes()
    return File(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:32])


def _answer(file: File, response: web.Response) -> web.Response:
    response.headers.update(_HEADERS)
    response.etag = file.etag
    return response
