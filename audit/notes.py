"""C2SP signed notes: text with signatures, and the keys that make them.

A note is text ending in a newline, a blank line, and one signature line per key:
``— <name> <base64(key id || signature)>``.

The rules (c2sp.org/signed-note), as numbered in the code:

1. Note text is UTF-8, ends in a newline and holds no control character but newline.
2. The last blank line separates text from signatures; every line after it must be one.
3. A key's id is the first four bytes of SHA-256(name, newline, type byte, public key).
4. A signature by an unknown ``(name, key id)`` is ignored.
5. A known ``(name, key id)`` whose signature does not verify condemns the whole note.
6. A note without any verified signature is refused.
7. Base64 is canonical with padding: each note and key has one spelling.

Ed25519 (type 0x01) signs the text itself; cosignature/v1 (type 0x04) signs a timestamp and the
text. Private keys stay behind ``NoteSigner``.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import sha256
from typing import Final, Protocol

from audit.settings import NOTE_MAX_BYTES, NOTE_MAX_SIGNATURES
from trust.directory import MemberKey
from trust.ed25519 import PUBLIC_KEY_BYTES, is_valid
from trust.errors import ProbegateError, Reason

KEY_ID_BYTES: Final = 4
TIMESTAMP_BYTES: Final = 8
TIMESTAMP_MAX: Final = 2**63 - 1
_GOOD_MAX: Final = 1024
"""Good signatures that are remembered, of about 300 bytes each."""
_SPLIT_MAX: Final = 256
"""Notes that are remembered with their parts, of at most twice ``NOTE_MAX_BYTES`` each."""
_DASH: Final = "\u2014 "
_FIRST_PRINTABLE: Final = 0x20


class SignatureType(IntEnum):
    """The signature algorithms that are read; their byte is part of a key."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04


class NoteSigner(Protocol):
    """A key that signs notes, wherever it lives."""

    @property
    def name(self) -> str:
        """The key's name; for a log, its origin."""

    @property
    def key_id(self) -> bytes:
        """Four bytes."""

    @property
    def public_key(self) -> bytes:
        """The raw Ed25519 public key, 32 bytes."""

    def sign(self, message: bytes, /) -> bytes:
        """Return the raw Ed25519 signature, 64 bytes."""


@dataclass(frozen=True, slots=True)
class _CallableSigner:
    name: str
    key_id: bytes
    public_key: bytes
    sign: Callable[[bytes], bytes]


def note_signer(
    name: str,
    sign: Callable[[bytes], bytes],
    public_key: bytes,
    kind: SignatureType = SignatureType.ED25519,
) -> NoteSigner:
    """Make a signer of a function, so that a key can be a file, a PKCS#11 token or a KMS.

    Raises:
        ProbegateError: CONFIG_INVALID for an unusable name or public key.
    """
    if not _is_name(name) or len(public_key) != PUBLIC_KEY_BYTES:
        raise ProbegateError(Reason.CONFIG_INVALID, detail="note signer's name or public key")
    return _CallableSigner(name, key_id(name, kind, public_key), public_key, sign)


def key_id(name: str, kind: SignatureType, public_key: bytes) -> bytes:
    """Return the four-byte key id."""
    named = name.encode() + b"\n" + bytes([kind]) + public_key
    return sha256(named).digest()[:KEY_ID_BYTES]  # (3)


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: ``name+hex(key id)+base64(type || key)``."""

    name: str
    kind: SignatureType
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes."""
        return _cached_key_id(self.name, self.kind, self.public_key)

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def of(cls, signer: NoteSigner) -> VerifierKey:
        """Return the public half of a signer of either type."""
        for kind in SignatureType:
            key = cls(signer.name, kind, signer.public_key)
            if key.key_id == signer.key_id:
                return key
        raise ProbegateError(Reason.CONFIG_INVALID, detail="the signer's key id fits no type")

    @classmethod
    def listed(cls, key: MemberKey) -> VerifierKey:
        """Return a log or witness key as the directory lists it.

        Raises:
            ProbegateError: KEY_UNKNOWN for a key that signs no notes.
        """
        if key.name is None:
            raise ProbegateError(Reason.KEY_UNKNOWN, detail=f"{key.kid} signs no notes")
        return cls(key.name, SignatureType.ED25519, key.public_bytes)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read a vkey.

        Raises:
            ProbegateError: CHECKPOINT_INVALID if it is malformed, of an unknown type, or its id
                is not its key's.
        """
        parts = text.split("+", 2)  # the base64 part may hold "+" itself
        if len(parts) != 3 or not _is_name(parts[0]):  # noqa: PLR2004 - name, id, key
            raise _refused("a vkey is name+id+key")
        raw = decode_base64(parts[2])
        if len(raw) != 1 + PUBLIC_KEY_BYTES or raw[0] not in set(SignatureType):
            raise _refused("the vkey's type is unknown or its length wrong")
        key = cls(parts[0], SignatureType(raw[0]), raw[1:])
        if parts[1] != key.key_id.hex():
            raise _refused("the vkey's id is not its key's")
        return key


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line; ``timestamp`` (Unix seconds) only of a cosignature."""

    key: VerifierKey
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note with at least one good signature; ``text`` ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]


