"""What the tests put into the cluster, and what the controller has made of it."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from gateway.choice import CONTROLLER
from gateway.facts import Capabilities
from gateway.resources import PLURALS, api_version, collection
from tests.cluster.cluster import KubectlError
from tests.cluster.control_plane import ControlPlane
from tests.cluster.installation import eventually
from tests.gateway.scenes import llm
from webhook import injection
from webhook.plan import Facts as InjectionFacts

SYSTEM = "token-meter-system"
LABEL = "token-meter.dev/injection"
APPLY = "application/apply-patch+yaml"
Json = dict[str, Any]


class Scene:
    """A labelled namespace for models, one for the Gateway; `placement` follows from its allowedRoutes."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        mark = uuid4().hex[:6]
        self.models, self.infra = f"models-{mark}", f"infra-{mark}"
        self.gateway = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "gw", "namespace": self.infra},
            "spec": {"gatewayClassName": "eg", "listeners": []},
        }

    def __enter__(self) -> "Scene":
        for name, labels in ((self.models, {LABEL: "enabled"}), (self.infra, {})):
            self.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            )
        self.apply(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GatewayClass",
                "metadata": {"name": "eg"},
                "spec": {"controllerName": CONTROLLER},
            }
        )
        self.listen("All")
        return self

    def __exit__(self, *_: object) -> None:
        self.plane.kubectl("delete", "isvc", "--all", f"--namespace={self.models}")
        self.plane.kubectl(
            "delete", "gateways.gateway.networking.k8s.io", "--all", f"--namespace={self.infra}"
        )
        for name in (self.models, self.infra):
            self.plane.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def listen(self, origin: str) -> None:
        """The Gateway's listener admits routes from `All` or the `Same` namespace."""
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        allowed = {"allowedRoutes": {"namespaces": {"from": origin}}}
        spec = {**self.gateway["spec"], "listeners": [{**listener, **allowed}]}  # type: ignore[dict-item]
        self.apply({**self.gateway, "spec": spec})

    def apply(self, obj: Mapping[str, Any]) -> None:
        """Server-side apply by the administrator."""
        self.plane.apply([obj], "--server-side", "--force-conflicts")

    def serve(self, name: str = "m", *, ready: bool = True, model: str = "llama", **annotations: str) -> None:
        """An injected InferenceService, and its predictor ready."""
        self.store(llm(name, self.models, args=[f"--model_name={model}"], annotations=annotations))
        if ready:
            self.ready(name)

    def store(self, obj: Mapping[str, Any]) -> None:
        """An InferenceService as the webhook stores it."""
        injected = injection.run(obj, InjectionFacts(injection="enabled")).obj
        del injected["metadata"]["uid"]
        self.apply(injected)

    def ready(self, name: str = "m", status: str = "True", **more: Any) -> None:
        """What KServe writes when the predictor's pods are (not) ready; `more` of the status."""
        condition = {
            "type": "PredictorReady",
            "status": status,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        path = f"/apis/serving.kserve.io/v1beta1/namespaces/{self.models}/inferenceservices/{name}/status"
        body = {"status": {"deploymentMode": "Standard", "conditions": [condition], **more}}
        answer = self.plane.client.request("PATCH", path, body, "application/merge-patch+json")
        assert answer.status == 200, answer.body

    def run(self, *arguments: str) -> str:
        """kubectl in the models' namespace."""
        return self.plane.kubectl(*arguments, f"--namespace={self.models}")

    def made(self, ai_gateway: str = "v1beta1") -> dict[tuple[str, str, str], Json]:
        """Every object of the controller's in both namespaces, by kind, namespace and name."""
        found = {}
        for kind in PLURALS:
            path = collection(kind, api_version(kind, Capabilities(ai_gateway)))
            listed = self.plane.client.request(
                "GET", f"{path}?labelSelector=app.kubernetes.io/managed-by=token-meter"
            ).body
            for obj in listed.get("items", ()) if isinstance(listed, dict) else ():
                place = obj["metadata"]["namespace"]
                if place in (self.models, self.infra):
                    found[kind, place.split("-")[0], obj["metadata"]["name"]] = obj
        return found

    def nothing_is_left(self) -> None:
        """Wait until nothing that is made stands any more; else an AssertionError that says what does."""
        try:
            eventually(lambda: not self.made())
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.made()}\n{self.told()}") from None

    def kinds(self, ai_gateway: str = "v1beta1") -> set[tuple[str, str]]:
        """Kind and place (models, infra) of all that is made."""
        return {(kind, place) for kind, place, _ in self.made(ai_gateway)}

    def told(self) -> str:
        """The Events in the models' namespace."""
        try:
            return self.run("get", "events", "-o=jsonpath={range .items[*]}{.reason}: {.message}\n{end}")
        except KubectlError:
            return ""

    def routed(self) -> list[str]:
        """The model names that the routes match."""
        return sorted(
            match["headers"][0]["value"]
            for (kind, _, _), obj in self.made().items()
            if kind == "AIGatewayRoute"
            for rule in obj["spec"]["rules"]
            for match in rule["matches"]
        )
