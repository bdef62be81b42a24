"""What the tests ask of a cluster, and its kubectl."""

import functools
import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import parts

Object = Mapping[str, Any]


class KubectlError(Exception):
    """kubectl ended with an error; the text is what it printed."""


class Cluster(ABC):
    """A running cluster and its administrator's kubeconfig. Another kind of cluster is another subclass."""

    kubeconfig: Path

    @abstractmethod
    def up(self) -> None:
        """Start it; returns when its API server is ready. Raises DemoError."""

    @abstractmethod
    def down(self) -> None:
        """End all that `up` started."""

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints (stdout, then stderr with its warnings); raises KubectlError where it fails."""
        cache = f"--cache-dir={self.kubeconfig.parent / 'kubectl-cache'}"
        done = subprocess.run(
            [_kubectl(), f"--kubeconfig={self.kubeconfig}", cache, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise KubectlError(done.stdout + done.stderr)
        return done.stdout + done.stderr

    def get(self, kind: str, name: str, namespace: str = "") -> Any:
        """The stored object; raises KubectlError where there is none."""
        where = (f"--namespace={namespace}",) if namespace else ()
        return json.loads(self.kubectl("get", kind, name, "-o=json", "--show-managed-fields", *where))

    @contextmanager
    def forward(self, namespace: str, target: str, port: int, to: int) -> Iterator["subprocess.Popen[bytes]"]:
        """`kubectl port-forward` from a port of 127.0.0.1 while the block lasts; it may not listen at once."""
        head = [
            str(_kubectl()),
            f"--kubeconfig={self.kubeconfig}",
            f"--namespace={namespace}",
            "port-forward",
        ]
        with subprocess.Popen([*head, target, f"{port}:{to}"], stdout=subprocess.DEVNULL) as child:
            try:
                yield child
            finally:
                child.terminate()

    def apply(self, objects: Iterable[Object], *arguments: str) -> str:
        """`kubectl apply` of objects from memory."""
        return self.kubectl("apply", "-f-", *arguments, stdin=as_list(objects))


class NodeCluster(Cluster):
    """One with a node, so that pods run."""

    @abstractmethod
    def load(self, image: str) -> None:
        """Bring an image of this machine onto the node; pods name it with imagePullPolicy Never or IfNotPresent."""

    @abstractmethod
    def enter(self, *command: str) -> str:
        """What a command prints that is run on the node; raises DemoError where it fails."""

    def kill(self, container: str) -> None:
        """SIGKILL to a container, as its status names it (`containerd://...`): what no process inside can do to it."""
        name = container.removeprefix("containerd://")
        self.enter("ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", name)


def as_list(objects: Iterable[Object]) -> str:
    """Objects as one `v1 List`, for kubectl's stdin."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


@functools.cache
def _kubectl() -> Path:
    """Asked for once: the cache of parts looks at the whole program each time."""
    return parts.path("kubectl")
