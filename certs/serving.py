"""A replica's own serving certificate: minted in memory from the CA, and swapped without dropping a connection.

A leaf of a new CA is served only when every webhook's bundle has held that CA for a while: API servers learn of a
change to the configuration by a watch of their own.
"""

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography import x509

from certs import bundle, keys
from certs.api import Object
from certs.keys import Pair

_LOG = logging.getLogger(__name__)
SETTLE = timedelta(seconds=10)


class Source(Protocol):
    """Where the server's certificate comes from."""

    @property
    def context(self) -> ssl.SSLContext:
        """What a server is started with."""

    @property
    def ready(self) -> bool:
        """There is a certificate that API servers can verify."""

    @property
    def expiry(self) -> dict[str, datetime]:
        """When what ends, by "leaf" and "ca"."""

    async def run(self) -> None:
        """Renew until cancelled."""


class Swap:
    """A serving context whose certificate is replaced between two handshakes.

    Each handshake takes the context that is current: the SSLContext that a server was started with cannot be
    loaded anew safely, as a bad pair would break it.
    """

    def __init__(self) -> None:
        self.context = _server_context()
        self.context.sni_callback = self._choose
        self._current: ssl.SSLContext | None = None

    def load(self, chain: bytes, key: bytes) -> None:
        """Serve this from the next handshake on. Raises ssl.SSLError for a bad pair; then nothing changes."""
        fresh = _server_context()
        with _memory_file(chain) as chain_path, _memory_file(key) as key_path:
            # A key with a password would make OpenSSL ask on the terminal.
            fresh.load_cert_chain(chain_path, key_path, password="")
        self._current = fresh

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


class _memory_file:  # noqa: N801 used as a function
    """A file that is on no disk, with a path as long as it is open."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> str:
        self._descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        os.write(self._descriptor, self._data)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def _now() -> datetime:
    return datetime.now(UTC)


class Minted:
    """Leaves minted from the CA's Secret.

    `secret` gives the Secret as last seen, `bundles` what each webhook is verified with, as last seen.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        secret: Callable[[], Object | None],
        bundles: Callable[[], Sequence[bytes]],
        life: timedelta = keys.LEAF_LIFE,
        settle: timedelta = SETTLE,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._names = tuple(names)
        self._secret = secret
        self._bundles = bundles
        self._life = life
        self._settle = settle
        self._clock = clock
        self._swap = Swap()
        self._jitter = random.random()  # noqa: S311 spreads renewals, no secret
        self._changed = asyncio.Event()
        self._ca: Pair | None = None
        self._leaf: Pair | None = None
        self._held: tuple[x509.Certificate, datetime] | None = None

    @property
    def context(self) -> ssl.SSLContext:
        return self._swap.context

    @property
    def ready(self) -> bool:
        """A valid leaf is served, and every webhook's bundle holds its CA."""
        if not self._ca or not self._leaf or not keys.valid(self._leaf.certificate, self._clock()):
            return False
        return self._published(self._ca.certificate)

    @property
    def expiry(self) -> dict[str, datetime]:
        found = {"leaf": self._leaf, "ca": self._ca}
        return {name: pair.certificate.not_valid_after_utc for name, pair in found.items() if pair}

    def poke(self) -> None:
        """Look again now."""
        self._changed.set()

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._changed.clear()
            wait = self.step()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def step(self) -> float:
        """Look once, renew or change over where it is time; returns the seconds until the next look."""
        now = self._clock()
        try:
            ca = bundle.read_ca((self._secret() or {}).get("data"), now)
        except bundle.Unusable as why:
            # The leader makes a new one; what is served is good until it expires.
            _LOG.info("no CA to mint from: %s", why)
            return self._pause(now)
        if self._due(ca, now):
            leaf = keys.mint_leaf(ca, self._names, now, self._life)
            self._swap.load(leaf.certificate_pem, leaf.key_pem)
            self._ca, self._leaf, self._held = ca, leaf, None
            _LOG.info(
                "serving a new certificate until %s",
                f"{leaf.certificate.not_valid_after_utc:%Y-%m-%dT%H:%MZ}",
            )
        return self._pause(now)

    def _due(self, ca: Pair, now: datetime) -> bool:
        if not self._ca or not self._leaf or not keys.valid(self._leaf.certificate, now):
            return True
        if ca.certificate == self._ca.certificate:
            self._held = None
            return now >= keys.renewal_time(self._leaf.certificate, self._jitter)
        return self._settled(ca.certificate, self._ca.certificate, now)

    def _settled(self, new: x509.Certificate, old: x509.Certificate, now: datetime) -> bool:
        """The new CA may be served: it has been published long enough, or the old one is no longer."""
        if not self._published(new):
            self._held = None
            return False
        if not self._held or self._held[0] != new:
            self._held = (new, now)
        return not self._published(old) or now >= self._held[1] + self._settle

    def _published(self, ca: x509.Certificate) -> bool:
        return all(bundle.holds(found, ca) for found in self._bundles())

    def _pause(self, now: datetime) -> float:
        """Seconds to the next look: at most a minute, less for short lives and while a change settles."""
        life = self._leaf.certificate.not_valid_after_utc - now if self._leaf else timedelta(0)
        settling = self._settle if self._held else life
        return min(60.0, max(0.2, min(life, settling).total_seconds() / 4))


class Mounted:
    """A certificate that something else (cert-manager) renews in a mounted Secret: tls.crt and tls.key."""

    def __init__(self, folder: Path, *, period: float = 10.0, clock: Callable[[], datetime] = _now) -> None:
        self._folder = folder
        self._period = period
        self._clock = clock
        self._swap = Swap()
        self._loaded: tuple[bytes, bytes] | None = None
        self._failed: tuple[bytes, bytes] | None = None

    @property
    def context(self) -> ssl.SSLContext:
        return self._swap.context

    @property
    def ready(self) -> bool:
        leaf = self._leaf()
        return leaf is not None and keys.valid(leaf, self._clock())

    @property
    def expiry(self) -> dict[str, datetime]:
        leaf = self._leaf()
        return {"leaf": leaf.not_valid_after_utc} if leaf else {}

    def _leaf(self) -> x509.Certificate | None:
        return next(iter(bundle.split(self._loaded[0])), None) if self._loaded else None

    async def run(self) -> None:
        """Look into the files each ten seconds: the kubelet swaps them by a link, minutes late anyway."""
        while True:
            self.step()
            await asyncio.sleep(self._period)

    def step(self) -> None:
        """Load the files where they changed; a pair that does not fit (yet) leaves the former one served."""
        try:
            pair = ((self._folder / "tls.crt").read_bytes(), (self._folder / "tls.key").read_bytes())
        except OSError as error:
            _LOG.warning("no certificate is mounted in %s: %s", self._folder, error.strerror)
            return
        if pair in (self._loaded, self._failed):
            return
        try:
            self._swap.load(*pair)
        except ssl.SSLError as error:
            self._failed = pair
            _LOG.warning("the certificate in %s cannot be used: %s", self._folder, error.reason or error)
            return
        self._loaded = pair
        _LOG.info("serving the certificate mounted in %s", self._folder)
