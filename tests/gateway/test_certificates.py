"""A sidecar's certificate is kept while it is good, and made anew in time; a young CA does not sign over a good one."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from certs import keys
from gateway.certificates import LIFE, SETTLE, renewed
from gateway.facts import Material

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAMES = ("token-meter-m.models.svc", "token-meter-m.models.svc.cluster.local")
CA = keys.make_ca(NOW - timedelta(days=10), subject="sidecar")
NEXT = keys.make_ca(NOW, subject="sidecar")


def stored(material: Material) -> dict[str, str]:
    fields = {"tls.crt": material.certificate, "tls.key": material.key}
    return {name: base64.b64encode(text.encode()).decode() for name, text in fields.items()}


FIRST = renewed(CA, CA.certificate_pem, {}, NAMES, NOW)
BOTH = CA.certificate_pem + NEXT.certificate_pem


def test_the_first_is_for_all_names_and_signed_by_the_ca() -> None:
    leaf = x509.load_pem_x509_certificate(FIRST.certificate.encode())
    leaf.verify_directly_issued_by(CA.certificate)
    covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(covered.get_values_for_type(x509.DNSName)) == set(NAMES)
    assert leaf.not_valid_after_utc == NOW + LIFE


def again(data: dict[str, str], at: timedelta, ca: keys.Pair = CA, trusted: bytes = BOTH) -> bool:
    """Whether it is made anew."""
    return renewed(ca, trusted, data, NAMES, NOW + at).certificate != FIRST.certificate


@pytest.mark.parametrize(("days", "expected"), [(0, False), (19, False), (21, True), (31, True)])
def test_it_is_made_anew_at_two_thirds_of_its_life(days: int, expected: bool) -> None:
    assert again(stored(FIRST), timedelta(days=days)) is expected


@pytest.mark.parametrize("data", [{}, {"tls.crt": "?"}, {"tls.crt": "AAAA", "tls.key": "AAAA"}])
def test_what_cannot_be_read_is_made_anew(data: dict[str, str]) -> None:
    assert again(data, timedelta())


def test_other_names_and_a_ca_that_nobody_trusts_make_it_anew() -> None:
    assert renewed(CA, BOTH, stored(FIRST), ("other.svc",), NOW).certificate != FIRST.certificate
    assert again(stored(FIRST), timedelta(), NEXT, NEXT.certificate_pem)


def test_a_new_ca_leaves_what_the_former_signed_until_it_is_due() -> None:
    assert not again(stored(FIRST), timedelta(days=1), NEXT)
    assert again(stored(FIRST), timedelta(days=21), NEXT)


def test_a_young_ca_does_not_sign_over_what_is_good() -> None:
    """Envoy has to have heard of it first."""
    old = renewed(CA, BOTH, {}, NAMES, NOW - timedelta(days=21))
    at = NOW + SETTLE / 2
    assert renewed(NEXT, BOTH, stored(old), NAMES, at) == old
    later = renewed(NEXT, BOTH, stored(old), NAMES, NOW + 2 * SETTLE)
    x509.load_pem_x509_certificate(later.certificate.encode()).verify_directly_issued_by(NEXT.certificate)
