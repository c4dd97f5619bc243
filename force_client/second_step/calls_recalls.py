"""The client's methods for what went wrong: wrong matches, recalls, and acknowledging them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Final

from force_client.second_step import wire
from force_client.second_step.calls import Connected
from force_client.second_step.checks import check_receipt, proof_time
from force_client.second_step.models import RecallView, ReceivedRecall
from force_client.second_step.recalls import (
    ACKNOWLEDGED,
    WRONG,
    signed_notice,
    stated,
    verify_recall,
)
from force_client.second_step.reviews import digest_of
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.second_step import RecallAcknowledgement, WrongMatch
from trust.wire import checked

MAX_RECALL_PAGES: Final = 10_000
"""Most pages of recalls read at once."""
_UNREADABLE: Final = frozenset({Reason.RESULT_GONE, Reason.FILE_MISSING})
"""Why a recalled search cannot be read: its time is over, or its order is kept elsewhere."""


class RecallingCalls(Connected):
    """What is taken back, by either side."""

    async def report_wrong_match(
        self,
        search_id: str,
        agency: str,
        reference: str,
        *,
        reporter: Person,
        reporter_token: str,
        reasons: str,
    ) -> str:
        """Report that a candidate is not the person sought; return the id of the report.

        Example::

            >>> report_id = await client.report_wrong_match(
            ...     search_id,
            ...     agency,
            ...     reference,
            ...     reporter=client.officers.person(OFFICER, option="reporter"),
            ...     reporter_token=client.issue_token(OFFICER, Part.OFFICER),
            ...     reasons="He was in prison on the day.",
            ... )

        Args:
            search_id: the broker's id of the search.
            agency: whose candidate.
            reference: the candidate.
            reporter: who reports.
            reporter_token: for the part of an officer.
            reasons: how it came to light, naming nobody.

        Raises:
            ProbegateError: ``NOTICE_INVALID``, ``RESULT_INVALID`` or the broker's reason;
                ``RESULT_GONE`` for a candidate whose details were never asked for here.
        """
        order_sha256, ground = await self._candidate(search_id, agency, reference)
        report = checked(
            Reason.NOTICE_INVALID,
            lambda: WrongMatch(
                report_id=str(uuid.uuid4()),
                search_id=search_id,
                order_sha256=order_sha256,
                force=self.force,
                agency=agency,
                reference=reference,
                reporter=reporter,
                reasons=reasons,
                reported_at=self._clock(),
            ),
        )
        signed = signed_notice(report, self._own_signer)
        response = await self._call(
            lambda stubs: stubs.second.wrong_match,
            wire.wrong_match_request(signed, reporter_token),
        )
        expected = {
            "type": WRONG,
            "search_id": search_id,
            "agency": agency,
            "reference": reference,
            "wrong_match_sha256": digest_of(signed).hex(),
        }
        check_receipt(wire.read_receipt(response), ground, expected)
        return report.report_id

    async def recalls(self) -> AsyncIterator[RecallView]:
        """Yield what agencies recalled of this force's searches, verified, the oldest first.

        Each candidate is marked here before its recall is yielded: from then on its details are
        neither read out nor exported, until somebody decides otherwise with the agency. One that
        does not verify hides no other: all the rest are yielded first.

        Example::

            >>> async for one in client.recalls():
            ...     print(one.recall.agency, one.recall.reason)
            custody wrong_record

        Raises:
            ProbegateError: ``RESULT_INVALID`` at the end if a recall does not verify; or the
                broker's reason.
        """
        async for view in self._believed():
            if view is not None:
                yield view

    async def take_recalls(self) -> int:
        """Read every recall and mark its candidate; return how many there are.

        Opening and exporting details do it by themselves. What is marked here was verified, and is
        not verified again. One that does not verify hides no other: the rest are marked first.

        Example::

            >>> await client.take_recalls()
            1

        Raises:
            ProbegateError: what ``recalls`` raises; then nothing may be taken for usable.
        """
        marks = await asyncio.to_thread(lambda: tuple(self._kept.marks()))
        known = frozenset((one.number, one.recall_sha256) for one in marks)
        return len([one async for one in self._believed(known)])

    async def acknowledge_recall(
        self, recall_id: str, *, person: Person, person_token: str, action: str
    ) -> None:
        """Say that a recalled candidate is no longer used; not before it is marked here.

        Example::

            >>> await client.acknowledge_recall(
            ...     recall_id,
            ...     person=client.officers.person(OFFICER, option="person"),
            ...     person_token=client.issue_token(OFFICER, Part.OFFICER),
            ...     action="The officer in the case was told, and the copy destroyed.",
            ... )

        Args:
            recall_id: a recall that ``recalls`` has yielded.
            person: who says so.
            person_token: for the part of an officer.
            action: what was done about whatever had been made of it.

        Raises:
            ProbegateError: ``NOTICE_INVALID`` if the recall is not marked here;
                ``RESULT_INVALID``; or the broker's reason.
        """
        marks = await asyncio.to_thread(lambda: tuple(self._kept.marks()))
        mark = next((one for one in marks if one.recall.recall_id == recall_id), None)
        if mark is None:
            raise ProbegateError(Reason.NOTICE_INVALID, "not marked here", field="recall_id")
        said = checked(
            Reason.NOTICE_INVALID,
            lambda: RecallAcknowledgement(
                recall_id=recall_id,
                recall_sha256=mark.recall_sha256,
                force=self.force,
                person=person,
                action=action,
                acknowledged_at=self._clock(),
            ),
        )
        signed = signed_notice(said, self._own_signer)
        response = await self._call(
            lambda stubs: stubs.second.acknowledge,
            wire.acknowledge_request(signed, person_token),
        )
        expected = {
            "type": ACKNOWLEDGED,
            "recall_id": recall_id,
            "acknowledgement_sha256": digest_of(signed).hex(),
        }
        ground = self._ground(said.acknowledged_at)
        check_receipt(wire.read_receipt(response), ground, expected)

    async def _listed(self) -> AsyncIterator[ReceivedRecall]:
        """Yield every recall as the broker lists it, the oldest first; nothing is verified."""
        after = 0
        for _ in range(MAX_RECALL_PAGES):
            request = wire.recalls_request(after)
            response = await self._call(lambda stubs: stubs.second.recalls, request)
            received = wire.read_recalls(response)
            for one in received:
                if one.number <= after:
                    raise ProbegateError(Reason.RESULT_INVALID, "out of order", check="recall")
                after = one.number
                yield one
            if not received:
                return

    async def _believed(
        self, known: frozenset[tuple[int, bytes]] = frozenset()
    ) -> AsyncIterator[RecallView | None]:
        """Verify and mark every recall, None for one that is known; then raise for what is not one.

        Args:
            known: number and digest of recalls that are not verified again.
        """
        unbelieved = None
        async for one in self._listed():
            if (one.number, digest_of(one.recall)) in known:
                yield None
                continue
            try:
                view = await self._marked(one)
            except ProbegateError as error:
                if error.reason is not Reason.RESULT_INVALID:
                    raise
                unbelieved = unbelieved or error
            else:
                yield view
        if unbelieved is not None:
            raise unbelieved

    async def _marked(self, received: ReceivedRecall) -> RecallView:
        """Verify a recall, mark its candidate, and return it."""
        try:
            matter = await self._matter(stated(received).search_id, Reason.RESULT_INVALID)
        except ProbegateError as error:
            if error.reason not in _UNREADABLE:
                raise
            view = verify_recall(received, None, self._ground(proof_time(received.receipt)))
        else:
            view = verify_recall(received, matter, self._ground_of(matter))
        await asyncio.to_thread(self._kept.mark, received.number, received.recall)
        return view
