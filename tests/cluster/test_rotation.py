"""Certificates are renewed, deleted and damaged and a replica goes, while InferenceServices are created."""

import base64
from collections.abc import Iterator

import pytest
from cryptography import x509

from tests import crds
from tests.cluster.installation import Installation, eventually
from tests.cluster.load import Load
from tests.cluster.replica import NAMESPACE, Replica

pytestmark = crds.needed
SHORT = {"CA_SECONDS": "9", "LEAF_SECONDS": "4.5", "SETTLE_SECONDS": "1"}
SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/token-meter-ca"


@pytest.fixture
def hurried(installed: Installation) -> Iterator[Installation]:
    """Two replicas whose certificates live for seconds."""
    client = installed.plane.client
    for count, settings in (
        (2, SHORT),
        (1, {}),
    ):  # each with a CA of its own: the stored one lives on as made
        installed.stop()
        client.request("DELETE", SECRET)
        installed.start(count, settings)
        if settings:
            yield installed


def test_no_admission_fails_while_certificates_change_and_a_replica_goes(hurried: Installation) -> None:
    client = hurried.plane.client
    one, two = hurried.replicas
    with Load(hurried.create_probe) as load:
        authorities = made(one, two)
        eventually(lambda: made(one, two) >= authorities + 2 and serve_the_newest(hurried))
        assert min(leaves(one), leaves(two)) >= 3

        authorities = made(one, two)
        client.request("DELETE", SECRET)
        eventually(lambda: made(one, two) > authorities and serve_the_newest(hurried))

        authorities = made(one, two)
        damage = {"data": {"tls.crt": "AAAA"}}
        client.request("PATCH", SECRET, damage, "application/merge-patch+json")
        eventually(lambda: made(one, two) > authorities and serve_the_newest(hurried))

        hurried.replicas.remove(one)
        one.stop()
        renewed = leaves(two)
        eventually(lambda: leaves(two) > renewed)
    assert load.refused == load.bare == []
    assert load.count > 100


def leaves(replica: Replica) -> int:
    """How many certificates the replica has served."""
    return replica.log.count("serving a new certificate")


def made(*replicas: Replica) -> int:
    """How often a CA was made, by whoever led."""
    return sum(
        replica.log.count("making a CA") + replica.log.count("making the next one") for replica in replicas
    )


def serve_the_newest(installed: Installation) -> bool:
    """Whether all replicas are ready and serve a leaf that the CA in the Secret has signed."""
    data = installed.plane.client.request("GET", SECRET).body.get("data") or {}
    try:
        authority = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"])).subject
    except (KeyError, ValueError):  # gone or damaged, and not healed yet
        return False
    return all(replica.ready() and replica.certificate.issuer == authority for replica in installed.replicas)
