"""Keys and certificates for the servers of the tests."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def write_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """A new EC P-256 key, also in a PEM file that only its owner reads."""
    key = ec.generate_private_key(ec.SECP256R1())
    file.touch(0o600)
    kind = serialization.PrivateFormat.TraditionalOpenSSL
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    return key


def write_self_signed(folder: Path, name: str, *others: str) -> tuple[Path, Path]:
    """Certificate and key for a server on 127.0.0.1, valid for a day: `<name>.crt` and `<name>.key`.

    `others` are more names and addresses of it.
    """
    certificate, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    key = write_key(key_file)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([_name(one) for one in ("127.0.0.1", *others)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return certificate, key_file


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
