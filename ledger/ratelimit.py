"""Taking tokens from a bucket of Envoy Gateway's rate limit service: ShouldRateLimit over gRPC and TLS."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc

from ledger._ratelimit_pb import METHOD, Request, Response
from ledger.buckets import Bucket

SERVER_NAME = "envoy-ratelimit.envoy-gateway-system"
"""The certificate's only name is `*.envoy-gateway-system` (Envoy Gateway 1.9): not the Service's own."""
MOST = 1_000_000_000
"""Envoy's own bound for what one request may take."""


class Unavailable(Exception):
    """The service has not answered; whether it has taken the tokens is not known where `sent`."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class RateLimitService:
    """A connection to the service, made when it is first used and again when it is lost."""

    def __init__(
        self, target: str, *, ca: bytes | None, server_name: str = SERVER_NAME, timeout: float = 2.0
    ) -> None:
        """`target` is host:port; without `ca` (PEM) it is spoken to in the clear, as on a loopback."""
        # A proxy for the internet is none for a Service.
        options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
        options += [("grpc.ssl_target_name_override", server_name)] if ca else []
        self._channel = (
            grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca), options)
            if ca
            else grpc.aio.insecure_channel(target, options)
        )
        self._call = self._channel.unary_unary(
            METHOD, request_serializer=Request.SerializeToString, response_deserializer=Response.FromString
        )
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close(None)

    async def greet(self) -> None:
        """Connect, by a question that takes nothing whatever becomes of it. Raises Unavailable where nobody answers."""
        try:
            await self._call(Request(), timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            # A domain is missing: it says so, and is there.
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise Unavailable(f"{error.code().name}: {error.details()}", sent=False) from None

    async def take(self, bucket: Bucket, tokens: int) -> int | None:
        """Take tokens; what is left, or None where the service knows no such bucket. Raises Unavailable."""
        return (await self.take_all((bucket,), tokens))[0]

    async def take_all(
        self, buckets: Sequence[Bucket], tokens: int, *, within: float = float("inf")
    ) -> list[int | None]:
        """Take the same from several buckets of one domain, in one call of `within` seconds at most."""
        request = Request(domain=buckets[0].domain, hits_addend=min(tokens, MOST))
        for bucket in buckets:
            descriptor = request.descriptors.add()
            for key, value in bucket.entries:
                descriptor.entries.add(key=key, value=value)
        try:
            answer = await self._call(request, timeout=min(self._timeout, within))
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"{error.code().name}: {error.details()}", sent=_sent(error)) from None
        return [
            int(one.limit_remaining) if one.HasField("current_limit") else None for one in answer.statuses
        ]


def _sent(error: grpc.aio.AioRpcError) -> bool:
    """Only a connection that could not be made, or a certificate refused, is sure to have taken nothing."""
    details = (error.details() or "").lower()
    early = ("failed to connect", "handshak", "name resolution", "dns", "connection refused")
    return not (error.code() is grpc.StatusCode.UNAVAILABLE and any(word in details for word in early))
