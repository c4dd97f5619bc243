"""Where in the search log something is, as a force keeps it and as an agency is shown it."""

from __future__ import annotations

from dataclasses import dataclass

from audit.evidence import LoggedEntry
from audit.proofs import format_proof
from audit.writer import LogWriter
from broker.second_step.models import Receipt


@dataclass(frozen=True, slots=True)
class Proved:
    """An entry, its place, and the signed checkpoint that the proofs lead to.

    Attributes:
        entry: the entry that records what is asked.
        others: other entries, under the same checkpoint.
        checkpoint: the signed note.
        size: of the log at that checkpoint.
    """

    entry: LoggedEntry
    others: tuple[LoggedEntry, ...]
    checkpoint: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Receipts:
    """Proves entries of the search log under its newest checkpoint."""

    log: LogWriter

    def of(self, index: int) -> Receipt:
        """Return the receipt of an entry.

        Raises:
            ProbegateError: ``LOG_PROOF_INVALID`` or what reading the log raises.
        """
        checkpoint = self.log.checkpoint
        proof = self.log.inclusion(index, checkpoint.checkpoint.size)
        text = format_proof(index, proof, checkpoint.note)
        return Receipt(text.encode(), self.log.leaf(index))

    def proved(self, index: int, *others: int) -> Proved:
        """Return entries with their proofs, all under one checkpoint.

        Raises:
            ProbegateError: ``LOG_PROOF_INVALID`` or what reading the log raises.
        """
        checkpoint = self.log.checkpoint
        size = checkpoint.checkpoint.size
        return Proved(
            entry=self._entry(index, size),
            others=tuple(self._entry(other, size) for other in others),
            checkpoint=checkpoint.note,
            size=size,
        )

    def _entry(self, index: int, size: int) -> LoggedEntry:
        return LoggedEntry(self.log.leaf(index), index, self.log.inclusion(index, size))
