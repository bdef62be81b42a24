"""A small API server in this process: objects by path, resourceVersions, server-side apply, watches, errors."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from certs.api import Api, Config

Object = dict[str, Any]
LIST_END = {"secrets", "configmaps", "namespaces", "mutatingwebhookconfigurations", "leases"}
LIST_END |= {"servingruntimes", "clusterservingruntimes", "inferencegraphs"}


class ApiServer:
    """`objects` by path. `fail` maps a method to the status that it is answered with; `log` has every request."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.fail: dict[str, int] = {}
        self.absent: set[str] = set()
        self.log: list[tuple[str, str]] = []
        self.managers: list[str] = []
        self.version = 0
        self._watches: list[tuple[str, asyncio.Queue[Object | None]]] = []
        self._history: list[Object] = []

    def put(self, path: str, obj: Object) -> Object:
        """Store an object as somebody else would."""
        kind = "MODIFIED" if path in self.objects else "ADDED"
        return self._store(path, copy.deepcopy(obj), kind)

    def delete(self, path: str) -> None:
        """Delete an object as somebody else would."""
        self._tell(path, "DELETED", self.objects.pop(path))

    def end_watches(self, error: Object | None = None) -> None:
        """End every watch, with an ERROR event first where one is given."""
        for _, queue in self._watches:
            if error:
                queue.put_nowait({"type": "ERROR", "object": error})
            queue.put_nowait(None)
        self._watches.clear()

    @property
    def watching(self) -> int:
        return len(self._watches)

    def _store(self, path: str, obj: Object, kind: str) -> Object:
        self.version += 1
        obj.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        obj["metadata"].setdefault("uid", f"uid-{self.version}")
        self.objects[path] = obj
        self._tell(path, kind, obj)
        return obj

    def _tell(self, path: str, kind: str, obj: Object) -> None:
        parent = path.rsplit("/", 1)[0]
        for watched, queue in self._watches:
            if watched == parent:
                queue.put_nowait({"type": kind, "object": copy.deepcopy(obj)})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.log.append((request.method, path))
        if status := self.fail.get(request.method):
            return _status(status, "OnDemand")
        if path in self.absent:
            return _status(404, "NotFound")
        last = path.rsplit("/", 1)[1]
        if request.method == "GET" and last in LIST_END:
            return await (self._watch(request) if "watch" in request.query else self._list(request))
        if request.method == "GET":
            return web.json_response(self.objects[path]) if path in self.objects else _status(404, "NotFound")
        body = json.loads(await request.read())
        return self._write(request, path, body)

    def _write(self, request: web.Request, path: str, body: Object) -> web.Response:
        there = self.objects.get(path)
        version = body.get("metadata", {}).get("resourceVersion")
        uid = body.get("metadata", {}).get("uid")
        if (version and (not there or there["metadata"]["resourceVersion"] != version)) or (
            uid and (not there or there["metadata"]["uid"] != uid)
        ):
            return _status(409, "Conflict")
        if request.method == "PATCH":
            self.managers.append(request.query["fieldManager"])
            body = _merged(there or {}, body)
        elif request.method == "PUT" and not there:
            return _status(404, "NotFound")
        elif request.method == "POST":
            path = f"{path}/{body['metadata']['name']}"
        return web.json_response(self._store(path, body, "MODIFIED" if there else "ADDED"))

    async def _list(self, request: web.Request) -> web.Response:
        found = [obj for path, obj in self.objects.items() if path.rsplit("/", 1)[0] == request.path]
        begin = int(request.query.get("continue", "0"))
        page = found[begin : begin + 2]
        more = {"continue": str(begin + 2)} if len(found) > begin + 2 else {}
        return web.json_response({"items": page, "metadata": {"resourceVersion": str(self.version), **more}})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        queue: asyncio.Queue[Object | None] = asyncio.Queue()
        self._watches.append((request.path, queue))
        response = web.StreamResponse()
        await response.prepare(request)
        while event := await queue.get():
            await response.write(json.dumps(event).encode() + b"\n")
        return response


def _merged(old: Object, new: Object) -> Object:
    """Server-side apply, as far as it matters here: objects are merged, `webhooks` by name, the rest replaced."""
    result = copy.deepcopy(old)
    for key, value in new.items():
        if key == "webhooks":
            by_name = {webhook["name"]: webhook for webhook in result.get(key, [])}
            for webhook in value:
                by_name[webhook["name"]] = _merged(by_name.get(webhook["name"], {}), webhook)
            result[key] = list(by_name.values())
        elif isinstance(value, dict):
            result[key] = _merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result


def _status(code: int, reason: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "said the test"}
    return web.json_response(body, status=code)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[ApiServer, Api]]:
    """The server on a free port, and a client of it; both end with the block."""
    server = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Api(Config(f"http://127.0.0.1:{runner.addresses[0][1]}"), timeout=5) as api:
            yield server, api
    finally:
        server.end_watches()
        await runner.cleanup()


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Let the loop run until the condition holds; fails the test where it never does."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)
