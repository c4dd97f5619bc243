"""Another log's checkpoint inside an entry, so that this log alone holds the other to it.

1. What is embedded is all that was signed and who signed it: origin, size, root and signature.
   From it the signed note is made again, byte for byte, without any other file.
2. It has one signature, the log's own. Witnesses' lines are left out: they would make entries long,
   and the log is bound without them. A note with several lines in the log's own name is refused,
   so that what is embedded does not depend on a choice.
3. Reading it verifies the signature: a checkpoint that nobody signed binds nobody.

Earlier versions embedded a digest, or what was signed without the signature. Such entries still
verify; they hold the other log to nothing that a stranger can show.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from audit.leaves import JsonValue
from audit.notes import (
    KEY_ID_BYTES,
    VerifierKey,
    decode_base64,
    signature_line,
    split_note,
)
from trust.directory import Directory, KeyUse
from trust.ed25519 import SIGNATURE_BYTES
from trust.errors import ProbegateError, Reason

SEARCH_LOG_SUFFIX: Final = "/search"
"""The end of a search log's origin, by which it is told from the admin log."""


def search_log_keys(directory: Directory, member: str, at: datetime) -> tuple[VerifierKey, ...]:
    """Return the keys of a member's search log that are valid at an instant, the newest first."""
    return tuple(
        VerifierKey.listed(key)
        for key in directory.keys(member, KeyUse.LOG, at)
        if key.name is not None and key.name.endswith(SEARCH_LOG_SUFFIX)
    )


def embed(note: bytes) -> dict[str, JsonValue]:
    """Return a signed checkpoint as an entry holds it (1).

    Args:
        note: of which the log's own signature is verified by whoever embeds or reads it.

    Raises:
        ProbegateError: ``CHECKPOINT_INVALID`` if it is no checkpoint, or has not exactly one
            signature in the log's own name (2).
    """
    text, lines = split_note(note)
    checkpoint = Checkpoint.parse(text)
    own = [payload for name, payload in lines if name == checkpoint.origin]
    if len(own) != 1 or len(own[0]) != KEY_ID_BYTES + SIGNATURE_BYTES:
        raise _refused("not one signature in the log's own name")
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "signature": base64.b64encode(own[0]).decode(),
    }


def note_of(said: Mapping[str, Any]) -> bytes:
    """Return the signed note that an entry embeds.

    Raises:
        ProbegateError: ``CHECKPOINT_INVALID`` if it is not of that form.
    """
    match said:
        case {"origin": str(origin), "size": int(size), "root": str(root), "signature": str(line)}:
            pass
        case _:
            raise _refused("not an embedded checkpoint")
    try:
        checkpoint = Checkpoint(origin, size, bytes.fromhex(root))
        note = (checkpoint.text() + "\n" + signature_line(origin, decode_base64(line))).encode()
        same = embed(note) == dict(said)
    except (ValueError, UnicodeEncodeError):
        same = False
    if not same:
        raise _refused("not an embedded checkpoint")
    return note


def open_embedded(said: Mapping[str, Any], keys: Iterable[VerifierKey]) -> SignedCheckpoint:
    """Return an embedded checkpoint, verified (3).

    Args:
        said: what the entry holds.
        keys: the log's keys.

    Raises:
        ProbegateError: ``CHECKPOINT_INVALID``.
    """
    return open_checkpoint(note_of(said), keys)


def is_signed(said: Mapping[str, Any]) -> bool:
    """Whether an entry claims to hold a signature; earlier versions wrote none."""
    return "signature" in said


def _refused(why: str) -> ProbegateError:
    return ProbegateError(Reason.CHECKPOINT_INVALID, detail=why)
