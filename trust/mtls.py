"""Mutual TLS for gRPC: credentials that rotate, and who the peer is.

The rules:

1. Both sides show a certificate of the scheme's authority; there is no other way to connect.
2. A peer is the one ``spiffe://`` URI in its certificate, matched exactly in the directory. A
   certificate with none, with two, or with one the directory does not list is nobody's.
3. A server takes up a new certificate for the next connection after its files change; a pair that
   does not fit together (read between the writing of the two) leaves the last good one in use.

Connections already open keep their old certificate: servers limit a connection's age
(``grpc.max_connection_age_ms``). A gRPC client has one certificate for a channel's life; to rotate,
build the channel again when ``certificate_fingerprint`` changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from trust import files, pki
from trust.directory import Directory, Member
from trust.errors import ProbegateError, Reason
from trust.keys import require_private

MAX_CACHED_PEERS: Final = 512
"""Most peers' certificates kept ready, over all directory versions in use."""
PEER_CERTIFICATE: Final = "x509_pem_cert"
"""gRPC's name for the peer's certificate in the authentication context."""

DirectorySource = Directory | Callable[[], Directory]
"""A directory, or what returns the one in force now (whose authorities are then followed)."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who is at the other end of a channel.

    Attributes:
        member: the directory's entry.
        spiffe_id: the identity in its certificate.
        certificate_sha256: SHA-256 of the DER certificate, 32 bytes, to which officer tokens
            are bound.
    """

    member: Member
    spiffe_id: str
    certificate_sha256: bytes


def server_credentials(
    cert_path: Path, key_path: Path, directory: DirectorySource
) -> grpc.ServerCredentials:
    """Return a server's credentials, read again whenever the files change.

    Args:
        cert_path: the certificate chain, PEM.
        key_path: its private key, PEM, mode 0600.
        directory: whose authorities vouch for clients.

    Raises:
        ProbegateError: ``FILE_MISSING``, ``KEY_FILE_INVALID`` or ``CERTIFICATE_INVALID`` if the
            files cannot be used now.
    """
    rotation = _Rotation(cert_path, key_path, directory)
    return grpc.dynamic_ssl_server_credentials(
        rotation.first(),
        rotation.latest,
        require_client_authentication=True,  # (1)
    )


def channel_credentials(cert_path: Path, key_path: Path, ca_pem: bytes) -> grpc.ChannelCredentials:
    """Return a client's credentials, as the files are now.

    Args:
        cert_path: the certificate chain, PEM.
        key_path: its private key, PEM, mode 0600.
        ca_pem: the scheme's authorities, ``Directory.ca_pem``.

    Raises:
        ProbegateError: ``FILE_MISSING``, ``KEY_FILE_INVALID`` or ``CERTIFICATE_INVALID``.
    """
    chain, key = _read_pair(cert_path, key_path)
    return grpc.ssl_channel_credentials(ca_pem, key, chain)


def peer_identity(
    auth_context: Mapping[str, Sequence[bytes]], directory: Directory
) -> PeerIdentity:
    """Return who is at the other end, from a servicer context's ``auth_context()``.

    Raises:
        ProbegateError: ``CERTIFICATE_INVALID``.
    """
    match list(auth_context.get(PEER_CERTIFICATE, ())):
        case [pem]:
            return _identify(bytes(pem), directory)
        case _:
            raise _nobody("no client certificate")


def certificate_fingerprint(path: Path) -> bytes:
    """Return SHA-256 of the first certificate in a PEM file, over its DER form, 32 bytes.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``CERTIFICATE_INVALID``.
    """
    return hashlib.sha256(_parse(files.read(path)).public_bytes(Encoding.DER)).digest()


class _Rotation:
    """Re-reads a certificate and key when their files, or the directory's authorities, change."""

    def __init__(self, cert_path: Path, key_path: Path, directory: DirectorySource) -> None:
        self._cert_path = cert_path
        self._key_path = key_path
        self._directory = directory
        self._seen: object = None

    def first(self) -> grpc.ServerCertificateConfiguration:
        """Return the configuration as the files are now, or raise."""
        ca_pem = self._ca_pem()
        self._seen = self._state(ca_pem)
        chain, key = _read_pair(self._cert_path, self._key_path)
        return grpc.ssl_server_certificate_configuration([(key, chain)], ca_pem)

    def latest(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a new configuration if there is a usable one; gRPC asks once a connection."""
        try:
            ca_pem = self._ca_pem()
            state = self._state(ca_pem)
            if state == self._seen:
                return None
            chain, key = _read_pair(self._cert_path, self._key_path)
        except (ProbegateError, OSError):  # (3)
            return None
        self._seen = state
        return grpc.ssl_server_certificate_configuration([(key, chain)], ca_pem)

    def _ca_pem(self) -> bytes:
        directory = self._directory if isinstance(self._directory, Directory) else self._directory()
        return directory.ca_pem

    def _state(self, ca_pem: bytes) -> object:
        return ca_pem, _stamp(self._cert_path), _stamp(self._key_path)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _read_pair(cert_path: Path, key_path: Path) -> tuple[bytes, bytes]:
    require_private(key_path)
    chain, key = files.read(cert_path), files.read(key_path)
    if not pki.key_matches(chain, key):
        raise _nobody(f"{key_path.name} is not the key of {cert_path.name}")
    return chain, key


@lru_cache(maxsize=MAX_CACHED_PEERS)
def _identify(pem: bytes, directory: Directory) -> PeerIdentity:
    # Cached by the certificate and by the directory object, which is a new one for each version.
    certificate = _parse(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise _nobody("no readable subject alternative names") from None
    match names.get_values_for_type(x509.UniformResourceIdentifier):
        case [spiffe_id]:  # (2)
            member = directory.by_spiffe(spiffe_id)
        case uris:
            raise _nobody(f"{len(uris)} URI names, not one")
    if member is None:
        raise _nobody("an identity that is not in the directory")
    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return PeerIdentity(member, spiffe_id, digest)


def _parse(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise _nobody("not a certificate") from None


def _nobody(why: str) -> ProbegateError:
    return ProbegateError(Reason.CERTIFICATE_INVALID, why)
