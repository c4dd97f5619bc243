"""The body of ``add-checkpoint``, as a log writes it and a witness reads it.

The rules (c2sp.org/tlog-witness), as numbered in the code:

1. ``old <size>``, then consistency hashes in base64, one a line and at most 63, then an empty line,
   then the signed checkpoint to the last byte. Every line ends in a newline.
2. A number has one spelling: decimal, no leading zero.
3. The checkpoint has three lines (``audit.checkpoints``). An empty tree with a root that is not the
   empty tree's is read all the same: whether its signature holds is judged before its proof.

Pure; what comes from a stranger is refused as MESSAGE_INVALID, whatever is wrong with it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit.checkpoints import SIZE_MAX, Checkpoint
from audit.merkle import EMPTY_ROOT, HASH_BYTES
from audit.notes import decode_base64, split_note
from trust.errors import ProbegateError, Reason

PATH: Final = "/add-checkpoint"
PROOF_MAX_HASHES: Final = 63
"""Hashes in one consistency proof; a tree of 2 ** 63 entries needs no more."""
SIZE_TYPE: Final = "text/x.tlog.size"
"""Content type of a 409's body, which is the witness's size and a newline."""
_OLD: Final = "old "
_DIGITS: Final = len(str(SIZE_MAX))


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """One request: a checkpoint, its note, and a proof from the tree of ``old`` entries."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes
    checkpoint: Checkpoint


def format_request(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return the body that asks a witness for its cosignature."""
    hashes = "".join(f"{base64.b64encode(one).decode()}\n" for one in proof)
    return f"{_OLD}{old}\n{hashes}\n".encode() + note


def parse_request(body: bytes) -> AddCheckpoint:
    """Read a body; nothing about it is verified yet.

    Raises:
        ProbegateError: MESSAGE_INVALID.
    """
    head, blank, note = body.partition(b"\n\n")
    try:
        first, *hashes = head.decode("ascii").split("\n")
        if not blank or not first.startswith(_OLD) or len(hashes) > PROOF_MAX_HASHES:
            raise _refused("not an old size, at most 63 hashes and a note")  # (1)
        old = parse_size(first.removeprefix(_OLD))
        proof = tuple(decode_base64(one) for one in hashes)
        checkpoint = _checkpoint(split_note(note)[0])
    except UnicodeDecodeError:
        raise _refused("not ASCII") from None
    except ProbegateError as error:
        raise _refused(error.detail) from None
    if any(len(one) != HASH_BYTES for one in proof):
        raise _refused("a hash is not 32 bytes")
    return AddCheckpoint(old, proof, note, checkpoint)


def parse_size(text: str) -> int:
    """Read a tree size in its one spelling (2).

    Raises:
        ProbegateError: MESSAGE_INVALID.
    """
    usual = text.isascii() and text.isdigit() and len(text) <= _DIGITS
    if not usual or str(int(text)) != text or int(text) > SIZE_MAX:
        raise _refused("malformed size")
    return int(text)


def _checkpoint(text: str) -> Checkpoint:
    origin, _, rest = text.partition("\n")
    size, _, root = rest.partition("\n")
    if size == "0" and origin:  # (3)
        Checkpoint.parse(f"{origin}\n1\n{root}")
        return Checkpoint(origin, 0, decode_base64(root.removesuffix("\n")))
    return Checkpoint.parse(text)


def is_wrongly_empty(checkpoint: Checkpoint) -> bool:
    """Whether an empty tree is claimed to have another root than the empty tree's."""
    return checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT


def _refused(why: str) -> ProbegateError:
    return ProbegateError(Reason.MESSAGE_INVALID, why)
