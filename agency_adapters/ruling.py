"""This agency's decision on one request, from its own records, and what the records keep of it.

1. The counters, the confirmations seen and the decision are of one instant: between reading them
   and counting the permitted search nothing else runs, so a quota is exact under concurrency.
2. An order is on the ledger under its digest: under another search id it is the same search.
3. A confirmation that verified counts in the decision it came with. It is kept with that request's
   log entry, whatever the decision, and nothing lifts the bar for others before that is durable.
4. A permitted search stays counted if it was searched for, held answers included; a probe that
   could not be used, and whatever failed, is not counted. If it is not known whether the entry is
   on the log, it stays counted.
5. Every order that was answered is on the ledger, denials too, for the reasons it gave.
6. A permission that needed an urgent route awaits its confirmation from when it is on the log.
7. A decision of the owner is used by a search that counts, with that search's entry (``owner``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from agency_adapters import checks, evidence
from agency_adapters.agency import AgencyKind, OwnerDecision
from agency_adapters.owner import keep_used
from audit.evidence import Evidence
from policy.decision import CompiledPolicy
from policy.ledger import Ledger, Reservation, Subjects, UrgentUse
from policy.standing import Standing


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision, and what is to be kept of it.

    Attributes:
        outcome: the permission or the denial.
        subjects: what the search is about, as the ledger knows it.
        at: the instant of the decision.
        confirmed: the orders, by digest, that the request showed to be confirmed.
        urgent: the confirmation that is awaited from now on, if one is.
        reservation: the search as it is counted; none for a denial.
        decided_on: the request id that the owner decided on, where that decision counts.
    """

    outcome: checks.Permission | checks.Denial
    subjects: Subjects
    at: datetime
    confirmed: tuple[str, ...] = ()
    urgent: UrgentUse | None = None
    reservation: Reservation | None = None
    decided_on: str = ""

    @property
    def counted(self) -> bool:
        """Whether the search counts (4)."""
        return self.reservation is not None and self.reservation.open

    def release(self) -> None:
        """Count the search no more (4)."""
        if self.reservation is not None:
            self.reservation.release()


@dataclass(frozen=True, slots=True)
class Records:
    """One agency's own records of what it was asked."""

    agency: str
    ledger: Ledger

    async def rule(
        self,
        admitted: checks.Admitted,
        shown: Evidence,
        against: evidence.Against,
        *,
        kind: AgencyKind,
        matcher: str,
        policy: CompiledPolicy,
        owner_decision: OwnerDecision | None,
    ) -> Ruling:
        """Apply rule (11) of the gate; a permission is counted when this returns.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        order, now = admitted.order, against.now
        wanted, _ = policy.must_have_answered((self.agency,), order.force)
        answered = evidence.answered(shown.earlier, wanted, against)
        subjects = self.ledger.subjects(against.order_sha256, order)  # (2)
        standing = await self.ledger.standing(subjects, (self.agency,), now, answered)
        # (1) Nothing is waited for from here on.
        urgent = self.ledger.urgent
        confirmed = evidence.confirmed(
            shown.confirmed, against, urgent.awaiting, self.ledger.officer
        )
        outcome = checks.decide(
            admitted,
            agency=self.agency,
            kind=kind,
            matcher=matcher,
            policy=policy,
            standing=self._without(standing, confirmed, subjects, now),
            owner_decision=owner_decision,
            now=now,
        )
        if isinstance(outcome, checks.Denial):
            return Ruling(outcome, subjects, now, confirmed)
        return Ruling(
            outcome,
            subjects,
            now,
            confirmed,
            urgent=self._awaited(outcome, subjects),
            reservation=self.ledger.reserve(subjects, (self.agency,), now),  # (1)
            decided_on=order.request_id if owner_decision is not None else "",
        )

    def _without(
        self, standing: Standing, confirmed: Sequence[str], subjects: Subjects, now: datetime
    ) -> Standing:
        """Return the standing as if ``confirmed`` were confirmed already (3)."""
        late = {
            use.ref
            for ref in confirmed
            for use in self.ledger.urgent.awaiting(ref)
            if (use.force, use.officer) == (subjects.force, subjects.officer) and use.deadline < now
        }
        count = (standing.unconfirmed_urgent or 0) - len(late)
        return standing.model_copy(update={"unconfirmed_urgent": count}) if late else standing

    def _awaited(self, permission: checks.Permission, subjects: Subjects) -> UrgentUse | None:
        if permission.confirm_by is None:
            return None
        return UrgentUse(
            ref=subjects.ref,
            agency=self.agency,
            force=subjects.force,
            officer=subjects.officer,
            deadline=permission.confirm_by,
            confirmer_rank=permission.confirmer_rank,
        )

    def write(self, connection: Connection, ruling: Ruling) -> None:
        """Write what is kept, in the transaction of the request's log entry (3) (5) (6) (7).

        Raises:
            ProbegateError: ``POLICY_DENIED`` if the owner's decision no longer counts.
        """
        if ruling.counted and ruling.decided_on:
            keep_used(connection, ruling.decided_on, bytes.fromhex(ruling.subjects.ref))
        agencies = (self.agency,) if ruling.counted else ()
        self.ledger.write_use(connection, ruling.subjects, agencies, ruling.at)
        if ruling.urgent is not None:
            self.ledger.urgent.write(connection, ruling.urgent)
        for ref in ruling.confirmed:
            self.ledger.urgent.write_confirmed(connection, ref, ruling.at)

    def written(self, ruling: Ruling) -> None:
        """Take in what was written, once it is durable (3) (4) (6)."""
        if ruling.reservation is not None:
            ruling.reservation.keep()
        if ruling.urgent is not None:
            self.ledger.urgent.recorded((ruling.urgent,))
        for ref in ruling.confirmed:
            self.ledger.urgent.confirmed(ref)
