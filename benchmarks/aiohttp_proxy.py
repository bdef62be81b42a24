"""A plain streaming proxy as one writes it with aiohttp: `python -m benchmarks.aiohttp_proxy PORT UPSTREAM`."""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

_HOP = {"host", "content-length", "transfer-encoding", "connection"}


async def _app(upstream: int) -> web.Application:
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"http://127.0.0.1:{upstream}{request.path_qs}"
        async with session.request(request.method, url, headers=headers, data=await request.read()) as answer:
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            if answer.content_length is not None:
                response.content_length = answer.content_length
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def close(_: web.Application) -> None:
        await session.close()

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", handle)
    app.on_cleanup.append(close)
    return app


async def _main(port: int, upstream: int) -> None:
    runner = web.AppRunner(await _app(upstream), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2])))
