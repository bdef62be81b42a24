"""KServe's and AI Gateway's controllers cannot be had: their stand-ins run beside a node's control plane, as
programs of it. `python -m tests.node.controllers KUBECONFIG`.
"""

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from tests.cluster.ai_gateway_standin import GROUP, Controller, Object, Outcome, World, key
from tests.cluster.client import Client
from tests.node import kserve, settings

HOOKS = f"{settings.ADDRESS}:1063"


class AIGateway(Controller):
    """What AI Gateway's processor does for a BackendSecurityPolicy is done by Envoy: each backend of the HTTPRoute gets
    the key as a header."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._paths |= {
            "BackendSecurityPolicy": f"/apis/{GROUP}/v1beta1/backendsecuritypolicies",
            "Secret": "/api/v1/secrets?labelSelector=app.kubernetes.io/managed-by=token-meter",
        }

    def _read(self) -> World:
        more = (obj for kind in ("BackendSecurityPolicy", "Secret") for obj in self._list(kind))
        return {**super()._read(), **{key(obj): obj for obj in more}}

    def _outcome(self, route: Object, world: World) -> Outcome:
        found = super()._outcome(route, world)
        for obj in found.objects:
            for rule, wanted in zip(
                obj["spec"].get("rules") or (), route["spec"]["rules"], strict=False
            ):  # one more: the rule that answers 404
                for backend, ref in zip(rule["backendRefs"], wanted.get("backendRefs") or (), strict=True):
                    namespace = ref.get("namespace", route["metadata"]["namespace"])
                    if value := _api_key(namespace, ref["name"], world):
                        header = {"name": "Authorization", "value": f"Bearer {value}"}
                        change = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [header]}}
                        backend["filters"] = [change]
        return found


def _api_key(namespace: str, backend: str, world: World) -> str | None:
    """The key that a policy has for this AIServiceBackend."""
    for (kind, place, _), policy in world.items():
        if kind == "BackendSecurityPolicy" and place == namespace:
            spec = policy["spec"]
            if any(target["name"] == backend for target in spec.get("targetRefs") or ()):
                secret = world.get(("Secret", place, spec["apiKey"]["secretRef"]["name"]))
                return base64.b64decode(secret["data"]["apiKey"]).decode() if secret else None
    return None


def main() -> None:
    # AI Gateway's hooks: none is implemented, and Envoy Gateway goes on without; it would wait for nobody to answer.
    hooks = grpc.server(ThreadPoolExecutor(1))
    hooks.add_insecure_port(HOOKS)
    hooks.start()
    config = json.loads(Path(sys.argv[1]).read_text())
    cluster = config["clusters"][0]["cluster"]
    token = config["users"][0]["user"]["token"]
    found = Client(cluster["server"], Path(cluster["certificate-authority"]), token)
    with AIGateway(found):
        kserve.run(found)


if __name__ == "__main__":
    main()
