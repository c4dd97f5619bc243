"""Private keys behind two small protocols, and the file-backed keys of today.

The rules:

1. Nothing outside this module sees a private key: others hold a ``Signer`` or an ``Opener``, which
   a PKCS#11 token or a key-management service can implement as well as a file.
2. A key's id is derived from its algorithm and public bytes (``trust.algorithms.key_id``), so that
   nobody can list another's key id over a key of their own.
3. A private key file that anybody but its owner can read is refused, not warned about.
4. An existing key file is never overwritten.
5. A private key never prints: ``repr`` shows the key id alone.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Final, Protocol, Self, runtime_checkable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from trust import ed25519, files, sealing
from trust.algorithms import Algorithm, key_id
from trust.errors import ProbegateError, Reason

PEM_BLOCK: Final = re.compile(
    rb"-----BEGIN PRIVATE KEY-----.+?-----END PRIVATE KEY-----\n?", re.DOTALL
)

PemKey = Ed25519PrivateKey | X25519PrivateKey | MLKEM768PrivateKey


@runtime_checkable
class Signer(Protocol):
    """Something that signs as one key."""

    @property
    def kid(self) -> str:
        """The key's id in the directory."""

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over ``data``."""


@runtime_checkable
class Opener(Protocol):
    """Something that opens what was sealed to one key."""

    @property
    def kid(self) -> str:
        """The key's id in the directory."""

    @property
    def suite(self) -> str:
        """The key's algorithm, a value of ``trust.algorithms.Algorithm``."""

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            ProbegateError: ``SEAL_INVALID`` whatever was wrong.
        """


class FileSigner:
    """An Ed25519 private key in a PKCS#8 PEM file.

    Attributes:
        kid: the key's id.
        public_key: the raw public key, 32 bytes.
        algorithm: always Ed25519.
    """

    __slots__ = ("_private", "kid", "public_key")
    algorithm: Final = Algorithm.ED25519

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = ed25519.SigningKey(private)
        self.public_key: bytes = self._private.public_key
        self.kid: str = key_id(Algorithm.ED25519, self.public_key)  # (2)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the key.

        Raises:
            ProbegateError: ``FILE_MISSING``, or ``KEY_FILE_INVALID`` for another kind of file or
                one that others can read.
        """
        match _read_private(path):
            case [Ed25519PrivateKey() as private]:
                return cls(private)
            case _:
                raise _invalid(path, "not one Ed25519 private key")

    @classmethod
    def generate(cls, path: Path) -> Self:
        """Make a new key and write it, readable by its owner alone.

        Raises:
            ProbegateError: ``FILE_EXISTS`` if there is a file already.
        """
        private = Ed25519PrivateKey.generate()
        files.write_private(path, _pem(private))  # (4)
        return cls(private)

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over ``data``."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"FileSigner(kid={self.kid!r})"  # (5)


class FileOpener:
    """An HPKE private key in a PEM file: X25519, or ML-KEM-768 and X25519 one after the other.

    Attributes:
        kid: the key's id.
        public_key: the raw public key, 32 bytes, or 1,216 for the hybrid.
        algorithm: which of the sealing suites the key is for.
    """

    __slots__ = ("_private", "algorithm", "kid", "public_key")

    def __init__(self, x25519: X25519PrivateKey, mlkem: MLKEM768PrivateKey | None = None) -> None:
        self.public_key: bytes = x25519.public_key().public_bytes_raw()
        self.algorithm: Algorithm = Algorithm.X25519
        self._private: sealing.PrivateSealingKey = x25519
        if mlkem is not None:
            self.public_key = mlkem.public_key().public_bytes_raw() + self.public_key
            self.algorithm = Algorithm.MLKEM768_X25519
            self._private = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.kid: str = key_id(self.algorithm, self.public_key)  # (2)

    @property
    def suite(self) -> str:
        """The sealing suite's name."""
        return self.algorithm.value

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the key.

        Raises:
            ProbegateError: ``FILE_MISSING``, or ``KEY_FILE_INVALID`` for another kind of file or
                one that others can read.
        """
        match _read_private(path):
            case [X25519PrivateKey() as x25519]:
                return cls(x25519)
            case [MLKEM768PrivateKey() as mlkem, X25519PrivateKey() as x25519]:
                return cls(x25519, mlkem)
            case _:
                raise _invalid(path, "not a sealing key")

    @classmethod
    def generate(cls, path: Path, suite: Algorithm = Algorithm.X25519) -> Self:
        """Make a new key of a sealing suite and write it, readable by its owner alone.

        Raises:
            ProbegateError: ``FILE_EXISTS`` if there is a file already; ``KEY_FILE_INVALID`` if
                the suite does not seal.
        """
        x25519 = X25519PrivateKey.generate()
        match suite:
            case Algorithm.X25519:
                mlkem, pem = None, _pem(x25519)
            case Algorithm.MLKEM768_X25519:
                mlkem = MLKEM768PrivateKey.generate()
                pem = _pem(mlkem) + _pem(x25519)
            case _:
                raise _invalid(path, f"{suite} does not seal")
        files.write_private(path, pem)  # (4)
        return cls(x25519, mlkem)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            ProbegateError: ``SEAL_INVALID`` whatever was wrong.
        """
        return sealing.open_sealed(sealed, self.algorithm, self._private, info)

    def __repr__(self) -> str:
        return f"FileOpener(kid={self.kid!r}, suite={self.suite!r})"  # (5)


def require_private(path: Path) -> None:
    """Refuse a file that anybody but its owner can read (rule 3).

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``KEY_FILE_INVALID``.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ProbegateError(
            Reason.FILE_MISSING, f"{path}: {error.strerror}", file=path.name
        ) from None
    if stat.S_IMODE(mode) & files.OTHERS_MAY_READ:
        raise _invalid(path, f"mode {stat.S_IMODE(mode):04o} lets others read it; set 0600")


def _read_private(path: Path) -> list[object]:
    require_private(path)  # (3)
    try:
        return [load_pem_private_key(block, None) for block in PEM_BLOCK.findall(files.read(path))]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _invalid(path, "not a PKCS#8 PEM private key") from None


def _pem(private: PemKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _invalid(path: Path, why: str) -> ProbegateError:
    return ProbegateError(Reason.KEY_FILE_INVALID, f"{path}: {why}", file=path.name)
