"""Events on InferenceServices: each thing once for as long as Kubernetes keeps it (an hour), whoever leads."""

import hashlib
import logging
from datetime import UTC, datetime
from typing import Any

from certs.api import FAILED, ApiError
from gateway.client import Client
from gateway.notices import Notice
from isvc import InferenceService, LLMInferenceService

_LOG = logging.getLogger(__name__)


def event(service: InferenceService | LLMInferenceService, notice: Notice, reporter: str) -> dict[str, Any]:
    """The Event (events.k8s.io/v1). Its name follows from what it says, so that it is there once."""
    said = f"{service.uid}/{notice.reason}/{notice.detail}"
    name = f"{service.name[:200]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    detail = f": {notice.detail}" if notice.detail else ""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": service.namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Warning" if notice.reason.warning else "Normal",
        "reason": str(notice.reason),
        "action": "Reconcile",
        "note": f"{notice.reason.sentence}{detail}"[:1000],
        "regarding": {
            "apiVersion": service.api_version,
            "kind": service.kind,
            "namespace": service.namespace,
            "name": service.name,
            "uid": service.uid,
        },
        "reportingController": "token-meter.dev/gateway",
        "reportingInstance": reporter[:128],
    }


class Events:
    """Writes them; what the API server does not take is lost, with a line in the log."""

    def __init__(self, api: Client, reporter: str) -> None:
        self._api = api
        self._reporter = reporter
        self._told: dict[tuple[str, str, str], frozenset[Notice]] = {}

    async def tell(
        self, service: InferenceService | LLMInferenceService, notices: tuple[Notice, ...]
    ) -> None:
        """Say what has not been said of it at the last reconcile."""
        key = (service.kind, service.namespace, service.name)
        new = [notice for notice in notices if notice not in self._told.get(key, frozenset())]
        self._told[key] = frozenset(notices)
        for notice in new:
            try:
                path = f"/apis/events.k8s.io/v1/namespaces/{service.namespace}/events"
                await self._api.post(path, event(service, notice, self._reporter))
            except ApiError as error:
                if error.status != 409:  # 409: it is there already
                    _LOG.info("an Event was lost: %s", error)
            except FAILED as error:
                _LOG.info("an Event was lost: %s", str(error) or type(error).__name__)
