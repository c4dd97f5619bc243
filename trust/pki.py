"""The scheme's certificate authority and the members' TLS certificates.

Keys are ECDSA P-256, which gRPC (BoringSSL), OpenSSL and Node all take. A member's certificate
carries exactly one ``spiffe://`` URI, which is its identity, and one DNS name, because gRPC clients
check a server's name and pass over URIs; both extended key usages, because one process calls and
answers. Loopback names are added only where a demonstration asks for them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trust import files
from trust.errors import ProbegateError, Reason
from trust.keys import require_private

BACKDATING: Final = timedelta(minutes=5)
"""How long before its making a certificate is valid, for peers whose clocks are behind."""
CA_LIFETIME: Final = timedelta(days=3650)
CERTIFICATE_LIFETIME: Final = timedelta(days=30)
MAX_CERTIFICATE_LIFETIME: Final = timedelta(days=397)
MAX_COMMON_NAME_CHARS: Final = 64
"""X.520's upper bound of a common name."""

LOOPBACK_NAMES: Final[tuple[x509.GeneralName, ...]] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate with its chain, and its private key, both PEM."""

    chain_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "IssuedCertificate(...)"


class CertificateAuthority:
    """The scheme's certificate authority, its key in a file.

    Attributes:
        certificate: the self-signed certificate.
    """

    __slots__ = ("_private", "certificate")

    def __init__(self, private: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._private = private
        self.certificate = certificate

    def __repr__(self) -> str:
        return f"CertificateAuthority({self.certificate.subject.rfc4514_string()!r})"

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @classmethod
    def generate(cls, key_path: Path, certificate_path: Path, name: str, now: datetime) -> Self:
        """Make an authority and write its key (0600) and certificate.

        Raises:
            ProbegateError: ``FILE_EXISTS`` if there is a key already.
        """
        private = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        certificate = (
            _builder(subject, subject, private.public_key(), now, CA_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
            )
            .sign(private, hashes.SHA256())
        )
        files.write_private(key_path, _key_pem(private))
        files.write_atomic(certificate_path, certificate.public_bytes(Encoding.PEM))
        return cls(private, certificate)

    @classmethod
    def load(cls, key_path: Path, certificate_path: Path) -> Self:
        """Read the authority's key and certificate.

        Raises:
            ProbegateError: ``FILE_MISSING`` or ``KEY_FILE_INVALID``.
        """
        require_private(key_path)
        try:
            private = load_pem_private_key(files.read(key_path), None)
            certificate = x509.load_pem_x509_certificate(files.read(certificate_path))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise _unfit(key_path, "not PEM") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise _unfit(key_path, "not an ECDSA key")
        if certificate.public_key() != private.public_key():
            raise _unfit(key_path, "the certificate is of another key")
        return cls(private, certificate)

    def issue(
        self,
        *,
        spiffe_id: str,
        dns_name: str,
        now: datetime,
        lifetime: timedelta = CERTIFICATE_LIFETIME,
        loopback: bool = False,
    ) -> IssuedCertificate:
        """Issue a certificate with a fresh key, for calling and for answering.

        Args:
            spiffe_id: the member's identity.
            dns_name: the one DNS name callers verify.
            now: the time of issue.
            lifetime: how long it is valid.
            loopback: whether it also stands for ``localhost`` and 127.0.0.1.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` for a lifetime out of range.
        """
        if not timedelta() < lifetime <= MAX_CERTIFICATE_LIFETIME:
            raise ProbegateError(
                Reason.CONFIG_INVALID,
                f"a certificate lives up to {MAX_CERTIFICATE_LIFETIME.days} days",
                field="lifetime",
            )
        names: Sequence[x509.GeneralName] = (
            x509.UniformResourceIdentifier(spiffe_id),
            x509.DNSName(dns_name),
            *(LOOPBACK_NAMES if loopback else ()),
        )
        private = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(_name(dns_name), self.certificate.subject, private.public_key(), now, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._private.public_key()),
                critical=False,
            )
            .sign(self._private, hashes.SHA256())
        )
        return IssuedCertificate(
            certificate.public_bytes(Encoding.PEM) + self.pem, _key_pem(private)
        )


def key_matches(chain_pem: bytes, key_pem: bytes) -> bool:
    """Say whether a private key belongs to the first certificate of a chain."""
    try:
        certificate = x509.load_pem_x509_certificate(chain_pem)
        private = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return certificate.public_key() == private.public_key()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + lifetime)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:MAX_COMMON_NAME_CHARS])])


def _key_pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _unfit(path: Path, why: str) -> ProbegateError:
    return ProbegateError(Reason.KEY_FILE_INVALID, f"{path}: {why}", file=path.name)
