"""A log's side of witnessing: submit its checkpoint, keep what the witness signed, catch it lying.

The rules, as numbered in the code:

1. The checkpoint must be signed by one of the log's keys, and must extend what this witness is
   known to have cosigned: CHECKPOINT_INCONSISTENT otherwise, before anything is sent.
2. The first attempt states the size that this witness last cosigned for us. A witness that then
   names a smaller one (409) has lost or rolled back its memory, and might cosign another history:
   WITNESS_ROLLED_BACK, and nothing more is asked of it.
3. A witness that names a larger one has heard of the log from elsewhere; the proof is made again
   from there. If that is more than this copy of the log holds: CHECKPOINT_INCONSISTENT.
4. A cosignature counts if it verifies over this very checkpoint under the witness's known key;
   lines by other keys are ignored. CHECKPOINT_INVALID if there is none, and for an answer that
   makes another note of it.
5. Each witness's newest cosigned note is a file of its own, replaced as a whole; all of them
   brought together are the file ``checkpoint`` beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from audit.add_checkpoint import PATH, format_request, parse_size
from audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from audit.cosignatures import merged, only_signed_by
from audit.log_source import LogSource, call, log_source, node_reader
from audit.merkle import consistency_proof, verify_consistency
from audit.notes import VerifierKey, open_note, split_note
from audit.policy_file import KnownWitness, LogPolicy
from audit.settings import NOTE_MAX_BYTES
from audit.tiles import CHECKPOINT_FILE
from trust import files
from trust.errors import ProbegateError, Reason

ATTEMPTS: Final = 3
"""Requests to one witness in one push: the memory of both sides may move meanwhile."""
STORE_FOLDER: Final = "witnessed"
"""Where cosigned notes are kept, in the log's own folder unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A cosignature that was obtained: whose, over what, and when it says so (Unix seconds)."""

    witness: str
    checkpoint: Checkpoint
    timestamp: int


class WitnessedStore:
    """The cosigned notes of one log, in a folder (5)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def last(self, logs: Sequence[VerifierKey], witness: VerifierKey) -> Checkpoint | None:
        """Return the checkpoint that a witness last cosigned for us.

        Raises:
            ProbegateError: ``CHECKPOINT_INVALID`` if the file is not what was kept.
        """
        path = self._path(witness)
        if not path.exists():
            return None
        note = files.read(path)
        signed = open_checkpoint(note, [*logs, witness])
        if witness not in {one.key for one in open_note(note, [*logs, witness]).signatures}:
            raise ProbegateError(Reason.CHECKPOINT_INVALID, f"{path.name}: not cosigned")
        return signed.checkpoint

    def keep(self, witness: VerifierKey, note: bytes) -> None:
        """Replace a witness's note, and the collection for its checkpoint.

        Raises:
            ProbegateError: ``DISK_FULL`` or ``FILE_UNWRITABLE``.
        """
        files.write_atomic(self._path(witness), note)
        text = split_note(note)[0]
        for one in merged(self.notes()):
            if split_note(one)[0] == text:
                files.write_atomic(self._folder / CHECKPOINT_FILE, one)

    def notes(self) -> list[bytes]:
        """Return every witness's newest note."""
        return [
            files.read(path)
            for path in sorted(self._folder.glob("*"))
            if path.is_file() and path.name != CHECKPOINT_FILE
        ]

    def _path(self, witness: VerifierKey) -> Path:
        return self._folder / witness.key_id.hex()


