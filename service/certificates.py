"""A private certificate authority, and certificates that it signs (X.509, RFC 5280).

For `gramian certs`. Needs the package `cryptography` (extra `tls`), which is imported when used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import ConflictError, MissingExtraError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ROLES = ("scheduler", "worker", "service")
CA_NAME = "ca"
# Clocks of machines differ by minutes.
_CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, in PEM."""

    certificate: bytes
    key: bytes


def require_cryptography() -> None:
    """Raises MissingExtraError."""
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "Making and reading certificates needs the package cryptography.",
            advice="Install it: pip install 'gramian[tls]'.",
        ) from error


def make_certificates(hosts: Sequence[str], days: float) -> dict[str, Pair]:
    """The CA and a certificate per role, by name, good for `days` days from now.

    `hosts`: names and addresses that the certificates carry besides the loopback ones. Keys are
    on the curve P-256. Each certificate serves both ends of a connection: workers are servers and
    clients at once.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    begins = datetime.now(UTC) - _CLOCK_SLACK
    ends = datetime.now(UTC) + timedelta(days=days)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Gramian private CA")
    ca = _sign(
        _builder(ca_name, ca_name, ca_key, begins, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True),
        ca_key,
        ca_key,
    )
    made = {CA_NAME: _pair(ca, ca_key)}
    names = x509.SubjectAlternativeName(
        [_general_name(host) for host in dict.fromkeys(["localhost", "127.0.0.1", "::1", *hosts])]
    )
    both_ends = x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(
            _builder(_name(f"gramian {role}"), ca_name, key, begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(both_ends, critical=False)
            .add_extension(names, critical=False),
            key,
            ca_key,
        )
        made[role] = _pair(certificate, key)
    return made


def write_certificates(folder: Path, made: dict[str, Pair]) -> list[Path]:
    """`NAME.pem` and `NAME-key.pem` for each; the files. Keys are readable by their owner only.

    Raises ConflictError, and writes nothing, if one of them is there.
    """
    files = {}
    for name, pair in made.items():
        files[folder / f"{name}.pem"] = (pair.certificate, 0o644)
        files[folder / f"{name}-key.pem"] = (pair.key, 0o600)
    there = [path.name for path in files if path.exists()]
    if there:
        raise ConflictError(
            f"{folder} has {', '.join(there)} already.",
            advice="Choose an empty folder: whoever uses these files would lose them.",
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, (content, mode) in files.items():
        # Never readable by others, not for a moment.
        path.touch(mode=mode, exist_ok=False)
        path.write_bytes(content)
    return list(files)


def faults(ca: Path, certificate: Path, key: Path, moment: datetime) -> list[str]:
    """What is wrong with these PEM files at `moment`, in words; empty: nothing.

    Raises OSError for files that cannot be read.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        authority = x509.load_pem_x509_certificate(ca.read_bytes())
        own = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError) as error:
        return [f"one of {ca}, {certificate}, {key} is not an unencrypted PEM file: {error}"]
    found = []
    for path, each in ((ca, authority), (certificate, own)):
        if each.not_valid_after_utc <= moment:
            found.append(f"{path} expired on {each.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if each.not_valid_before_utc > moment:
            found.append(f"{path} is not valid before {each.not_valid_before_utc:%Y-%m-%d} UTC")
    try:
        own.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        found.append(f"{certificate} is not signed by the CA in {ca}")
    if own.public_key() != private.public_key():
        found.append(f"{key} is not the key of {certificate}")
    return found


def expiry(certificate: Path) -> datetime:
    """When a certificate ends (UTC)."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(
    builder: x509.CertificateBuilder,
    key: EllipticCurvePrivateKey,
    ca_key: EllipticCurvePrivateKey,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    # OpenSSL's strict checks (Python 3.13) want both identifiers (RFC 5280, 4.2.1.1 and 4.2.1.2).
    return (
        builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )


def _pair(certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> Pair:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return Pair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
