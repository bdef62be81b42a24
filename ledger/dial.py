"""The way to the rate limit service and to the objects that say where it counts, as the settings have it."""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from pathlib import Path

from ledger.cluster import Cluster, Unreachable
from ledger.gateway import FromCluster, FromFile, Source
from ledger.ratelimit import RateLimitService, Unavailable
from ledger.settings import PREFIX, Settings, SettingsError

Dial = Callable[[], Awaitable[RateLimitService]]


def way(settings: Settings, cluster: Cluster | None) -> tuple[Source | None, Dial | None]:
    """Where the objects are read, and how the service is reached; neither where it is not to be told anything.

    Raises SettingsError for a file of objects that cannot be read.
    """
    if not settings.rate_limit:
        return None, None

    async def dial() -> RateLimitService:
        ca = await _ca(settings, cluster)
        service = RateLimitService(settings.rate_limit, ca=ca, server_name=settings.rate_limit_server_name)
        try:
            await service.greet()
        except Unavailable:
            await service.close()
            raise
        return service

    if settings.gateway_objects:
        try:
            return FromFile(settings.gateway_objects), dial
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"{PREFIX}GATEWAY_OBJECTS: {settings.gateway_objects}: {type(error).__name__}: {error}"
            ) from None
    return (FromCluster(cluster) if cluster else None), dial


async def _ca(settings: Settings, cluster: Cluster | None) -> bytes | None:
    """The CA as it is now; None only on a loopback without a cluster. Raises OSError, Unreachable."""
    if file := settings.rate_limit_ca_file:
        return await asyncio.to_thread(Path.read_bytes, file)
    if cluster is None:
        return None
    namespace, _, name = settings.rate_limit_ca_secret.partition("/")
    secret = await cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    try:
        return base64.b64decode((secret or {})["data"]["ca.crt"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        raise Unreachable(f"the Secret {settings.rate_limit_ca_secret} has no ca.crt") from None
