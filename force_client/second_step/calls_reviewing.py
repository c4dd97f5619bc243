"""The client's methods for reviewers: a sitting, how reviews stand, revoking, corroborating.

What is signed is made once. A retry sends the same bytes, and the broker takes the same bytes as
the same thing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

from force_client.second_step import wire
from force_client.second_step.calls import Connected
from force_client.second_step.checks import Matter, check_receipt
from force_client.second_step.images import Picture, open_images, request_images
from force_client.second_step.kept import KeptSeat, KeptSitting
from force_client.second_step.models import (
    RecordedCorroboration,
    ReviewStatus,
    TokenSource,
    token_from,
)
from force_client.second_step.recalls import CORROBORATED, signed_notice
from force_client.second_step.reviews import (
    REVOKED,
    check_shape,
    digest_of,
    verify_recorded,
    verify_status,
)
from force_client.second_step.sheet import Findings
from force_client.second_step.sitting import (
    BlindCandidate,
    Seat,
    SittingNotes,
    read_probe_image,
    seated,
)
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.people import same_person
from trust.second_step import Corroboration, CorroborationKind, ReviewerRevocation
from trust.wire import checked

IMAGES_WAIT_S: Final = 30.0
"""How much longer than any call the images of one agency may take, seconds."""


class Sitting(SittingNotes):
    """One reviewer at the candidates; from ``client.review``, for one reviewer and one search."""

    _client: ReviewingCalls
    _token: TokenSource
    _sent: tuple[tuple[Envelope, ...], str] | None = None

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
            self._sent = self.sign(self._client._own_signer), token  # noqa: SLF001 - its own client
        try:
            return await self._client._send_reviews(self._matter, *self._sent)  # noqa: SLF001
        except ProbegateError as error:
            if error.reason is Reason.OFFICER_TOKEN_INVALID:  # not recorded: sign anew next time
                self._sent = None
            raise

    async def keep(self) -> None:
        """Keep who the letters are, so that the findings of a sheet can be submitted later."""
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
        )
        await asyncio.to_thread(self._client._kept.keep_sitting, kept)  # noqa: SLF001


class ReviewingCalls(Connected):
    """Review: two people, each by themselves, before anybody has a name (promise 4)."""

    @asynccontextmanager
    async def review(
        self,
        search_id: str,
        *,
        reviewer: Person,
        reviewer_token: TokenSource,
        probe_image: Path | None = None,
        reasons: str = "",
        ticks: Callable[[], float] = monotonic,
    ) -> AsyncIterator[Sitting]:
        """Sit one reviewer down at the candidates of an ended search.

        The search is verified, candidates' images are fetched and opened, and the candidates are
        in a random sequence without score, rank or agency. The probe's image stays here.

        Example::

            >>> async with client.review(
            ...     search_id,
            ...     reviewer=client.officers.person(REVIEWER, option="reviewer"),
            ...     reviewer_token=lambda: client.issue_token(REVIEWER, Part.REVIEWER),
            ...     probe_image=probe_image,
            ... ) as sitting:
            ...     for candidate in sitting.candidates:
            ...         image = sitting.look(candidate)  # time at this candidate begins
            ...         sitting.record(
            ...             candidate,
            ...             Opinion.INCONCLUSIVE,
            ...             reasons="The light is from one side in one image alone.",
            ...         )
            ...     status = await sitting.submit()
            >>> status.open  # another person must review
            True

        Args:
            search_id: the broker's id of the search.
            reviewer: neither its officer nor its authoriser, and accredited.
            reviewer_token: for the part of a reviewer; or what gets a fresh one, since a sitting
                may outlast a token.
            probe_image: the probe's image file; without one every opinion is inconclusive.
            reasons: why the images are needed, where an agreement wants to know.
            ticks: a clock that only rises, seconds.

        Raises:
            ProbegateError: ``REVIEW_INVALID`` for a search that runs or has no candidates,
                ``RESULT_GONE`` for one that has none any more; ``REVIEW_NOT_INDEPENDENT``;
                ``RESULT_INVALID``; or the broker's reason.
        """
        matter = await self._matter(search_id, Reason.REVIEW_INVALID)
        if not matter.reports:
            raise ProbegateError(
                Reason.RESULT_GONE if matter.gone else Reason.REVIEW_INVALID,
                "the search has no candidates",
                field="search_id",
            )
        order = matter.order.order
        if any(same_person(reviewer.id, one.id) for one in (order.officer, order.authoriser)):
            raise ProbegateError(Reason.REVIEW_NOT_INDEPENDENT)
        probe = None if probe_image is None else read_probe_image(probe_image)
        pictures: dict[tuple[str, str], Picture] = {}
        for agency in matter.reports:
            token = token_from(reviewer_token)
            found = await self._images(matter, agency, reviewer, token, reasons)
            pictures |= {(agency, reference): one for reference, one in found.items()}
        sitting = Sitting(
            matter, reviewer, seated(matter, pictures), probe, clock=self._clock, ticks=ticks
        )
        sitting._client, sitting._token = self, reviewer_token  # noqa: SLF001 - made here alone
        try:
            yield sitting
        finally:
            sitting.put_away()

    async def submit_findings(
        self, findings: Findings, *, reviewer: Person, reviewer_token: str
    ) -> ReviewStatus:
        """Submit what a reviewer wrote on a sheet that ``Sitting.keep`` went with.

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
        status = await self._send_reviews(matter, notes.sign(self._own_signer), reviewer_token)
        await asyncio.to_thread(self._kept.end_sitting, kept.review_id)
        return status

    async def review_status(self, search_id: str) -> ReviewStatus:
        """Return how the reviews of a search stand, verified; no opinion while any is needed.

        Example::

            >>> status = await client.review_status(search_id)
            >>> status.reviews < status.needed, status.candidates
            (True, ())

        Raises:
            ProbegateError: ``RESULT_INVALID``, or the broker's reason.
        """
        matter = await self._matter(search_id, Reason.REVIEW_INVALID)
        response = await self._call(
            lambda stubs: stubs.second.review_status, wire.status_request(search_id)
        )
        status, receipt = wire.read_status(response), wire.read_receipt(response)
        return verify_status(status, receipt, matter, self._ground_of(matter))

    async def revoke_reviewer(
        self,
        reviewer_id: str,
        *,
        since: datetime,
        reasons: str,
        person: Person,
        person_token: str,
    ) -> int:
        """Withdraw a reviewer's reviews from an instant on; return how many count no more.

        Example::

            >>> await client.revoke_reviewer(
            ...     "ns-9000",
            ...     since=yesterday,
            ...     reasons="The accreditation was withdrawn.",
            ...     person=client.officers.person(AUTHORISER, option="person"),
            ...     person_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
            ... )
            0

        Args:
            reviewer_id: the reviewer.
            since: reviews that ended then or later do not count.
            reasons: why.
            person: who revokes.
            person_token: for the part of an authoriser.

        Raises:
            ProbegateError: ``NOTICE_INVALID``, ``RESULT_INVALID`` or the broker's reason.
        """
        notice = checked(
            Reason.NOTICE_INVALID,
            lambda: ReviewerRevocation(
                force=self.force,
                reviewer=reviewer_id,
                since=since,
                person=person,
                reasons=reasons,
                revoked_at=self._clock(),
            ),
        )
        signed = signed_notice(notice, self._own_signer)
        response = await self._call(
            lambda stubs: stubs.second.revoke, wire.revoke_request(signed, person_token)
        )
        expected = {
            "type": REVOKED,
            "force": self.force,
            "revocation_sha256": digest_of(signed).hex(),
        }
        ground = self._ground(notice.revoked_at)
        check_receipt(wire.read_receipt(response), ground, expected)
        return int(response.reviews)

    async def corroborate(
        self,
        search_id: str,
        agency: str,
        reference: str,
        *,
        kind: CorroborationKind,
        case_material: str,
        person: Person,
        person_token: str,
    ) -> RecordedCorroboration:
        """Record evidence that does not come from comparing faces; without any nothing is exported.

        Example::

            >>> recorded = await client.corroborate(
            ...     search_id,
            ...     agency,
            ...     reference,
            ...     kind=CorroborationKind.WITNESS,
            ...     case_material="NS/2026/004411, statement 12",
            ...     person=client.officers.person(OFFICER, option="person"),
            ...     person_token=client.issue_token(OFFICER, Part.OFFICER),
            ... )
            >>> recorded.corroboration.kind.value
            'witness'

        Args:
            search_id: the broker's id of the search.
            agency: whose candidate.
            reference: the candidate.
            kind: what kind of evidence.
            case_material: where the case file has it.
            person: who records it.
            person_token: for the part of an officer.

        Raises:
            ProbegateError: ``NOTICE_INVALID``, ``RESULT_INVALID`` or the broker's reason;
                ``RESULT_GONE`` for a candidate whose details were never asked for here.
        """
        order_sha256, ground = await self._candidate(search_id, agency, reference)
        said = checked(
            Reason.NOTICE_INVALID,
            lambda: Corroboration(
                corroboration_id=str(uuid.uuid4()),
                search_id=search_id,
                order_sha256=order_sha256,
                force=self.force,
                agency=agency,
                reference=reference,
                kind=kind,
                case_material=case_material,
                person=person,
                recorded_at=self._clock(),
            ),
        )
        signed = signed_notice(said, self._own_signer)
        response = await self._call(
            lambda stubs: stubs.second.corroborate,
            wire.corroboration_request(signed, person_token),
        )
        expected: dict[str, Any] = {
            "type": CORROBORATED,
            "search_id": search_id,
            "agency": agency,
            "reference": reference,
            "corroboration_sha256": digest_of(signed).hex(),
            "kind": kind.value,
        }
        receipt = check_receipt(wire.read_receipt(response), ground, expected)
        await asyncio.to_thread(self._kept.keep_corroboration, signed, receipt)
        return RecordedCorroboration(said, receipt)

    # --- inside -------------------------------------------------------------------------------

    async def _images(
        self, matter: Matter, agency: str, reviewer: Person, token: str, reasons: str
    ) -> dict[str, Picture]:
        """Return an agency's images; none where its agreement does not let them be sent."""
        signed = request_images(matter, agency, reviewer, reasons, self._own_signer, self._clock())
        request = wire.images_request(signed, token)
        try:
            responses = await self._call(lambda stubs: stubs.second.images, request, IMAGES_WAIT_S)
        except ProbegateError as error:
            if error.reason is Reason.IMAGES_NOT_AGREED:
                return {}
            raise
        received = wire.read_images(responses)
        openers = self._folder.openers()
        return dict(open_images(received, matter, agency, openers, self._ground_of(matter)))

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
