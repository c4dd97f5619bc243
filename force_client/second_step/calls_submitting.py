"""Submitting what a reviewer found: signed once, and on this force's disk before it is sent.

1. A retry sends the same bytes, and the broker takes the same bytes as the same thing. So whoever
   repeats a submission whose answer was lost, or whose process was killed, is told that it is
   recorded. Signed anew it would be another review, under an id that is used.
2. It is signed anew only after the broker has said that what was sent is not recorded (a token that
   was not valid when it was signed, a sitting that is too old now, other candidates), or where the
   reviewer found otherwise since.
3. What was kept is forgotten once the broker's receipt proves that it is recorded, and not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from force_client.second_step import wire
from force_client.second_step.calls import Connected
from force_client.second_step.checks import Matter
from force_client.second_step.kept import KeptSeat, KeptSitting
from force_client.second_step.models import ReviewStatus, TokenSource, token_from
from force_client.second_step.reviews import check_shape, verify_recorded
from force_client.second_step.sheet import Findings, findings_of
from force_client.second_step.sitting import BlindCandidate, Seat, SittingNotes
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.people import same_person

_NOT_RECORDED: Final = frozenset({Reason.OFFICER_TOKEN_INVALID, Reason.REVIEW_INVALID})
"""What a broker refuses that has not recorded these bytes before (2)."""


class Sitting(SittingNotes):
    """One reviewer at the candidates; from ``client.review``, for one reviewer and one search."""

    _client: SubmittingCalls
    _token: TokenSource
    _sent: tuple[tuple[Envelope, ...], str] | None = None
    _on_disk: KeptSitting | None = None

    async def submit(self, reviewer_token: TokenSource | None = None) -> ReviewStatus:
        """Sign the findings, have them recorded, and return how the reviews stand.

        Repeated after a fault it sends the same bytes again.

        Args:
            reviewer_token: a token that is fresh now, where the sitting's has grown old.

        Raises:
            ProbegateError: ``REVIEW_INVALID`` while a candidate has no finding;
                ``RESULT_INVALID``; or the broker's reason.
        """
        if self._sent is None:
            token = token_from(self._token if reviewer_token is None else reviewer_token)
            signed = self.sign(self._client._own_signer)  # noqa: SLF001 - its own client
            if self._on_disk is not None:
                await self._client._keep_sent(self._on_disk, findings_of(self), signed)  # noqa: SLF001
            self._sent = signed, token
        try:
            status = await self._client._send_reviews(self._matter, *self._sent)  # noqa: SLF001
        except ProbegateError as error:
            if error.reason is Reason.OFFICER_TOKEN_INVALID:  # (2)
                self._sent = None
            raise
        if self._on_disk is not None:  # (3)
            await asyncio.to_thread(self._client._kept.end_sitting, self.review_id)  # noqa: SLF001
        return status

    async def keep(self) -> None:
        """Keep who the letters are, so that findings can be submitted later: a sheet's, or these.

        What was found is kept with them once there is a finding for every candidate
        (``client.kept_findings``).
        """
        kept = KeptSitting(
            review_id=self.review_id,
            search_id=self.search_id,
            reviewer=self.reviewer.id,
            started_at=self.started_at,
            compares=self.probe is not None,  # so keep it before it is put away
            seats=tuple(
                KeptSeat(
                    label=one.candidate.label,
                    agency=one.agency,
                    reference=one.reference,
                    has_image=one.candidate.has_image,
                )
                for one in self.seats
            ),
            findings=None if self.open else findings_of(self),
        )
        await asyncio.to_thread(self._client._kept.keep_sitting, kept)  # noqa: SLF001
        self._on_disk = kept


class SubmittingCalls(Connected):
    """Findings, on their way to the record."""

    async def kept_findings(self, review_id: str) -> Findings:
        """Return what was found at a sitting that was kept and has not been submitted.

        Example::

            >>> findings = await client.kept_findings(review_id)
            >>> len(findings.findings)
            4

        Args:
            review_id: the sitting's id.

        Raises:
            ProbegateError: ``FILE_MISSING`` if none is kept here, or it has no findings.
        """
        kept = await asyncio.to_thread(self._kept.sitting, review_id)
        if kept.findings is None:
            raise ProbegateError(Reason.FILE_MISSING, "its sheet has them", field="findings")
        return kept.findings

    async def submit_findings(
        self, findings: Findings, *, reviewer: Person, reviewer_token: str
    ) -> ReviewStatus:
        """Submit what a reviewer wrote on a sheet that ``Sitting.keep`` went with; safe to repeat.

        Example::

            >>> status = await client.submit_findings(
            ...     read_findings(findings_file),
            ...     reviewer=client.officers.person(REVIEWER, option="reviewer"),
            ...     reviewer_token=client.issue_token(REVIEWER, Part.REVIEWER),
            ... )
            >>> status.open
            True

        Args:
            findings: as the sheet saved them.
            reviewer: the same person.
            reviewer_token: for the part of a reviewer, fresh.

        Raises:
            ProbegateError: ``FILE_MISSING`` if the sheet was not made here, or was submitted;
                ``REVIEW_INVALID``; or what ``Sitting.submit`` raises.
        """
        kept = await asyncio.to_thread(self._kept.sitting, findings.review_id)
        if not same_person(kept.reviewer, reviewer.id) or kept.search_id != findings.search_id:
            raise ProbegateError(
                Reason.REVIEW_INVALID, "another reviewer's sheet", field="reviewer"
            )
        matter = await self._matter(kept.search_id, Reason.REVIEW_INVALID)
        # What an agency found may have been erased since; the work on all others' stands.
        left = [one for one in kept.seats if one.agency not in matter.gone]
        if sorted((one.agency, one.reference) for one in left) != sorted(matter.candidates):
            raise ProbegateError(
                Reason.REVIEW_INVALID, "the search has other candidates now", field="findings"
            )
        seats = tuple(
            Seat(BlindCandidate(one.label, place, one.has_image), one.agency, one.reference, None)
            for place, one in enumerate(kept.seats, 1)
            if one in left
        )
        notes = SittingNotes(matter, reviewer, seats, None, clock=self._clock)
        gone = {one.label for one in kept.seats} - {one.label for one in left}
        noted = {label: one for label, one in findings.noted.items() if label not in gone}
        notes.restore(kept.review_id, kept.started_at, noted, compared=kept.compares)
        status = await self._submitted(kept, findings, notes, matter, reviewer_token)
        await asyncio.to_thread(self._kept.end_sitting, kept.review_id)  # (3)
        return status

    # --- inside -------------------------------------------------------------------------------

    async def _submitted(
        self,
        kept: KeptSitting,
        findings: Findings,
        notes: SittingNotes,
        matter: Matter,
        token: str,
    ) -> ReviewStatus:
        """Send what was signed before, or what is signed now."""
        if kept.sent and kept.findings == findings:  # (1)
            try:
                return await self._send_reviews(matter, kept.signed, token)
            except ProbegateError as error:
                if error.reason not in _NOT_RECORDED:  # (2)
                    raise
        signed = notes.sign(self._own_signer)
        await self._keep_sent(kept, findings, signed)
        return await self._send_reviews(matter, signed, token)

    async def _keep_sent(
        self, kept: KeptSitting, findings: Findings, signed: Sequence[Envelope]
    ) -> None:
        await asyncio.to_thread(self._kept.keep_sent, kept, findings, signed)

    async def _send_reviews(
        self, matter: Matter, reviews: tuple[Envelope, ...], token: str
    ) -> ReviewStatus:
        response = await self._call(
            lambda stubs: stubs.second.review, wire.review_request(reviews, token)
        )
        status = wire.read_status(response)
        verify_recorded(wire.read_receipt(response), reviews, matter, self._ground_of(matter))
        check_shape(status, matter)
        # That all is settled has a receipt of its own.
        return status if status.open else await self.review_status(matter.search_id)
