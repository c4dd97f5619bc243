"""Whether a log's checkpoint is witnessed as a policy file asks.

The rules, as numbered in the code:

1. The key that the log is verified with is one that the policy lists; the log's folder has no say.
2. Cosignatures are taken from the log's checkpoint and from the notes that
   ``probegate audit witness push`` keeps beside it, for each signed text apart: witnesses that
   signed different checkpoints do not add up.
3. The newest checkpoint that satisfies the quorum counts. One that is smaller than the log's is
   believed if its root is the root of so many first entries of this very log; one that is not is
   a second history: CHECKPOINT_INCONSISTENT.
"""

from __future__ import annotations

from pathlib import Path

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.cosignatures import merged
from audit.folder import LogFolder
from audit.log_source import LogSource, node_reader
from audit.merkle import range_hash
from audit.notes import VerifierKey, split_note
from audit.policy_file import LogPolicy, Satisfaction
from audit.witness_push import STORE_FOLDER, WitnessedStore
from trust.errors import ProbegateError, Reason


def listed_key(folder: Path, policy: LogPolicy) -> VerifierKey:
    """Return the policy's key that signed a log folder's checkpoint (1).

    Raises:
        ProbegateError: ``FILE_MISSING``; ``CHECKPOINT_INVALID`` if none of them did.
    """
    note = LogFolder(folder).checkpoint()
    origin = Checkpoint.parse(split_note(note)[0]).origin
    for key in policy.log_keys(origin):
        try:
            open_checkpoint(note, [key], origin)
        except ProbegateError:
            continue
        return key
    raise ProbegateError(Reason.CHECKPOINT_INVALID, "not signed by a log of the policy file")


def witnessed(folder: Path, policy: LogPolicy, key: VerifierKey) -> Satisfaction:
    """Return the newest checkpoint of a log's folder that the policy is satisfied with.

    If there is none, what is returned says who is missing on the newest one.

    Raises:
        ProbegateError: ``CHECKPOINT_INVALID``, ``CHECKPOINT_INCONSISTENT``, or a fault of a tile.
    """
    files = LogFolder(folder)
    newest = open_checkpoint(files.checkpoint(), [key]).checkpoint
    notes = [files.checkpoint(), *WitnessedStore(folder / STORE_FOLDER).notes()]
    found = [policy.satisfied(note, [key]) for note in merged(notes)]  # (2)
    for one in found:
        _require_prefix(files, one.checkpoint, newest)  # (3)
    return max(found, key=lambda one: (one.holds, one.checkpoint.size, len(one.signed)))


def _require_prefix(source: LogSource, old: Checkpoint, new: Checkpoint) -> None:
    same = old.origin == new.origin and old.size <= new.size
    if not same or range_hash(node_reader(source, new.size), 0, old.size) != old.root:
        raise ProbegateError(
            Reason.CHECKPOINT_INCONSISTENT, f"a witnessed checkpoint of size {old.size}"
        )
