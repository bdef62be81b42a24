"""What is stored and published: the CA's Secret, and the caBundle that clients verify with.

On a change of CA the bundle holds the old one too, until the last leaf that it may have signed has expired.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.keys import BACKDATE, LEAF_LIFE, Pair, is_ca, is_ours, pem, renewal_time, valid

CERTIFICATE, KEY, BUNDLE = "tls.crt", "tls.key", "ca.crt"
MOST = 8
"""CAs in a bundle at most: a Secret that is deleted again and again must not let it grow."""
_MARGIN = timedelta(days=1)
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Unusable(ValueError):
    """A CA's Secret cannot be used; the text says why."""


def read_ca(data: Mapping[str, str] | None, now: datetime) -> Pair:
    """The CA in a Secret's `data`. Raises Unusable where it is absent, damaged or outside its dates."""
    try:
        certificate = x509.load_pem_x509_certificate(_field(data, CERTIFICATE))
        key = serialization.load_pem_private_key(_field(data, KEY), password=None)
    except Unusable:
        raise
    except (ValueError, TypeError) as error:
        raise Unusable(f"it cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise Unusable("its key is not its certificate's")
    if not is_ca(certificate):
        raise Unusable("its certificate is not a CA's")
    if not valid(certificate, now):
        raise Unusable(f"it expired, or is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")
    return Pair(certificate, key)


def write_ca(ca: Pair, bundle: bytes) -> dict[str, str]:
    """The Secret's `data`."""
    fields = {CERTIFICATE: ca.certificate_pem, KEY: ca.key_pem, BUNDLE: bundle}
    return {name: base64.b64encode(value).decode() for name, value in fields.items()}


def due(ca: Pair, now: datetime) -> bool:
    """It is time for the next CA."""
    return now >= renewal_time(ca.certificate)


def split(bundle: bytes) -> list[x509.Certificate]:
    """The certificates of a bundle; what cannot be read is left out."""
    found = []
    for block in _BLOCK.findall(bundle):
        try:
            found.append(x509.load_pem_x509_certificate(block))
        except ValueError:
            continue
    return found


def merge(ca: Pair, former: Iterable[bytes], now: datetime) -> bytes:
    """The bundle: `ca` first, then those of our CAs in the former bundles whose leaves may still be served."""
    others = {pem(old): old for bundle in former for old in split(bundle) if _may_stay(old, now)}
    others.pop(ca.certificate_pem, None)
    newest_first = sorted(others.values(), key=lambda old: old.not_valid_before_utc, reverse=True)
    kept, successor = [ca.certificate], ca.certificate
    for old in newest_first:
        # A CA that came back from a backup is older than the one that it replaces.
        replaced = max(successor.not_valid_before_utc, old.not_valid_before_utc) + BACKDATE
        if now < replaced + LEAF_LIFE + _MARGIN:
            kept.append(old)
        successor = old
    return b"".join(pem(certificate) for certificate in kept[:MOST])


def holds(bundle: bytes, certificate: x509.Certificate) -> bool:
    """The bundle has this certificate in it."""
    return certificate in split(bundle)


def decode(text: Any) -> bytes:
    """Base64 as the API server writes it; nothing for what is not."""
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError, TypeError):
        return b""


def _may_stay(certificate: x509.Certificate, now: datetime) -> bool:
    return is_ours(certificate) and is_ca(certificate) and valid(certificate, now)


def _field(data: Mapping[str, str] | None, name: str) -> bytes:
    value = decode((data or {}).get(name))
    if not value:
        raise Unusable(f"it has no {name}" if data else "it is empty")
    return value
