"""Keys and certificates, as strict verifiers see them."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from certs import keys

NOW = datetime(2026, 5, 1, tzinfo=UTC)
NAMES = (*keys.service_names("token-meter-webhook", "token-meter-system"), "127.0.0.1")


def verify(leaf: keys.Pair, ca: keys.Pair, name: str, now: datetime) -> None:
    """What RFC 5280 and the CA/Browser profile ask for; raises VerificationError."""
    store = verification.Store([ca.certificate])
    builder = verification.PolicyBuilder().store(store).time(now)
    builder.build_server_verifier(x509.DNSName(name)).verify(leaf.certificate, [])


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_leaf_is_verified_by_both_names_of_the_service(name: str) -> None:
    ca = keys.make_ca(NOW)
    verify(keys.mint_leaf(ca, NAMES, NOW), ca, name, NOW)


def test_a_leaf_of_another_ca_is_refused() -> None:
    leaf = keys.mint_leaf(keys.make_ca(NOW), NAMES, NOW)
    with pytest.raises(verification.VerificationError):
        verify(leaf, keys.make_ca(NOW), NAMES[0], NOW)


def test_clocks_that_are_behind_accept_a_new_leaf() -> None:
    ca = keys.make_ca(NOW)
    verify(keys.mint_leaf(ca, NAMES, NOW), ca, NAMES[0], NOW - timedelta(minutes=59))


def test_a_leaf_never_outlives_its_ca() -> None:
    ca = keys.make_ca(NOW, timedelta(days=2))
    leaf = keys.mint_leaf(ca, NAMES, NOW)
    assert leaf.certificate.not_valid_after_utc == ca.certificate.not_valid_after_utc


def test_leaf_serves_and_signs_nothing() -> None:
    leaf = keys.mint_leaf(keys.make_ca(NOW), NAMES, NOW).certificate
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not keys.is_ca(leaf)


def test_two_cas_have_two_names() -> None:
    assert keys.make_ca(NOW).certificate.subject != keys.make_ca(NOW).certificate.subject


@given(days=st.integers(1, 400), jitter=st.floats(0, 1))
def test_renewal_is_between_half_and_two_thirds_of_a_life(days: int, jitter: float) -> None:
    ca = CA_BY_DAYS.setdefault(days, keys.make_ca(NOW, timedelta(days=days)))
    share = (keys.renewal_time(ca.certificate, jitter) - NOW) / timedelta(days=days)
    assert 0.56 < share < 0.67


CA_BY_DAYS: dict[int, keys.Pair] = {}


@pytest.mark.parametrize(
    ("moment", "valid"),
    [
        (timedelta(hours=-2), False),
        (timedelta(0), True),
        (timedelta(days=6), True),
        (timedelta(days=7), False),
    ],
)
def test_validity_ends_when_it_says(moment: timedelta, *, valid: bool) -> None:
    leaf = keys.mint_leaf(keys.make_ca(NOW), NAMES, NOW)
    assert keys.valid(leaf.certificate, NOW + moment) is valid
