"""What a force signed for the owner of a record, brought by the broker; and the list of recalls.

1. The channel is a broker's, and the directory is in force.
2. The notice is a report of a wrong match, an acknowledged recall or a revoked reviewer, and is
   signed by the force it names, with a key that is valid now.
3. The broker's entry says the same, and is proved (``papers``).
4. A wrong match is about a candidate of the very report that was handed out to that force; an
   acknowledgement is of a recall that this agency signed, by its digest, and of a force that had
   the report. Both are of searches of this broker, whose answers are not gone (``retention``).
5. It is not from the future beyond the clock skew. However late it comes, it counts.
6. It is on this agency's log, and kept, in one transaction. The same bytes again are the same
   notice, and leave no second entry.
7. A broker is told the recalls of its own searches, by numbers of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from agency_adapters.gone import require_there
from agency_adapters.second_step.answered import HandedOut
from agency_adapters.second_step.checks import require_same
from agency_adapters.second_step.keeping import Releases, keep_revocations
from agency_adapters.second_step.models import NoticeParams, NumberedRecall
from agency_adapters.second_step.papers import (
    ACKNOWLEDGED_ENTRY,
    REVOKED_ENTRY,
    WRONG_MATCH_ENTRY,
    Papers,
)
from agency_adapters.second_step.recalling import (
    Recalls,
    keep_acknowledgement,
    keep_wrong_match,
)
from agency_adapters.second_step.recording import Book
from audit.leaves import JsonValue
from trust.clock import Clock
from trust.directory import Member
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType
from trust.second_step import RecallAcknowledgement, ReviewerRevocation, WrongMatch
from trust.wire import decode

REFUSED_ENTRY: Final = "notice.refused"
Keep = Callable[[Connection], None]
"""Writes a notice within the log's transaction."""


@dataclass(frozen=True, slots=True)
class _Notice:
    """A notice that fits.

    Attributes:
        entry: the type of the entry, at the broker and here.
        says: what the broker's entry must say of it.
        facts: what is certain of it, for our own entry.
        named: the name of the digest in our entry.
        dated: when the force says that it was made.
        known: whether it is kept already.
        keep: keeps it.
    """

    entry: str
    says: Mapping[str, Any]
    facts: Mapping[str, JsonValue]
    named: str
    dated: datetime
    known: bool
    keep: Keep


