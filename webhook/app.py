"""The HTTP shell: admission on one port, health and metrics on another.

Whatever happens inside, an AdmissionReview that can be read is answered by one: a webhook that fails must not stand in
the way of anybody's model.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from certs.serving import Source
from webhook import admission
from webhook.admission import Answer, BadReview, Outcome, Request
from webhook.metrics import Metrics
from webhook.plan import Facts
from webhook.reasons import Reason

_LOG = logging.getLogger(__name__)
MAX_BODY = 8 * 1024 * 1024
"""A review of an UPDATE carries the object twice; etcd takes 1.5 MiB of one."""
_BODY_SECONDS = 10.0


class Knowledge(Protocol):
    """What the cluster is asked for."""

    @property
    def missing(self) -> list[str]:
        """What has not been read yet."""

    async def facts(self, namespace: str) -> Facts:
        """What is known for this namespace."""

    async def refresh(self) -> bool:
        """Ask for the runtimes again now; whether there are others than before."""


@dataclass(slots=True)
class State:
    """What the two ports share."""

    cluster: Knowledge
    source: Source
    tell: Callable[[Request, Answer], None] = lambda request, answer: None
    leading: Callable[[], bool] = lambda: False
    ledger_url: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False

    def not_ready(self) -> list[str]:
        """Why it is not ready, in words; nothing where it is."""
        reasons = [f"{name} not read yet" for name in self.cluster.missing]
        if not self.source.ready:
            reasons.append("no certificate that the API server can verify yet")
        if self.draining:
            reasons.append("shutting down")
        return reasons


def admission_app(state: State) -> web.Application:
    """`POST /mutate` for InferenceServices, `POST /mutate-pods` for Pods."""

    async def inference_service(request: Request) -> Answer:
        answer = admission.inference_service(request, await state.cluster.facts(request.namespace))
        if answer.reason == Reason.RUNTIME_UNKNOWN.label and await state.cluster.refresh():
            # A runtime that was applied just before it, in the same file.
            return admission.inference_service(request, await state.cluster.facts(request.namespace))
        return answer

    async def pod(request: Request) -> Answer:
        return admission.pod(request, state.ledger_url)

    app = web.Application(client_max_size=MAX_BODY, middlewares=[_measured(state)])
    app.router.add_post("/mutate", _handler(state, inference_service))
    app.router.add_post("/mutate-pods", _handler(state, pod))
    return app


def admin_app(state: State) -> web.Application:
    """`/healthz`, `/readyz`, `/metrics`."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        reasons = state.not_ready()
        return web.Response(text="\n".join(reasons or ["ok"]) + "\n", status=503 if reasons else 200)

    async def metrics(request: web.Request) -> web.Response:
        body = state.metrics.render(state.source, leading=state.leading(), draining=state.draining)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(client_max_size=1024)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


def _measured(state: State) -> Middleware:
    @web.middleware
    async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        route = request.match_info.route.resource
        path, code = (route.canonical if route else "other"), 500
        try:
            response = await handler(request)
            code = response.status
        except web.HTTPException as error:
            response, code = web.Response(text=f"{error.text}\n", status=error.status), error.status
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        finally:
            state.metrics.responded(path, code, began)
        if state.draining:  # the API server keeps connections for an hour and would stay with us
            response.force_close()
        return response

    return measured


def _handler(state: State, decide: Callable[[Request], Awaitable[Answer]]) -> Handler:
    async def handle(http: web.Request) -> web.StreamResponse:
        if http.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send an AdmissionReview as application/json")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await http.read()
            request = admission.read(body)
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the body did not come") from None
        except BadReview as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        began = time.perf_counter()
        try:
            answer = await decide(request)
            encoded = admission.encode(request.uid, answer)
        except Exception as error:  # noqa: BLE001 whatever it is, the object passes
            answer = admission.failed(error)
            encoded = admission.encode(request.uid, answer)
            _LOG.exception("admission of %s failed", request.subject)
        _record(state, http.path, request, answer, began)
        return web.Response(body=encoded, content_type="application/json")

    return handle


def _record(state: State, path: str, request: Request, answer: Answer, began: float) -> None:
    size = admission.patch_size(answer)
    state.metrics.answered(path, answer, size, dry_run=request.dry_run)
    level = logging.WARNING if answer.outcome in (Outcome.DENIED, Outcome.FAILED) else logging.INFO
    if answer.outcome is Outcome.UNCHANGED:
        level = logging.DEBUG
    _LOG.log(
        level,
        "%s %s: %s",
        request.operation,
        request.subject,
        answer.outcome.value,
        extra={
            "uid": request.uid,
            "reason": answer.reason,
            "note": answer.message,
            "dry_run": request.dry_run,
            "patch_bytes": size,
            "milliseconds": round((time.perf_counter() - began) * 1000, 3),
        },
    )
    state.tell(request, answer)
