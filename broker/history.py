"""What the broker can show of its own log: who answered before, and what was confirmed.

1. That an agency answered is never the requester's word: it is a search on the broker's log, and
   that agency's own signed statement that it was of the same force, case and probe.
2. An agency that must be shown this gets the entry with its proof, and the statements; nothing of
   what was found.
3. An agency where the officer used an urgent route gets the confirmations, each signed by the force
   and on the log, so that it needs nobody's word either.
4. What does not verify is not shown: the agency then denies and names the clause.
5. Of several answers of an agency the newest counts, by its own word for when it answered: what
   came of another agency later makes none of them newer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from audit.evidence import (
    ConfirmedSearch,
    EarlierSearch,
    Evidence,
    LoggedEntry,
    answered_at,
)
from audit.writer import LogWriter
from broker.models import Asked, SearchRecord
from broker.store import SearchStore
from policy.decision import CompiledPolicy
from policy.ledger import Ledger, Subjects
from trust.directory import Directory
from trust.dsse import Envelope
from trust.errors import ProbegateError
from trust.messages import SearchOrder

CONFIRMATION_MEMORY: Final = timedelta(days=31)
"""How long after its deadline a confirmed urgent search is shown, days."""
MAX_EARLIER_SHOWN: Final = 8
"""Most earlier searches shown to one agency."""
MAX_CONFIRMED_SHOWN: Final = 32
"""Most confirmations shown to one agency."""


@dataclass(frozen=True, slots=True)
class ProvedAnswer:
    """That an agency answered an earlier search, with its own signed word for it."""

    agency: str
    at: datetime
    statement: Envelope
    search: SearchRecord


class History:
    """Reads the past for decisions and for agencies; the broker's core has one."""

    def __init__(
        self,
        *,
        store: SearchStore,
        ledger: Ledger,
        log: LogWriter,
        directory: Callable[[], Directory],
        policy: Callable[[], CompiledPolicy],
        skew: timedelta,
    ) -> None:
        self._skew = skew
        self._store = store
        self._ledger = ledger
        self._log = log
        self._directory = directory
        self._policy = policy

    def asked(self, ref: str, order: SearchOrder) -> Asked:
        """Return what an order asks about; ``ref`` is the search's own id."""
        return Asked(self._ledger.subjects(ref, order), order.matter_sha256)

    async def answered(
        self, policy: CompiledPolicy, asked: Asked, agencies: Sequence[str], at: datetime
    ) -> dict[str, ProvedAnswer]:
        """Return the newest proved answer of each agency that must have answered first (1).

        Args:
            policy: the agreements, which say who must have answered.
            asked: the search at hand.
            agencies: the agencies it would ask.
            at: the instant of the decision.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        wanted, reach = policy.must_have_answered(agencies, asked.subjects.force)
        found: dict[str, ProvedAnswer] = {}
        if not wanted:
            return found
        for earlier in await self._ledger.earlier_answers(asked.subjects, at - reach):
            # None in it is newer than the last of them that came, but for an agency's clock.
            newest = earlier.at + self._skew
            open_to = {a for a in wanted if a not in found or found[a].at < newest}  # (5)
            if not open_to & set(earlier.agencies):
                continue
            search = await self._store.get(asked.subjects.force, earlier.ref)
            for answer in search.answers if search else ():
                agency = answer.outcome.agency
                if search is None or agency not in open_to:
                    continue
                proved = self._proved(search, agency, answer.statement, asked, at)
                if proved is not None and (agency not in found or found[agency].at < proved.at):
                    found[agency] = proved
        return found

    def _proved(
        self,
        search: SearchRecord,
        agency: str,
        statement: Envelope | None,
        asked: Asked,
        now: datetime,
    ) -> ProvedAnswer | None:
        """Check an agency's statement as the agency that is shown it will."""
        if statement is None:
            return None
        try:
            at = answered_at(
                statement,
                agency=agency,
                search_id=search.search_id,
                order_sha256=search.order_sha256.hex(),
                matter_sha256=asked.matter_sha256,
                directory=self._directory(),
                now=now,
                skew=self._skew,
            )
        except ProbegateError:
            return None
        return ProvedAnswer(agency, at, statement, search)

    async def evidence(
        self, agency: str, asked: Asked, checkpoint_size: int, now: datetime
    ) -> Evidence:
        """Return what one agency is shown with a search (2) (3).

        Args:
            agency: who is asked.
            asked: the search at hand.
            checkpoint_size: the size of the log that the dossier's proof leads to.
            now: the instant of asking.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``, or what reading the log raises.
        """
        return Evidence(
            earlier=await self._earlier(agency, asked, checkpoint_size, now),
            confirmed=await self._confirmed(agency, asked.subjects, checkpoint_size, now),
        )

    async def _earlier(
        self, agency: str, asked: Asked, size: int, now: datetime
    ) -> tuple[EarlierSearch, ...]:
        by_search: dict[str, list[ProvedAnswer]] = {}
        found = await self.answered(self._policy(), asked, (agency,), now)
        for proved in found.values():
            by_search.setdefault(proved.search.search_id, []).append(proved)
        return tuple(
            EarlierSearch(
                self._entry(answers[0].search.order_index, size),
                tuple(answer.statement for answer in answers),
            )
            for answers in list(by_search.values())[:MAX_EARLIER_SHOWN]
        )

    async def _confirmed(
        self, agency: str, subjects: Subjects, size: int, now: datetime
    ) -> tuple[ConfirmedSearch, ...]:
        uses = await self._ledger.urgent_uses(subjects, agency, now - CONFIRMATION_MEMORY)
        shown = []
        for use in uses:
            kept = await self._store.confirmation(use.ref) if use.confirmed_at else None
            if kept is not None and kept.leaf_index < size:
                entry = self._entry(kept.leaf_index, size)
                shown.append(ConfirmedSearch(entry, kept.envelope))
        return tuple(shown[:MAX_CONFIRMED_SHOWN])

    def _entry(self, index: int, size: int) -> LoggedEntry:
        return LoggedEntry(self._log.leaf(index), index, self._log.inclusion(index, size))