@dataclass(frozen=True, slots=True)
class NoticesCommand:
    """Takes in notices, and lists recalls; free of transport.

    Attributes:
        agency: this agency's member id.
        skew: how far ahead of ours another's clock may be.
        papers: checks papers.
        recalls: the recalls there are, and the wrong matches.
        releases: the requests there are, and who is revoked.
        book: this agency's search log.
        clock: tells the time.
    """

    agency: str
    skew: timedelta
    papers: Papers
    recalls: Recalls
    releases: Releases
    book: Book
    clock: Clock
    _one_at_a_time: WeakValueDictionary[bytes, asyncio.Lock] = field(
        default_factory=WeakValueDictionary, init=False, repr=False
    )

    async def notify(self, params: NoticeParams, peer: Member) -> None:
        """Take in a notice.

        Raises:
            ProbegateError: ``NOTICE_INVALID``, ``NOT_FOUND``, ``RESULT_GONE``, whatever the papers
                raise, or the log's own failure.
        """
        digest = sha256(params.notice.payload).digest()
        lock = self._one_at_a_time.setdefault(digest, asyncio.Lock())
        async with lock, self.book.refusing(REFUSED_ENTRY) as certain:
            self.papers.admit_channel(peer)  # (1)
            notice = self._notice(params, peer, digest)  # (2) (4)
            certain.facts |= {**notice.facts, notice.named: digest.hex()}
            proved = self.papers.proved(  # (3)
                params.recorded, peer, {"type": notice.entry, **notice.says}
            )
            certain.seen = proved.seen
            if notice.dated > self.clock() + self.skew:  # (5)
                raise ProbegateError(Reason.NOTICE_INVALID, "of the future", field="at")
            if not notice.known:  # (6)

                def also(connection: Connection, _index: int) -> None:
                    notice.keep(connection)

                await self.book.record(notice.entry, certain, also)

    async def recalls_after(self, number: int, peer: Member) -> tuple[NumberedRecall, ...]:
        """Return the recalls of a broker's searches from a number on (7).

        Raises:
            ProbegateError: ``CHANNEL_ROLE``, ``DIRECTORY_EXPIRED``, ``KEY_UNKNOWN`` or
                ``STATE_UNAVAILABLE``.
        """
        async with self.book.refusing(REFUSED_ENTRY):
            self.papers.admit_channel(peer)
            return self.recalls.after(self.papers.origin_of(peer), number)

    def _notice(self, params: NoticeParams, peer: Member, digest: bytes) -> _Notice:
        """Read a notice by its type (2)."""
        match params.notice.payload_type:
            case PayloadType.WRONG_MATCH:
                return self._wrong_match(params, peer, digest)
            case PayloadType.RECALL_ACKNOWLEDGEMENT:
                return self._acknowledgement(params, peer, digest)
            case PayloadType.REVIEWER_REVOCATION:
                return self._revocation(params, digest)
            case _:
                raise ProbegateError(Reason.NOTICE_INVALID, field="payload_type")

    def _wrong_match(self, params: NoticeParams, peer: Member, digest: bytes) -> _Notice:
        said = decode(WrongMatch, params.notice.payload)
        self.papers.said_by(said.force, params.notice, PayloadType.WRONG_MATCH)
        answer = self.papers.answer_to(said.order_sha256, peer)
        require_same(
            Reason.NOTICE_INVALID,
            ("force", said.force, answer.force),
            ("search_id", said.search_id, answer.report.search_id),
            ("agency", said.agency, self.agency),
        )
        _require_listed(answer, said.reference)
        facts = {"search_id": said.search_id, "reference": said.reference}
        return _Notice(
            entry=WRONG_MATCH_ENTRY,
            says={**facts, "agency": self.agency, "wrong_match_sha256": digest.hex()},
            facts={**facts, "order_sha256": said.order_sha256.hex()},
            named="wrong_match_sha256",
            dated=said.reported_at,
            known=self.recalls.knows_wrong_match(digest),
            keep=_of_answer(answer, lambda connection: keep_wrong_match(connection, digest, said)),
        )

    def _acknowledgement(self, params: NoticeParams, peer: Member, digest: bytes) -> _Notice:
        said = decode(RecallAcknowledgement, params.notice.payload)
        self.papers.said_by(said.force, params.notice, PayloadType.RECALL_ACKNOWLEDGEMENT)
        ordered = self.recalls.with_id(said.recall_id)
        if ordered is None or ordered.recall is None:
            gone = self.recalls.origin_of_gone(said.recall_id) == self.papers.origin_of(peer)
            raise ProbegateError(Reason.RESULT_GONE if gone else Reason.NOT_FOUND)
        answer = self.papers.answer_to(ordered.order_sha256, peer)
        require_same(
            Reason.NOTICE_INVALID,
            ("force", said.force, answer.force),
            ("recall_sha256", said.recall_sha256, sha256(ordered.recall.payload).digest()),
        )
        return _Notice(
            entry=ACKNOWLEDGED_ENTRY,
            says={"recall_id": said.recall_id, "acknowledgement_sha256": digest.hex()},
            facts={
                "search_id": ordered.search_id,
                "order_sha256": ordered.order_sha256.hex(),
                "reference": ordered.reference,
                "recall_id": said.recall_id,
            },
            named="acknowledgement_sha256",
            dated=said.acknowledged_at,
            known=self.recalls.knows_acknowledgement(digest),
            keep=_of_answer(
                answer, lambda connection: keep_acknowledgement(connection, digest, said)
            ),
        )

    def _revocation(self, params: NoticeParams, digest: bytes) -> _Notice:
        said = decode(ReviewerRevocation, params.notice.payload)
        self.papers.said_by(said.force, params.notice, PayloadType.REVIEWER_REVOCATION)
        facts = {"force": said.force}
        return _Notice(
            entry=REVOKED_ENTRY,
            says={**facts, "revocation_sha256": digest.hex()},
            facts=facts,
            named="revocation_sha256",
            dated=said.revoked_at,
            known=self.releases.knows_revocation(digest),
            keep=lambda connection: keep_revocations(connection, [(digest, said)]),
        )


def _of_answer(answer: HandedOut, keep: Keep) -> Keep:
    """Return what keeps something about an answer, and refuses to once that is gone (4)."""

    def kept(connection: Connection) -> None:
        require_there(connection, answer.order_sha256)
        keep(connection)

    return kept


def _require_listed(answer: HandedOut, reference: str) -> None:
    if answer.record_of(reference) is None:
        raise ProbegateError(Reason.NOTICE_INVALID, "no candidate", field="reference")
