"""The client's methods for reviewers: a sitting, how reviews stand, revoking, corroborating."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final

from force_client.second_step import wire
from force_client.second_step.calls_submitting import Sitting, SubmittingCalls
from force_client.second_step.checks import Matter, check_receipt
from force_client.second_step.images import Picture, open_images, request_images
from force_client.second_step.models import (
    RecordedCorroboration,
    ReviewStatus,
    TokenSource,
    token_from,
)
from force_client.second_step.recalls import CORROBORATED, signed_notice
from force_client.second_step.reviews import REVOKED, digest_of, verify_status
from force_client.second_step.sitting import read_probe_image, seated
from trust.errors import ProbegateError, Reason
from trust.messages import Person
from trust.people import same_person
from trust.second_step import Corroboration, CorroborationKind, ReviewerRevocation
from trust.wire import checked

IMAGES_WAIT_S: Final = 30.0
"""How much longer than any call the images of one agency may take, seconds."""


class ReviewingCalls(SubmittingCalls):
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
        verified = verify_status(status, receipt, matter, self._ground_of(matter))
        marked = await asyncio.to_thread(self._kept.marked, search_id)
        return replace(verified, stop_use=marked)

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
