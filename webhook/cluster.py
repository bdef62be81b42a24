"""What the webhook knows of its cluster, kept current by watches: `facts(namespace)` for the pure code.

Namespaces with our label, KServe's runtimes and default deployment mode, our own ConfigMap of defaults.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from certs.api import FAILED, Api, Object
from certs.watch import Watch
from isvc import INJECTION_LABEL, InvalidAnnotation, Mode, modes, names
from isvc.annotations import ANNOTATIONS
from webhook.plan import Facts, SidecarSettings

_LOG = logging.getLogger(__name__)
_KSERVE = "/apis/serving.kserve.io/v1alpha1"
KSERVE_CONFIG = "inferenceservice-config"
_REFRESH = 1.0
DEFAULT_MODE = Mode.KNATIVE
"""KServe's own where its ConfigMap says nothing: then its defaulter leaves no annotation either."""


def config_map(api: Api, namespace: str, name: str, changed: Callable[[], None]) -> Watch:
    """A watch of one ConfigMap."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    return Watch(api, path, selector={"fieldSelector": f"metadata.name={name}"}, changed=changed)


class Cluster:
    """The watches and what is read from them."""

    def __init__(self, api: Api, *, namespace: str, config_map_name: str, kserve_namespace: str) -> None:
        self._api = api
        self._own = (config_map_name, namespace)
        self._kserve = (KSERVE_CONFIG, kserve_namespace)
        self._defaults: Mapping[str, str] = {}
        self._sidecar = SidecarSettings()
        self._mode = DEFAULT_MODE
        self._refreshed = float("-inf")
        self.namespaces = Watch(
            api, "/api/v1/namespaces", selector={"labelSelector": INJECTION_LABEL}, trim=_namespace
        )
        self.runtimes = {
            "ServingRuntime": Watch(api, f"{_KSERVE}/servingruntimes", trim=_of_kind("ServingRuntime")),
            "ClusterServingRuntime": Watch(
                api, f"{_KSERVE}/clusterservingruntimes", trim=_of_kind("ClusterServingRuntime")
            ),
        }
        self.graphs = Watch(api, f"{_KSERVE}/inferencegraphs", trim=_of_kind("InferenceGraph"))
        self._config = config_map(api, namespace, config_map_name, self._read_config)
        self._kserve_config = config_map(api, kserve_namespace, KSERVE_CONFIG, self._read_mode)

    @property
    def watches(self) -> dict[str, Watch]:
        """Every watch, by what it follows."""
        return {
            "namespaces": self.namespaces,
            **self.runtimes,
            "InferenceGraph": self.graphs,
            "settings": self._config,
            "KServe's settings": self._kserve_config,
        }

    @property
    def missing(self) -> list[str]:
        """What has not been read yet."""
        return [name for name, watch in self.watches.items() if not watch.synced.is_set()]

    def tasks(self) -> list[Awaitable[None]]:
        """What is to be run."""
        return [watch.run() for watch in self.watches.values()]

    async def facts(self, namespace: str) -> Facts:
        """What is known for an InferenceService in this namespace.

        The API server calls for labelled namespaces only: one that the watch does not know (yet) is asked for.
        """
        metadata = _metadata(self.namespaces.get(namespace) or await self._ask(namespace))
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        return Facts(
            injection=labels.get(INJECTION_LABEL),
            default_mode=self._mode,
            default_namespace=namespace,
            namespace_annotations=annotations,
            cluster_defaults=self._defaults,
            serving_runtimes=self._runtimes(namespace),
            inference_graphs=_in(self.graphs, namespace),
            sidecar=self._sidecar,
        )

    async def refresh(self) -> bool:
        """Ask for the runtimes again now, once a second at most; whether there are others than before."""
        now = time.monotonic()
        if now - self._refreshed < _REFRESH:
            return False
        self._refreshed = now
        before = [list(watch) for watch in self.runtimes.values()]
        try:
            async with asyncio.timeout(2.0):
                await asyncio.gather(*(watch.refresh() for watch in self.runtimes.values() if watch.served))
        except FAILED as error:
            _LOG.warning("the runtimes are not known: %s", str(error) or type(error).__name__)
        return before != [list(watch) for watch in self.runtimes.values()]

    def _runtimes(self, namespace: str) -> list[Object] | None:
        if not any(watch.served for watch in self.runtimes.values()):
            return None
        return [*_in(self.runtimes["ServingRuntime"], namespace), *self.runtimes["ClusterServingRuntime"]]

    async def _ask(self, namespace: str) -> Object:
        try:
            async with asyncio.timeout(2.0):
                return _namespace(await self._api.get(f"/api/v1/namespaces/{namespace}"))
        except FAILED as error:
            _LOG.warning("namespace %s is not known: %s", namespace, str(error) or type(error).__name__)
            return {}

    def _read_config(self) -> None:
        obj = self._config.get(*self._own)
        data = {key: str(value) for key, value in ((obj or {}).get("data") or {}).items()}
        self._sidecar = _sidecar(data, self._sidecar)
        self._defaults = _defaults(data)
        _LOG.info("settings read", extra={"settings": {**self._defaults, "image": self._sidecar.image}})

    def _read_mode(self) -> None:
        obj = self._kserve_config.get(*self._kserve)
        if obj is None:
            where = "/".join(reversed(self._kserve))
            _LOG.warning(
                "KServe's ConfigMap %s is missing; %s is taken for the default mode", where, DEFAULT_MODE
            )
        self._mode = default_mode((obj or {}).get("data") or {})
        _LOG.info("KServe's default deployment mode is %s", self._mode)


def default_mode(data: Mapping[str, Any]) -> Mode:
    """The mode in `deploy` of inferenceservice-config (KServe 0.20, configmap.go NewDeployConfig)."""
    try:
        said = json.loads(data.get("deploy") or "{}").get("defaultDeploymentMode")
        return modes.parse(said) if said else DEFAULT_MODE
    except (ValueError, AttributeError, TypeError) as error:
        _LOG.warning("KServe's ConfigMap has a deploy that cannot be read: %s", error)
        return DEFAULT_MODE


def _sidecar(data: Mapping[str, str], former: SidecarSettings) -> SidecarSettings:
    """The sidecar's image and ports; what cannot be used leaves the former ones, with a line in the log."""
    shipped = SidecarSettings()
    try:
        return SidecarSettings(
            image=data.get("sidecar-image") or shipped.image,
            port=int(data.get("sidecar-port") or shipped.port),
            admin_port=int(data.get("sidecar-admin-port") or shipped.admin_port),
        )
    except ValueError as error:
        _LOG.error("the ConfigMap's sidecar settings are not used: %s", error)
        return former


