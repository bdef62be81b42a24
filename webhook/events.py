"""Events on InferenceServices, written behind the answer: an admission never waits for one, and may lose one."""

import asyncio
import logging
import secrets
from datetime import UTC, datetime
from typing import Any

from certs.api import FAILED, Api
from webhook.admission import Answer, Outcome, Request

_LOG = logging.getLogger(__name__)
_WAITING = 256
_KINDS = {
    Outcome.INJECTED: ("Normal", "Injected", "the token-meter sidecar is injected"),
    Outcome.SKIPPED: ("Warning", "InjectionSkipped", ""),
    Outcome.FAILED: ("Warning", "InjectionFailed", ""),
}


def event(request: Request, answer: Answer, reporter: str) -> dict[str, Any] | None:
    """The Event (events.k8s.io/v1) for an answer, or None where there is nothing to tell."""
    if request.dry_run or answer.outcome not in _KINDS or request.kind != "InferenceService":
        return None
    if answer.outcome is Outcome.SKIPPED and (request.operation != "CREATE" or not answer.warnings):
        return None
    kind, reason, text = _KINDS[answer.outcome]
    metadata = request.obj.get("metadata") or {}
    regarding = {
        "apiVersion": request.obj.get("apiVersion"),
        "kind": request.kind,
        "namespace": request.namespace,
        "name": request.name,
        "uid": metadata.get("uid"),
    }
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{request.name[:200]}.{secrets.token_hex(8)}",
            "namespace": request.namespace,
        },
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": kind,
        "reason": reason,
        "action": "Admission",
        "note": (answer.message or text)[:1000],
        "regarding": {key: value for key, value in regarding.items() if value},
        "reportingController": "token-meter.dev/webhook",
        "reportingInstance": reporter[:128],
    }


class Events:
    """A short queue to the API server; what does not fit is dropped."""

    def __init__(self, api: Api, reporter: str) -> None:
        self._api = api
        self._reporter = reporter
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)

    def tell(self, request: Request, answer: Answer) -> None:
        """Write the answer's Event soon, if it has one."""
        if (told := event(request, answer, self._reporter)) and not self._queue.full():
            self._queue.put_nowait(told)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            told = await self._queue.get()
            try:
                namespace = told["metadata"]["namespace"]
                await self._api.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", told)
            except FAILED as error:
                _LOG.info("an Event was lost: %s", str(error) or type(error).__name__)
