"""The stand-in for KServe's webhooks as an HTTPS server, and the configurations that lead the API server to it."""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import jsonpatch

from tests.cluster.cluster import Object
from tests.cluster.kserve_standin import default, refusal
from tests.cluster.pki import write_self_signed

LABEL = "kserve-standin"
DEFAULTER, VALIDATOR = "/defaulter", "/validator"
NAMES = {"first": "inferenceservice.serving.kserve.io", "last": "zz.inferenceservice.serving.kserve.io"}
"""The API server calls mutating webhooks in the order of their configurations' names; "first" has KServe's own."""


class KserveServer:
    """Serves on 127.0.0.1 while the block lasts; certificate and key are written to `folder`."""

    def __init__(self, folder: Path) -> None:
        self._certificate, key = write_self_signed(folder, "kserve-standin")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def configurations(self, order: str) -> list[Object]:
        """Defaulter and validator for namespaces with LABEL=order; the defaulter is asked in that order."""
        return [
            self._configuration("Mutating", order, DEFAULTER),
            self._configuration("Validating", order, VALIDATOR),
        ]

    def _configuration(self, kind: str, order: str, path: str) -> Object:
        rule = {
            "apiGroups": ["serving.kserve.io"],
            "apiVersions": ["v1beta1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["inferenceservices"],
        }
        hook = {
            "name": f"inferenceservice.kserve-webhook-server.{path[1:]}",
            "clientConfig": {
                "url": f"https://127.0.0.1:{self._server.server_address[1]}{path}",
                "caBundle": base64.b64encode(self._certificate.read_bytes()).decode(),
            },
            "namespaceSelector": {"matchLabels": {LABEL: order}},
            "rules": [rule],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": NAMES[order]},
            "webhooks": [hook],
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        obj = review["request"]["object"]
        response = {
            "uid": review["request"]["uid"],
            **(_defaulted(obj) if self.path.startswith(DEFAULTER) else _judged(obj)),
        }
        body = json.dumps(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        )
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _defaulted(obj: dict[str, Any]) -> Object:
    patch = str(jsonpatch.make_patch(obj, default(obj)))
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}


def _judged(obj: dict[str, Any]) -> Object:
    why = refusal(obj)
    return {"allowed": why is None, **({"status": {"code": 403, "message": why}} if why else {})}
