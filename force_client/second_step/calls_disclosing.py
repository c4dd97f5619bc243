"""The client's methods for details: ask for them, follow the request, open, keep and export them.

A request is signed once and on this force's disk before it is sent. Repeated under the same request
id it is the very same bytes, so that a retry can never ask twice. One that did not arrive before
its time was over is made again under its id: no broker takes the old one any more, and ours says
that it does not have it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from force_client.second_step import exporting, wire
from force_client.second_step.calls import Connected
from force_client.second_step.disclosing import (
    PreparedRequest,
    Wanted,
    counted_reviews,
    make_request,
    open_details,
    require_not_withheld,
    require_same,
    verify_disclosure,
)
from force_client.second_step.models import (
    DisclosureSummary,
    DisclosureView,
    OpenedDisclosure,
)
from force_client.settings import MAX_CLOCK_SKEW
from trust import files
from trust.errors import ProbegateError, Reason
from trust.messages import Offence, Person

FIRST_POLL_S: Final = 1.0
"""First pause between two looks at a request that waits, seconds; it doubles."""
LONGEST_POLL_S: Final = 60.0
"""Longest such pause, seconds."""
_AWAY: Final = frozenset({Reason.SERVICE_UNREACHABLE, Reason.DEADLINE_PASSED})
"""Why a look fails while a broker is away."""
MAX_PAGES: Final = 10_000
"""Most pages of one list."""


class DisclosingCalls(Connected):
    """Details, once people have reviewed and the owner has let them go (promise 4)."""

    async def request_disclosure(
        self,
        search_id: str,
        agency: str,
        reference: str,
        *,
        requester: Person,
        requester_token: str,
        facts: str,
        fields: Sequence[str],
        offence: Offence | None = None,
        subject_category: str | None = None,
        request_id: str | None = None,
    ) -> DisclosureView:
        """Ask the owner of a potential candidate for its details; safe to repeat.

        Example::

            >>> view = await client.request_disclosure(
            ...     search_id,
            ...     agency,
            ...     reference,
            ...     requester=client.officers.person(OFFICER, option="requester"),
            ...     requester_token=client.issue_token(OFFICER, Part.OFFICER),
            ...     facts="A robbery; the face is that of whoever held the weapon.",
            ...     fields=("name", "date_of_birth"),
            ... )
            >>> view.state.ended  # people of the owner decide
            False

        Args:
            search_id: the broker's id of the search.
            agency: the owner.
            reference: the candidate.
            requester: who asks; none of the reviewers.
            requester_token: for the part of an officer.
            facts: what happened and why the details are needed; sealed to the owner.
            fields: which details.
            offence: the order's by default.
            subject_category: the order's by default.
            request_id: a UUID; a new one by default.

        Raises:
            ProbegateError: ``REVIEW_MISSING`` unless reviews found a potential candidate;
                ``RESULT_GONE`` once what the agency found is erased; ``STOP_USE``;
                ``DISCLOSURE_INVALID``; ``DISCLOSURE_REPLAYED`` if the request id was used for
                another request; ``RESULT_INVALID``; or the broker's reason.
        """
        matter = await self._matter(search_id, Reason.DISCLOSURE_INVALID)
        why = matter.order.order.justification
        wanted = Wanted(
            agency=agency,
            reference=reference,
            requester=requester,
            facts=facts,
            fields=tuple(fields),
            offence=why.offence if offence is None else offence,
            subject_category=why.subject_category if subject_category is None else subject_category,
        )
        await asyncio.to_thread(self._kept.require_usable, search_id, agency, reference)
        request_id = request_id or str(uuid.uuid4())
        prepared = await asyncio.to_thread(self._kept.request, request_id)
        if prepared is not None:
            require_same(prepared, wanted, search_id, self._salt_key)
        lost = prepared is not None and await self._is_lost(prepared)
        if prepared is None or lost:
            matter.report_of(agency, reference, Reason.DISCLOSURE_INVALID)
            status = await self.review_status(search_id)
            prepared = make_request(
                wanted,
                request_id,
                counted_reviews(status, agency, reference),
                matter,
                salt_key=self._salt_key,
                signer=self._own_signer,
                directory=self.directory,
                now=self._clock(),
            )
            await asyncio.to_thread(self._kept.keep_request, prepared, replace=lost)
        request = wire.disclosure_request(prepared.envelope, prepared.facts, requester_token)
        response = await self._call(lambda stubs: stubs.second.request, request)
        return await self._viewed(response, prepared)

    async def disclosure(self, request_id: str) -> DisclosureView:
        """Return how a request stands, verified; nothing is opened.

        Example::

            >>> view = await client.disclosure(request_id)
            >>> view.state.value
            'released'

        Raises:
            ProbegateError: ``FILE_MISSING`` if the request is not kept here, so that nothing about
                it can be verified; ``RESULT_INVALID``; or the broker's reason.
        """
        return await self._stands(await self._own_request(request_id))

    async def disclosures(
        self, search_id: str = "", page_size: int = 0
    ) -> AsyncIterator[DisclosureSummary]:
        """Yield this force's requests as the broker lists them, the newest first.

        Example::

            >>> async for one in client.disclosures(search_id):
            ...     print(one.agency, one.state)
            custody released

        Args:
            search_id: of this search alone; empty for all.
            page_size: requests in one call; 0 is the broker's default.
        """
        token = ""
        for _ in range(MAX_PAGES):
            request = wire.list_disclosures_request(search_id, page_size, token)
            response = await self._call(lambda stubs: stubs.second.disclosures, request)
            listed, following = wire.read_disclosures(response)
            for one in listed:
                yield DisclosureSummary(
                    one.request_id,
                    one.search_id,
                    one.agency,
                    one.reference,
                    one.state,
                    one.reason,
                    one.created_at,
                    one.decide_by,
                )
            if not following or following == token:
                return
            token = following

    async def await_disclosure(
        self,
        request_id: str,
        timeout: float,  # noqa: ASYNC109 - bounds a stream, not one call
    ) -> AsyncIterator[DisclosureView]:
        """Yield how a request stands, now and whenever that has changed, until it is decided.

        Example::

            >>> async for view in client.await_disclosure(request_id, timeout=3600):
            ...     print(view.state)
            released

        Args:
            request_id: the request.
            timeout: longest wait, seconds; a person decides, so it may take days.

        A broker that is away meanwhile is asked again: it ends no wait before its time.

        Raises:
            ProbegateError: ``DEADLINE_PASSED``; ``SERVICE_UNREACHABLE`` if the broker is away when
                the time is over; or what ``disclosure`` raises.
        """
        kept = await self._own_request(request_id)
        deadline, pause, told = monotonic() + timeout, FIRST_POLL_S, None
        while True:
            ending = ProbegateError(Reason.DEADLINE_PASSED)
            try:
                view = await self._stands(kept)
            except ProbegateError as error:
                if error.reason not in _AWAY:
                    raise
                ending = error
            else:
                if (now := (view.state, view.decide_by)) != told:
                    told, pause = now, FIRST_POLL_S
                    yield view
                if view.state.ended:
                    return
            left = deadline - monotonic()
            if left <= 0:
                raise ending
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_POLL_S)

    async def open_disclosure(self, request_id: str) -> OpenedDisclosure:
        """Open released details and keep them until they are to be deleted; or read the kept ones.

        What was recalled, and whether they are withheld, is asked first: without the broker no
        details are read.

        Example::

            >>> opened = await client.open_disclosure(request_id)
            >>> for one in opened.details.fields:  # what it prints is for no log
            ...     print(one.name, one.nature)
            name fact
            date_of_birth fact
            warning assessment

        Raises:
            ProbegateError: ``STOP_USE`` if the candidate was recalled; ``RELEASE_EXPIRED``;
                ``REVIEWER_REVOKED`` or ``RELEASE_SWITCHED_OFF`` while they are withheld;
                ``NOT_FOUND`` if nothing was released; or what ``take_recalls`` or ``disclosure``
                raises.
        """
        kept = await self._own_request(request_id)
        request = kept.request
        about = (request.search_id, request.agency, request.reference)
        await asyncio.to_thread(self._kept.require_usable, *about)
        opened = await asyncio.to_thread(self._kept.details, request_id)
        if opened is not None and self._clock() >= opened.details.delete_by:
            await self.forget_expired()
            raise ProbegateError(Reason.RELEASE_EXPIRED)
        await self.take_recalls()
        await asyncio.to_thread(self._kept.require_usable, *about)
        view = await self._stands(kept)
        require_not_withheld(view)
        if opened is not None:
            return opened
        ground = self._ground(request.created_at)
        opened = open_details(view, kept, self._folder.openers(), ground)
        if ground.now >= opened.details.delete_by:
            raise ProbegateError(Reason.RELEASE_EXPIRED)
        await asyncio.to_thread(self._kept.keep_details, opened)
        return opened

    async def export(self, request_id: str, path: Path) -> None:
        """Write details to a file that may leave the force: .json, .txt or .html, by its name.

        Example::

            >>> await client.export(request_id, folder / "lead.html")

        Raises:
            ProbegateError: ``CORROBORATION_MISSING`` until evidence that does not come from
                comparing faces is recorded for this candidate; ``STOP_USE``; ``FILE_EXISTS``; or
                what ``open_disclosure`` raises.
        """
        write = exporting.writer_for(path)
        request = (await self._own_request(request_id)).request
        about = (request.search_id, request.agency, request.reference)
        marked = await asyncio.to_thread(self._kept.marked, request.search_id)
        recalled = (request.agency, request.reference) in marked
        evidence = await asyncio.to_thread(self._kept.corroborations, *about)
        now = self._clock()
        exporting.require_exportable(evidence, None, now, recalled=recalled)
        opened = await self.open_disclosure(request_id)
        exporting.require_exportable(evidence, opened.details.delete_by, now, recalled=recalled)
        content = write(exporting.document(opened, evidence, now))
        await asyncio.to_thread(files.sweep, path)  # an export that was killed
        await asyncio.to_thread(files.write_private, path, content.encode())

    async def forget_expired(self) -> int:
        """Delete what is kept here and whose time has come; a client does it while it is open.

        Details go when the agency said, sheets after a month, and orders, requests, evidence and
        which results were shown after ``records_retain_days``.

        Example::

            >>> await client.forget_expired()
            0
        """
        return await asyncio.to_thread(self._forget, self._clock())

    # --- inside -------------------------------------------------------------------------------

    def _forget(self, now: datetime) -> int:
        made = now - timedelta(days=self.settings.records_retain_days)
        forgotten = self._kept.forget_expired(now) + self._kept.forget_records(made)
        return forgotten + self._orders.forget(made) + self._revisions.forget(made)

    async def _own_request(self, request_id: str) -> PreparedRequest:
        kept = await asyncio.to_thread(self._kept.request, request_id)
        if kept is None:
            raise ProbegateError(
                Reason.FILE_MISSING, "the request is not kept, so nothing of it can be verified"
            )
        return kept

    async def _is_lost(self, kept: PreparedRequest) -> bool:
        """Whether a request can arrive no more, and the broker does not have it."""
        request = kept.request
        if self._clock() < request.expires_at + MAX_CLOCK_SKEW:
            return False
        try:
            await self._record(request.request_id)
        except ProbegateError as error:
            if error.reason is not Reason.NOT_FOUND:
                raise
            return True
        return False

    async def _stands(self, kept: PreparedRequest) -> DisclosureView:
        return await self._viewed(await self._record(kept.request.request_id), kept)

    async def _record(self, request_id: str) -> object:
        request = wire.get_disclosure_request(request_id)
        record: object = await self._call(lambda stubs: stubs.second.disclosure, request)
        return record

    async def _viewed(self, response: object, kept: PreparedRequest) -> DisclosureView:
        request = kept.request
        ground = self._ground(request.created_at)
        view = verify_disclosure(wire.read_disclosure(response), kept, ground)
        marked = await asyncio.to_thread(self._kept.marked, request.search_id)
        return replace(view, stop_use=(request.agency, request.reference) in marked)
