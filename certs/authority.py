"""The leader's work: one good CA in the Secret, and its bundle in the webhook configuration.

The Secret is the truth; the configuration follows it. What is damaged, deleted, expired or overwritten is put right,
and certificates that are still served stay verifiable meanwhile.
"""

import asyncio
import base64
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from certs import bundle, keys
from certs.api import FAILED, Api, Object
from certs.ca_secret import MANAGER, CASecret, read
from certs.watch import Backoff

_LOG = logging.getLogger(__name__)
TICK = 60.0
"""Seconds between two looks without a change, at most: a suspended process misses its timers."""
SOONEST = 0.2
"""Seconds between two looks without a change, at least: a CA that is due at once must not make it spin."""
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


def _now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """Keeps a CA's Secret and the caBundle of every webhook of one MutatingWebhookConfiguration.

    `poke` tells it that something changed.
    """

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        secret: str,
        configuration: str,
        life: timedelta = keys.CA_LIFE,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._api = api
        self._ca = CASecret(api, namespace=namespace, name=secret, life=life, clock=clock)
        self._configuration_path = f"{CONFIGURATIONS}/{configuration}"
        self._clock = clock
        self._former: bytes = b""
        self._changed = asyncio.Event()

    def poke(self) -> None:
        """Look again now."""
        self._changed.set()

    async def run(self) -> None:
        """Look after both until cancelled."""
        backoff = Backoff()
        while True:
            self._changed.clear()
            try:
                wait = await self.step()
                backoff.reset()
            except FAILED as error:
                wait = backoff.next()
                text = str(error) or type(error).__name__
                _LOG.warning("the certificates could not be looked after: %s; again in %.1f s", text, wait)
                await asyncio.sleep(wait)
                continue
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def step(self) -> float:
        """Look once: renew the CA where needed, then publish where the configuration differs.

        Returns the seconds until the next look: at most a minute, and not later than the stored CA is due.
        """
        configuration = await read(self._api, self._configuration_path)
        published = _published(configuration)
        ca, stored = await self._ca.ensure([*published, self._former])
        wanted = bundle.merge(ca, [stored, *published, self._former], self._clock())
        self._former = wanted
        if configuration and any(found != wanted for found in published):
            await self._publish(configuration, wanted)
        left = keys.renewal_time(ca.certificate) - self._clock()
        return min(TICK, max(SOONEST, left.total_seconds()))

    async def _publish(self, configuration: Object, wanted: bytes) -> None:
        """By webhook name, nothing but caBundle; with the uid, so that a deleted configuration is not made anew."""
        text = base64.b64encode(wanted).decode()
        names = [webhook["name"] for webhook in configuration["webhooks"]]
        metadata = configuration["metadata"]
        await self._api.apply(
            self._configuration_path,
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
                "webhooks": [{"name": name, "clientConfig": {"caBundle": text}} for name in names],
            },
            manager=MANAGER,
        )
        _LOG.info("published the CA bundle: %d certificates", len(bundle.split(wanted)))


def _published(configuration: Object | None) -> list[bytes]:
    return [bundle_of(webhook) for webhook in (configuration or {}).get("webhooks") or ()]


def bundle_of(webhook: Object) -> bytes:
    """The bundle that the API server verifies this webhook with."""
    return bundle.decode((webhook.get("clientConfig") or {}).get("caBundle"))
