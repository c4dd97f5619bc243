"""C2SP tlog-checkpoint: what a log signs, as three lines of text.

Origin, size in decimal, root in base64. Extension lines are neither written nor read: some
witnesses cosign only three lines, so a fourth could differ between two readers unseen.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from audit.merkle import EMPTY_ROOT, HASH_BYTES
from audit.notes import NoteSigner, SignatureType, VerifierKey, decode_base64, open_note, sign_note
from trust.errors import ProbegateError, Reason

SIZE_MAX: Final = 2**53 - 1
"""Largest tree that is read, entries. A witness records sizes of others' trees in RFC 8785 JSON,
which holds no larger integer, and what could not be recorded must not be accepted."""
_LINES: Final = 3
_PARSED_MAX: Final = 256
"""Checkpoints remembered in the form in which they were read."""
_SIZE_DIGITS: Final = len(str(SIZE_MAX))


class Checkpoint(NamedTuple):
    """The state of a log: its name, its number of entries, and its root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the note text."""
        root = binascii.b2a_base64(self.root).decode()  # it ends in a newline
        return f"{self.origin}\n{self.size}\n{root}"

    @staticmethod
    def parse(text: str) -> Checkpoint:
        """Read note text; the newest are remembered, for whoever opens one mostly embeds it next.

        Raises:
            ProbegateError: CHECKPOINT_INVALID, and nothing is remembered.
        """
        return _parsed(text)


@lru_cache(maxsize=_PARSED_MAX)
def _parsed(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != _LINES + 1 or lines[-1]:
        raise _refused("a checkpoint has three lines")
    origin, size, root = lines[:_LINES]
    digits = size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS
    if not origin or not digits or str(int(size)) != size or int(size) > SIZE_MAX:
        raise _refused("malformed origin or size")
    raw = decode_base64(root)
    if len(raw) != HASH_BYTES or (int(size) == 0 and raw != EMPTY_ROOT):
        raise _refused("the root is not a hash of this size of tree")
    return Checkpoint(origin, int(size), raw)


class SignedCheckpoint(NamedTuple):
    """A checkpoint and the exact bytes that carry its signatures."""

    note: bytes
    checkpoint: Checkpoint


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> SignedCheckpoint:
    """Sign as the log (Ed25519, type 0x01)."""
    return SignedCheckpoint(sign_note(checkpoint.text(), [signer]), checkpoint)


def open_checkpoint(
    note: bytes, keys: Iterable[VerifierKey], origin: str | None = None
) -> SignedCheckpoint:
    """Verify a checkpoint signed by the log itself.

    Args:
        note: the signed note.
        keys: the log's keys; at least one Ed25519 (0x01) one must have signed, a witness's
            cosignature does not stand in for it.
        origin: the log it must be of; by default any log whose origin is the signing key's name.

    Raises:
        ProbegateError: CHECKPOINT_INVALID.
    """
    opened = open_note(note, keys)
    names = {one.key.name for one in opened.signatures if one.key.kind is SignatureType.ED25519}
    checkpoint = Checkpoint.parse(opened.text)
    if not names:
        raise _refused("not signed by the log")
    if checkpoint.origin != origin and (origin is not None or checkpoint.origin not in names):
        raise _refused("a checkpoint of another log")
    return SignedCheckpoint(note, checkpoint)


def _refused(why: str) -> ProbegateError:
    return ProbegateError(Reason.CHECKPOINT_INVALID, detail=why)
