"""C2SP ``.tlog-proof``: an entry's place in a log as a text that verifies offline."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit.checkpoints import SIZE_MAX, SignedCheckpoint, open_checkpoint
from audit.merkle import leaf_hash, verify_inclusion
from audit.notes import VerifierKey, decode_base64
from audit.settings import NOTE_MAX_BYTES
from trust.errors import ProbegateError, Reason

HEADER: Final = "c2sp.org/tlog-proof@v1"
PROOF_MAX_HASHES: Final = 63
_INDEX: Final = "index "
_EXTRA: Final = "extra "


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed proof; nothing in it is verified yet."""

    index: int
    hashes: tuple[bytes, ...]
    note: bytes


def format_proof(index: int, hashes: Sequence[bytes], note: bytes) -> str:
    """Return the proof of entry ``index`` under the signed checkpoint ``note``."""
    lines = [HEADER, f"{_INDEX}{index}", *(base64.b64encode(one).decode() for one in hashes)]
    return "\n".join(lines) + "\n\n" + note.decode()


def parse_proof(text: str) -> TlogProof:
    """Read a proof. Its unauthenticated ``extra`` line, if any, is dropped.

    Raises:
        ProbegateError: LOG_PROOF_INVALID.
    """
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != HEADER or len(note.encode()) > NOTE_MAX_BYTES:
        raise _refused("not a tlog-proof")
    if lines and lines[0].startswith(_EXTRA):
        _hash(lines.pop(0).removeprefix(_EXTRA))
    number = lines.pop(0).removeprefix(_INDEX) if lines and lines[0].startswith(_INDEX) else ""
    if not number.isascii() or not number.isdigit() or len(number) > len(str(SIZE_MAX)):
        raise _refused("the proof has no index")
    if number != str(int(number)) or len(lines) > PROOF_MAX_HASHES:
        raise _refused("malformed index, or too many hashes")
    return TlogProof(int(number), tuple(map(_hash, lines)), note.encode())


def verify_receipt(
    text: str, vkeys: Sequence[VerifierKey], leaf: bytes, origin: str | None = None
) -> SignedCheckpoint:
    """Check that ``leaf`` is in the log that holds one of ``vkeys``; return the checkpoint.

    Args:
        text: the ``.tlog-proof``.
        vkeys: the log's keys, from the directory or a policy file, never from the receipt.
        leaf: the entry's exact bytes.
        origin: the log it must be; by default the one named like the signing key.

    Raises:
        ProbegateError: LOG_PROOF_INVALID; CHECKPOINT_INVALID.
    """
    proof = parse_proof(text)
    signed = open_checkpoint(proof.note, vkeys, origin)
    checkpoint = signed.checkpoint
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)
    return signed


def _hash(line: str) -> bytes:
    try:
        return decode_base64(line)
    except ProbegateError as error:
        raise _refused(error.detail) from None


def _refused(why: str) -> ProbegateError:
    return ProbegateError(Reason.LOG_PROOF_INVALID, detail=why)
