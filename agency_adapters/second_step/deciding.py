"""From what the agency's people decided about a request for disclosure to the signed decision.

1. A person's decision counts once its entry is on the admin log (``verdicts``).
2. The decision that follows is on the search log, and kept, in one transaction, before anybody can
   ask for it; it is made once. A crash between the two leaves what people decided for the next
   turn, or the next start, to carry out.
3. A request that stands on a review by somebody who was revoked since is refused, whoever decided
   what, and if nobody has yet. A turn looks at those that somebody decided about, and at all that
   wait only after a revocation, or a start: a broker can let any number wait.
4. What a kill switch has turned off is not released while it is off; it can still be refused.
5. Before anything is released it is looked at again: the candidate is not recalled, the record is
   there, is not being erased and may be searched today, and an agreement in force today lets
   something of it be disclosed. Else it is refused. Where the record has come to need somebody's
   leave who was not asked, it waits again, on the log, with whom to ask (``verdicts``, 3). In the
   transaction that records the release it must still be what people decided, with nothing switched
   off, recalled, erased or revoked; else nothing is recorded, and the next turn carries out what
   stands then.
6. What goes out was before the people who released it: a detail that the record gained since the
   request came, or that says something else by now, is left out. What is left, if anything, is
   signed, then sealed to the newest sealing key of the force, bound to the order, this agency and
   the reference. It carries the caveats, the terms of passing it on and the day it must be deleted
   by; it can be opened for a while, and never longer than that.
7. With the decision the facts, the order and who reviewed are erased, from the write-ahead log too.
8. Nobody's silence is an answer: what was not decided in time is on the log as overdue, once, and
   stays open, until it goes with the answer that it is about (``retention``).
9. Sealed details that nobody can open any more are erased, from the write-ahead log too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection

from agency_adapters.erased import require_not_erased
from agency_adapters.second_step.asking import Disclosable, Terms
from agency_adapters.second_step.keeping import (
    RELEASE_VERDICTS,
    Release,
    Releases,
    is_revoked,
    keep_decision,
    keep_flagged,
)
from agency_adapters.second_step.recalling import is_recalled
from agency_adapters.second_step.recording import Book, Certain
from agency_adapters.verdicts import Verdict, VerdictClerk
from audit import kinds
from audit.leaves import JsonValue, stamp
from audit.scrubbing import Scrubber
from trust import dsse, telemetry
from trust.clock import Clock
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.messages import OWNER_REFUSED
from trust.payload_types import PayloadType
from trust.sealing import disclosure_info, seal
from trust.second_step import DisclosedField, Disclosure, ReleaseDecision, ReleaseState
from trust.wire import encode, envelope_to_bytes

RELEASED_ENTRY: Final = "release.released"
REFUSED_ENTRY: Final = "release.refused"
DECIDED_ENTRY: Final = kinds.RELEASE_DECIDED
OVERDUE_ENTRY: Final = "release.overdue"
REOPENED_ENTRY: Final = "release.reopened"
_NO_LONGER: Final = frozenset({Reason.DISCLOSURE_DENIED, Reason.STOP_USE})
"""Why what people released is refused all the same (5)."""
RELEASE_CLERK: Final = VerdictClerk(
    RELEASE_VERDICTS, {RELEASED_ENTRY: Verdict.RELEASED, REFUSED_ENTRY: Verdict.REFUSED}
)
"""Keeps decisions about requests (1)."""


@dataclass(slots=True)
class _Looked:
    """How many revocations there were when all that wait were last looked at (3)."""

    at_revocations: int | None = None


@dataclass(frozen=True, slots=True)
class Deciding:
    """Carries out what was decided; the running adapter has one.

    Attributes:
        agency: this agency's member id.
        opens_for: how long released details can be opened.
        releases: the requests there are.
        disclosable: says what may be disclosed.
        book: this agency's search log.
        signer: signs decisions and details.
        directory: returns the directory in force.
        files: sees to the database's files once something was erased.
        clock: tells the time.
    """

    agency: str
    opens_for: timedelta
    releases: Releases
    disclosable: Disclosable
    book: Book
    signer: Signer
    directory: Callable[[], Directory]
    files: Scrubber
    clock: Clock
    _looked: _Looked = field(default_factory=_Looked, init=False, repr=False)

    async def settle(self) -> None:
        """Make the decision of every request that was decided and has none yet (2).

        One that cannot be made now keeps no other waiting.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        decided, revocations, done = False, self.releases.revocations(), True
        all_of_them = revocations != self._looked.at_revocations  # (3)
        for release in self.releases.waiting() if all_of_them else self.releases.reviewed():
            try:
                decided |= await self._carry_out(release)
            except ProbegateError as error:
                done &= bool(release.reviews)  # that one is looked at again in any case
                telemetry.log(
                    "release not carried out",
                    search_id=release.request.search_id,
                    reason=error.reason.name,
                )
        if done:
            self._looked.at_revocations = revocations
        if decided:  # (7)
            self.files.erased()
            await self.files.scrub()

    async def record_overdue(self) -> None:
        """Put every request that nobody decided in time on the search log, once (8).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``, or what the log raises.
        """
        for release in self.releases.overdue(self.clock()):

            def also(
                connection: Connection, _index: int, digest: bytes = release.request_sha256
            ) -> None:
                keep_flagged(connection, digest)

            await self.book.record(
                OVERDUE_ENTRY, _certain(release), also, decide_by=stamp(release.decide_by)
            )
            telemetry.log("release overdue", search_id=release.request.search_id)

    async def erase_expired(self) -> None:
        """Erase sealed details that can be opened no more (9).

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
        """
        erase, recalled = self.releases.erase_expired, self.disclosable.recalled
        if await asyncio.to_thread(erase, self.clock(), recalled):
            self.files.erased()
            await self.files.scrub()

    async def _carry_out(self, release: Release) -> bool:
        """Return whether there is a decision now."""
        force = release.request.force
        if any(  # (3)
            self.releases.revoked(force, one.reviewer, one.finished_at) for one in release.reviewers
        ):
            await self._refuse(release, Reason.REVIEWER_REVOKED.name)
        elif release.verdict is Verdict.REFUSED:
            await self._refuse(release, OWNER_REFUSED)
        elif release.verdict is Verdict.RELEASED:
            return await self._release(release)
        else:
            return False
        return True

    async def _release(self, release: Release) -> bool:
        if release.order is None:
            raise ProbegateError(Reason.STATE_UNAVAILABLE, "the order of a request is gone")
        try:
            terms = await self.disclosable.terms(release.request, release.order)  # (4) (5)
        except ProbegateError as error:
            if error.reason not in _NO_LONGER:
                raise
            await self._refuse(release, error.reason.name)
            return True
        if not set(terms.ask) <= set(release.ask):
            await self._ask_anew(release, terms.ask)
            return False
        fields = self._seen(release, terms)
        if fields:
            await self._disclose(release, replace(terms, fields=fields))
        else:
            await self._refuse(release, Reason.DISCLOSURE_DENIED.name)
        return True

    async def _ask_anew(self, release: Release, ask: tuple[str, ...]) -> None:
        """Put on the log that a request waits again, with whom to ask (5)."""

        def also(connection: Connection, _index: int) -> None:
            RELEASE_VERDICTS.ask_anew(connection, release.request_sha256, ask)

        await self.book.record(REOPENED_ENTRY, _certain(release), also, ask=list(ask))
        telemetry.log("release waits again", search_id=release.request.search_id)

    def _seen(self, release: Release, terms: Terms) -> tuple[DisclosedField, ...]:
        """Return what of the details is as it was when people were asked to release it (6)."""
        fields = tuple(one for one in terms.fields if one.name in release.fields)
        if release.shown is None:  # taken in before what was shown was kept
            return fields
        now = self.disclosable.shown(release.record_id, fields)
        return tuple(one for one in fields if release.shown.get(one.name) == now[one.name])

    async def _disclose(self, release: Release, terms: Terms) -> None:
        """Apply rule (6)."""
        request, duties, now = release.request, terms.agreed.duties, self.clock()
        delete_by = now + timedelta(days=duties.retention_days)
        expires_at = min(now + self.opens_for, delete_by)
        key = self.directory().sealing_key(request.force, self.agency, now)
        disclosure = Disclosure(
            request_sha256=release.request_sha256,
            search_id=request.search_id,
            agency=self.agency,
            reference=request.reference,
            fields=terms.fields,
            subject_category=terms.category,
            caveats=duties.caveats,
            delete_by=delete_by,
            onward_transfer=duties.onward_transfer,
            released_at=now,
            expires_at=expires_at,
        )
        signed = dsse.sign(PayloadType.DISCLOSURE, encode(disclosure), self.signer)
        info = disclosure_info(request.order_sha256, self.agency, request.reference, key.kid)
        sealed = seal(envelope_to_bytes(signed), key, info)
        decision = self._decision(
            release,
            state=ReleaseState.RELEASED,
            sealed_sha256=sha256(sealed).digest(),
            sealed_key_id=key.kid,
            decided_at=now,
            expires_at=expires_at,
        )
        await self._record(release, decision, sealed, until=delete_by, fields=list(terms.codes))

    async def _refuse(self, release: Release, reason: str) -> None:
        now = self.clock()
        decision = self._decision(
            release, state=ReleaseState.REFUSED, reason=reason, decided_at=now
        )
        await self._record(release, decision, b"", until=now, fields=[])

    def _decision(self, release: Release, **said: Any) -> ReleaseDecision:
        return ReleaseDecision(
            request_sha256=release.request_sha256,
            request_id=release.request.request_id,
            search_id=release.request.search_id,
            agency=self.agency,
            reference=release.request.reference,
            **said,
        )

    async def _record(
        self,
        release: Release,
        decision: ReleaseDecision,
        sealed: bytes,
        *,
        until: datetime,
        fields: list[JsonValue],
    ) -> None:
        """Put the decision on the search log, and keep it (2)."""
        envelope = dsse.sign(PayloadType.RELEASE_DECISION, encode(decision), self.signer)

        def also(connection: Connection, index: int) -> None:
            if decision.state is ReleaseState.RELEASED:
                self._require_standing(connection, release)
            keep_decision(connection, release.request_sha256, envelope, sealed, index, until)

        await self.book.record(
            DECIDED_ENTRY,
            _certain(release),
            also,
            decision_sha256=sha256(envelope.payload).hexdigest(),
            state=decision.state.value,
            reason=decision.reason,
            fields=fields,
        )
        telemetry.log("release decided", search_id=decision.search_id, state=decision.state.value)

    def _require_standing(self, connection: Connection, release: Release) -> None:
        """Refuse to record a release that something came in before (3) (4) (5).

        Raises:
            ProbegateError: ``REVIEWER_REVOKED``, ``RELEASE_INVALID``, ``RELEASE_SWITCHED_OFF``,
                ``STOP_USE`` or ``DISCLOSURE_DENIED``.
        """
        force, reference = release.request.force, release.request.reference
        if any(is_revoked(connection, force, one) for one in release.reviewers):
            raise ProbegateError(Reason.REVIEWER_REVOKED)
        RELEASE_VERDICTS.require_released(
            connection,
            release.request_sha256,
            release.needed,
            release.switches,
            self.disclosable.ledger,
        )
        if is_recalled(connection, reference):
            raise ProbegateError(Reason.STOP_USE)
        require_not_erased(connection, (reference,))


def _certain(release: Release) -> Certain:
    request = release.request
    return Certain(
        {
            "search_id": request.search_id,
            "order_sha256": request.order_sha256.hex(),
            "request_sha256": release.request_sha256.hex(),
            "reference": request.reference,
        }
    )
