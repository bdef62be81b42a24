"""The CA's Secret and the bundle that clients verify with."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import bundle, keys

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CA = keys.make_ca(NOW)
OTHER = keys.make_ca(NOW)
GOOD = bundle.write_ca(CA, CA.certificate_pem)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_ca_is_read_as_it_was_written() -> None:
    read = bundle.read_ca(GOOD, NOW)
    assert (read.certificate, read.key_pem) == (CA.certificate, CA.key_pem)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "it is empty"),
        ({}, "it is empty"),
        ({**GOOD, "tls.key": ""}, "it has no tls.key"),
        ({**GOOD, "tls.crt": "%%%"}, "it has no tls.crt"),
        ({**GOOD, "tls.crt": b64(b"garbage")}, "it cannot be read"),
        ({**GOOD, "tls.key": b64(CA.key_pem[:100])}, "it cannot be read"),
        ({**GOOD, "tls.key": b64(OTHER.key_pem)}, "its key is not its certificate's"),
    ],
)
def test_a_damaged_secret_says_what_is_wrong(data: dict[str, str] | None, why: str) -> None:
    with pytest.raises(bundle.Unusable, match=why):
        bundle.read_ca(data, NOW)


def test_a_leaf_in_the_place_of_a_ca_is_refused() -> None:
    leaf = keys.mint_leaf(CA, ["a.b.svc"], NOW)
    with pytest.raises(bundle.Unusable, match="not a CA"):
        bundle.read_ca(bundle.write_ca(leaf, b""), NOW)


@pytest.mark.parametrize("when", [NOW + timedelta(days=366), NOW - timedelta(days=1)])
def test_a_ca_outside_its_dates_is_refused(when: datetime) -> None:
    with pytest.raises(bundle.Unusable, match="expired, or is not valid"):
        bundle.read_ca(GOOD, when)


@given(st.dictionaries(st.sampled_from(["tls.crt", "tls.key", "ca.crt"]), st.text() | st.binary().map(b64)))
def test_no_secret_breaks_the_reader(data: dict[str, str]) -> None:
    with pytest.raises(bundle.Unusable):
        bundle.read_ca(data, NOW)


@given(st.binary())
def test_no_bundle_breaks_the_reader(garbage: bytes) -> None:
    assert bundle.split(garbage + b"\n" + CA.certificate_pem + garbage)[-1:] == [CA.certificate]


def test_a_damaged_block_does_not_hide_the_others() -> None:
    damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert bundle.split(damaged + CA.certificate_pem) == [CA.certificate]


def next_ca(days: float) -> keys.Pair:
    return keys.make_ca(NOW + timedelta(days=days))


def merged(ca: keys.Pair, *former: keys.Pair, day: float) -> list[object]:
    text = bundle.merge(ca, [old.certificate_pem for old in former], NOW + timedelta(days=day))
    return list(bundle.split(text))


def test_the_old_ca_stays_until_its_last_leaf_has_expired() -> None:
    new = next_ca(100)
    assert merged(new, CA, day=100) == [new.certificate, CA.certificate]
    assert merged(new, CA, day=107.5) == [new.certificate, CA.certificate]
    assert merged(new, CA, day=108.5) == [new.certificate]


def test_each_ca_stays_by_its_own_successor() -> None:
    second, third = next_ca(100), next_ca(106)
    assert merged(third, CA, second, day=107) == [third.certificate, second.certificate, CA.certificate]
    assert merged(third, CA, second, day=110) == [third.certificate, second.certificate]


def test_a_ca_restored_from_a_backup_does_not_drop_the_one_that_it_replaces() -> None:
    newer = next_ca(100)
    assert merged(CA, newer, day=101) == [CA.certificate, newer.certificate]


def test_an_expired_ca_is_dropped() -> None:
    new = next_ca(364.5)
    assert merged(new, CA, day=366) == [new.certificate]


def test_foreign_certificates_are_not_kept() -> None:
    leaf = keys.mint_leaf(CA, ["a.b.svc"], NOW)
    assert merged(CA, leaf, day=1) == [CA.certificate]


def test_the_bundle_has_an_end() -> None:
    many = [next_ca(i / 100) for i in range(20)]
    found = merged(many[-1], *many, day=1)
    assert len(found) == bundle.MOST
    assert found[:2] == [many[-1].certificate, many[-2].certificate]


def test_merging_again_changes_nothing() -> None:
    new = next_ca(100)
    when = NOW + timedelta(days=101)
    once = bundle.merge(new, [CA.certificate_pem, OTHER.certificate_pem], when)
    assert bundle.merge(new, [once, CA.certificate_pem], when) == once