def sign_note(text: str, signers: Sequence[NoteSigner]) -> bytes:
    """Return ``text`` (ending in a newline) signed by each Ed25519 (0x01) signer."""
    message = text.encode()
    lines = [signature_line(one.name, one.key_id + one.sign(message)) for one in signers]
    return f"{text}\n{''.join(lines)}".encode()


def cosign(note: bytes, signer: NoteSigner, timestamp: int) -> bytes:
    """Return the cosignature/v1 line over a checkpoint note, to be appended to it.

    Args:
        note: the signed checkpoint; its earlier signatures are not covered.
        signer: of type COSIGNATURE_V1.
        timestamp: Unix seconds.
    """
    text, _ = split_note(note)
    signature = signer.sign(_cosigned(text, timestamp))
    payload = signer.key_id + timestamp.to_bytes(TIMESTAMP_BYTES, "big") + signature
    return signature_line(signer.name, payload).encode()


def open_note(note: bytes, keys: Iterable[VerifierKey]) -> OpenedNote:
    """Return the text and the verified signatures of ``note``.

    Raises:
        ProbegateError: CHECKPOINT_INVALID.
    """
    known = {(key.name, key.key_id): key for key in keys}
    text, lines = split_note(note)
    good = []
    for name, payload in lines:
        key = known.get((name, payload[:KEY_ID_BYTES]))
        if key is None:
            continue  # (4)
        good.append(_verified(key, text, payload[KEY_ID_BYTES:]))  # (5)
    if not good:
        raise _refused("no signature by a known key")  # (6)
    return OpenedNote(text, tuple(good))


@lru_cache(maxsize=_SPLIT_MAX)
def split_note(note: bytes) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """Return the text and the signature lines as ``(name, key id || signature)``, unverified.

    Whoever opens a note mostly embeds or cosigns it next, so the newest are remembered.

    Raises:
        ProbegateError: CHECKPOINT_INVALID, and nothing is remembered.
    """
    if len(note) > NOTE_MAX_BYTES:
        raise _refused("the note is too long")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("the note is not UTF-8") from None
    if min(whole.replace("\n", ""), default=" ") < chr(_FIRST_PRINTABLE):  # (1)
        raise _refused("the note holds a control character")
    text, blank, tail = whole.rpartition("\n\n")  # (2)
    if not blank or not tail.endswith("\n"):
        raise _refused("the note has no signatures")
    lines = tail[:-1].split("\n")
    if len(lines) > NOTE_MAX_SIGNATURES:
        raise _refused("the note has too many signatures")
    return text + "\n", tuple([_parse_line(line) for line in lines])


def decode_base64(text: str) -> bytes:
    """Decode canonical base64 with padding.

    Raises:
        ProbegateError: CHECKPOINT_INVALID.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("malformed base64") from None
    if base64.b64encode(raw).decode() != text:
        raise _refused("base64 in another spelling")  # (7)
    return raw


def _parse_line(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not _is_name(name):
        raise _refused("malformed signature line")
    payload = decode_base64(encoded)
    if len(payload) <= KEY_ID_BYTES:
        raise _refused("a signature is too short")
    return name, payload


def _verified(key: VerifierKey, text: str, signature: bytes) -> Signature:
    timestamp = None
    message = text.encode()
    if key.kind is SignatureType.COSIGNATURE_V1:
        timestamp = int.from_bytes(signature[:TIMESTAMP_BYTES], "big")
        signature = signature[TIMESTAMP_BYTES:]
        if timestamp > TIMESTAMP_MAX:
            raise _refused("a cosignature's time is out of range")
        message = _cosigned(text, timestamp)
    _require_good(key.public_key, signature, message)
    return Signature(key, timestamp)


@lru_cache(maxsize=_GOOD_MAX)
def _require_good(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Verify a signature, once: a commit serves many searches, and each shows its checkpoint.

    Raises:
        ProbegateError: CHECKPOINT_INVALID, and nothing is remembered.
    """
    if not is_valid(public_key, signature, message):
        raise _refused("a known key's signature does not verify")


def _cosigned(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def signature_line(name: str, payload: bytes) -> str:
    """Return one line of a note's signatures, for a key's id and what it signed."""
    return f"{_DASH}{name} {binascii.b2a_base64(payload).decode()}"  # it ends in a newline


def _is_name(name: str) -> bool:
    if not name:
        return False
    if name.isascii():  # nearly all are, and each answer of an agency brings some
        return name.isprintable() and not {" ", "+"}.intersection(name)
    return not any(
        one == "+" or one.isspace() or unicodedata.category(one) in {"Cc", "Zs", "Zl", "Zp"}
        for one in name
    )


_cached_key_id = lru_cache(maxsize=256)(key_id)


def _refused(why: str) -> ProbegateError:
    return ProbegateError(Reason.CHECKPOINT_INVALID, detail=why)
