"""Certificates of the sidecars that speak TLS: whose is kept, whose is made anew. `Certificates` is the shell."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs import bundle, keys
from certs.api import Api
from certs.ca_secret import CASecret, now
from certs.keys import Pair
from gateway.facts import Material
from isvc.names import CERTIFICATE_FIELD, PRIVATE_KEY_FIELD

SECRET = "token-meter-sidecar-ca"  # noqa: S105 a name
LIFE = timedelta(days=30)
SETTLE = timedelta(hours=1)
"""So long is a new CA published before it signs what replaces a good leaf: Envoy has to have it by then."""
_LAST = timedelta(days=2)
"""With so little left a leaf is replaced whatever the CA's age."""


class Certificates:
    """Signs by the CA of a Secret in the installation's namespace."""

    def __init__(self, api: Api, namespace: str, clock: Callable[[], datetime] = now) -> None:
        self._ca = CASecret(api, namespace=namespace, name=SECRET, subject="sidecar", clock=clock)
        self._clock = clock

    async def material(self, data: Mapping[str, str], names: Sequence[str]) -> Material:
        """What a sidecar serves with and Envoy verifies by; `data` is the Secret's as it stands."""
        ca, stored = await self._ca.ensure()
        trusted = bundle.merge(ca, [stored], self._clock())
        return renewed(ca, trusted, data, names, self._clock())


def renewed(
    ca: Pair, trusted: bytes, data: Mapping[str, str], names: Sequence[str], at: datetime
) -> Material:
    """The pair in the Secret where it is still good for these names, else a new one. Pure but for the new key."""
    certificate, key = _field(data, CERTIFICATE_FIELD), _field(data, PRIVATE_KEY_FIELD)
    if not (certificate and key and _good(certificate, ca, trusted, names, at)):
        pair = keys.mint_leaf(ca, names, at, LIFE, "sidecar")
        certificate, key = pair.certificate_pem.decode(), pair.key_pem.decode()
    return Material(certificate, key, trusted.decode())


def _good(text: str, ca: Pair, trusted: bytes, names: Sequence[str], at: datetime) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate(text.encode())
        covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    if not set(names) <= set(covered.get_values_for_type(x509.DNSName)) or not keys.valid(leaf, at):
        return False
    if not any(_signed(leaf, one) for one in bundle.split(trusted)):
        return False
    if at < keys.renewal_time(leaf):
        return True
    young = at - ca.certificate.not_valid_before_utc < keys.BACKDATE + SETTLE
    return young and leaf.not_valid_after_utc - at > _LAST


def _signed(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _field(data: Mapping[str, str], name: str) -> str:
    try:
        return base64.b64decode(data.get(name) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