def push(
    source: LogSource,
    logs: Sequence[VerifierKey],
    witness: KnownWitness,
    store: WitnessedStore,
    ca_file: Path | None = None,
) -> Pushed:
    """Have a witness cosign a log's newest checkpoint.

    Args:
        source: the log.
        logs: the keys that may have signed it.
        witness: whom to ask; its address is its submission prefix.
        store: what it has cosigned before.
        ca_file: authorities to trust for HTTPS instead of the system's.

    Raises:
        ProbegateError: as in the rules; ``KEY_UNKNOWN`` if the witness does not take this log;
            ``SERVICE_UNREACHABLE`` if it does not answer, or not as the protocol says.
    """
    last = store.last(logs, witness.vkey)
    old = last.size if last else 0
    for _ in range(ATTEMPTS):
        signed = open_checkpoint(source.checkpoint(), logs)
        proof = _proof(source, signed.checkpoint, old, last)
        note = only_signed_by(signed.note, logs)
        url = witness.url.rstrip("/") + PATH
        body = format_request(old, proof, note)
        status, answer = call("POST", url, body, most=NOTE_MAX_BYTES, ca_file=ca_file)
        if status == HTTPStatus.OK:
            return _kept(SignedCheckpoint(note, signed.checkpoint), answer, witness, logs, store)
        if status != HTTPStatus.CONFLICT:
            raise _refusal(status)
        old = _named(answer)
        if last and old < last.size:  # (2)
            raise ProbegateError(
                Reason.WITNESS_ROLLED_BACK,
                f"it cosigned size {last.size} and now remembers {old}",
                witness=witness.vkey.name,
            )
    raise ProbegateError(Reason.SERVER_BUSY, "the witness's size kept changing")


def push_to_all(
    log: str,
    policy: LogPolicy,
    store: WitnessedStore,
    names: Collection[str] = (),
    ca_file: Path | None = None,
) -> tuple[list[Pushed], list[tuple[str, ProbegateError]]]:
    """Ask every witness of a policy that has an address, or those named, one after the other.

    Returns what was obtained, and who refused or could not be asked and why.

    Raises:
        ProbegateError: ``CONFIG_INVALID`` if there is nobody to ask.
    """
    chosen = [one for one in policy.witnesses if (one.name in names if names else one.url)]
    unknown = set(names) - {one.name for one in chosen}
    if not chosen or unknown or not all(one.url for one in chosen):
        raise ProbegateError(Reason.CONFIG_INVALID, "no such witness with an address")
    source = log_source(log, ca_file)
    keys = [one.vkey for one in policy.logs]
    done, refused = [], []
    for witness in chosen:
        try:
            done.append(push(source, keys, witness, store, ca_file))
        except ProbegateError as error:
            refused.append((witness.name, error))
    return done, refused


def _proof(
    source: LogSource, new: Checkpoint, old: int, last: Checkpoint | None
) -> tuple[bytes, ...]:
    if last and last.origin != new.origin:
        raise ProbegateError(Reason.CHECKPOINT_INVALID, "what is kept there is of another log")
    if old > new.size:
        raise ProbegateError(
            Reason.CHECKPOINT_INCONSISTENT,
            f"the witness has cosigned size {old}, this copy of the log holds {new.size}",
        )  # (1) (3)
    read = node_reader(source, new.size)
    if last and last.size:
        own = consistency_proof(read, last.size, new.size)
        verify_consistency(last.size, new.size, last.root, new.root, own)  # (1)
    return consistency_proof(read, old, new.size)


def _named(answer: bytes) -> int:
    try:
        return parse_size(answer.decode("ascii").removesuffix("\n"))
    except (UnicodeDecodeError, ProbegateError):
        raise ProbegateError(Reason.SERVICE_UNREACHABLE, "a 409 without a size") from None


def _kept(
    signed: SignedCheckpoint,
    lines: bytes,
    witness: KnownWitness,
    logs: Sequence[VerifierKey],
    store: WitnessedStore,
) -> Pushed:
    whole = only_signed_by(signed.note + lines, [*logs, witness.vkey])
    if split_note(whole)[0] != split_note(signed.note)[0]:
        raise ProbegateError(Reason.CHECKPOINT_INVALID, "the answer is more than signatures")  # (4)
    opened = open_note(whole, [*logs, witness.vkey])
    times = [one.timestamp for one in opened.signatures if one.key == witness.vkey]
    if not times or times[-1] is None:
        raise ProbegateError(Reason.CHECKPOINT_INVALID, "no cosignature by the known key")  # (4)
    store.keep(witness.vkey, whole)
    return Pushed(witness.name, signed.checkpoint, times[-1])


def _refusal(status: int) -> ProbegateError:
    match status:
        case HTTPStatus.FORBIDDEN | HTTPStatus.NOT_FOUND:
            reason = Reason.KEY_UNKNOWN
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            reason = Reason.CHECKPOINT_INCONSISTENT
        case _:
            reason = Reason.SERVICE_UNREACHABLE
    return ProbegateError(reason, f"the witness answered HTTP {status}")
