"""Somebody who writes InferenceServices."""

import json
from typing import Any

from tests.cluster.installation import Installation
from tests.cluster.shapes import server

Json = dict[str, Any]


class Owner:
    """Somebody with a manifest and kubectl; `manifest` is what the file says."""

    def __init__(self, installed: Installation, manifest: Json) -> None:
        self._plane = installed.plane
        self.manifest = manifest

    def run(self, *arguments: str) -> str:
        """kubectl, in the manifest's namespace."""
        return self._plane.kubectl(*arguments, f"--namespace={self.manifest['metadata']['namespace']}")

    def file(self, verb: str, *arguments: str) -> str:
        """kubectl with the manifest as its file."""
        where = f"--namespace={self.manifest['metadata']['namespace']}"
        return self._plane.kubectl(verb, "-f-", where, *arguments, stdin=json.dumps(self.manifest))

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def stored(self) -> Json:
        """The object as it stands in the cluster."""
        found: Json = json.loads(self.run("get", "isvc", self.name, "-o=json", "--show-managed-fields"))
        return found

    def add_argument(self) -> None:
        """Change the manifest: one more argument for the model server."""
        server(self.manifest)["args"].append("--trust-remote-code")