_OWN_KEYS = {"sidecar-image", "sidecar-port", "sidecar-admin-port"}


def _defaults(data: Mapping[str, str]) -> dict[str, str]:
    """The defaults that are allowed; the others are the operator's fault, which no user's object pays for."""
    good = {}
    for key, text in data.items():
        annotation = ANNOTATIONS.get(key)
        if annotation is None or not annotation.cluster:
            if key not in _OWN_KEYS:
                _LOG.error("the ConfigMap's %s is not a setting and is ignored", key)
            continue
        try:
            annotation.value(text, "ConfigMap")
        except InvalidAnnotation as error:
            _LOG.error("a setting is ignored: %s", error)
        else:
            good[key] = text
    return good


def _namespace(obj: Object) -> Object:
    """Of a Namespace what is ours."""
    metadata = _metadata(obj)
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k == INJECTION_LABEL}
    prefix = f"{names.DOMAIN}/"
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k.startswith(prefix)}
    return {"metadata": {"name": metadata.get("name"), "labels": labels, "annotations": annotations}}


def _of_kind(kind: str) -> Callable[[Object], Object]:
    """Lists leave out the kind of their items; managedFields are long and nobody reads them."""

    def trim(obj: Object) -> Object:
        metadata = {key: value for key, value in _metadata(obj).items() if key != "managedFields"}
        return {**obj, "kind": kind, "metadata": metadata}

    return trim


def _in(watch: Watch, namespace: str) -> list[Object]:
    return [obj for obj in watch if _metadata(obj).get("namespace") == namespace]


def _metadata(obj: Object) -> Object:
    metadata: Object = obj.get("metadata") or {}
    return metadata
