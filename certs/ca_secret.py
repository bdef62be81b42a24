"""One good CA in a Secret: made where there is none, or none that can be used; renewed when it is due.

Beside it the Secret holds the bundle to verify with: the former CA too, as long as a leaf of its may be served.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from certs import bundle, keys
from certs.api import Api, ApiError, Object
from certs.keys import Pair

_LOG = logging.getLogger(__name__)
MANAGER = "token-meter-certs"


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


class CASecret:
    """`ensure` gives the CA and its bundle; raises what a request raises."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        subject: str = "webhook",
        life: timedelta = keys.CA_LIFE,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        self._subject = subject
        self._life = life
        self._clock = clock

    async def ensure(self, known: Iterable[bytes] = ()) -> tuple[Pair, bytes]:
        """The CA to sign with and the bundle stored beside it; `known` are bundles that verifiers have now."""
        secret = await read(self._api, self._path)
        data = (secret or {}).get("data") or {}
        stored = bundle.decode(data.get(bundle.BUNDLE))
        try:
            ca = bundle.read_ca(data, self._clock())
            if not bundle.due(ca, self._clock()):
                return ca, stored + ca.certificate_pem
            _LOG.info("the CA is due; making the next one")
        except bundle.Unusable as why:
            _LOG.warning("making a CA: the Secret %s is unusable: %s", self._name, why)
        former = [stored, bundle.decode(data.get(bundle.CERTIFICATE)), *known]
        ca = keys.make_ca(self._clock(), self._life, self._subject)
        stored = bundle.merge(ca, former, self._clock())
        metadata: Object = {"name": self._name, "namespace": self._namespace}
        if secret:  # a change in between is a conflict, and looked at again
            metadata["resourceVersion"] = secret["metadata"]["resourceVersion"]
        body: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        body["data"] = bundle.write_ca(ca, stored)
        await self._api.apply(self._path, body, manager=MANAGER)
        return ca, stored


async def read(api: Api, path: str) -> Object | None:
    """An object, None where there is none of that name."""
    try:
        return await api.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
