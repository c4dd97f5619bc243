"""The force's client: what a force's system calls to search, follow, read and verify.

1. What is sent is made once. A retry sends the same bytes under the same request id, so it can
   never search twice (``calling``).
2. Nothing a broker says is returned before ``force_client.verify`` has checked it, and no result
   that is older than one that was shown before (``revisions``).
3. The directory is read again as it changes, and never an older one; past its end nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import grpc

from force_client import wire
from force_client.calling import Caller, Renewing
from force_client.connection import Connection, broker_of
from force_client.models import (
    AgencyOutcome,
    Explanation,
    OrderDraft,
    ReceivedSearch,
    SearchSummary,
    SearchView,
)
from force_client.officers import Officers, issue_token
from force_client.orderbook import OrderBook
from force_client.orders import (
    PreparedSearch,
    SignedOrder,
    build_order,
    manifest_without_probe,
    prepare,
)
from force_client.probes import Probe, load_salt_key
from force_client.revisions import RevisionBook, Seen
from force_client.second_step.calls_disclosing import DisclosingCalls
from force_client.second_step.calls_recalls import RecallingCalls
from force_client.second_step.calls_reviewing import ReviewingCalls
from force_client.settings import ForceSettings
from force_client.verify import Witness, verify_answer, verify_gone, verify_search
from trust import dsse, telemetry
from trust.chores import keep_doing
from trust.clock import Clock, utc_now
from trust.directory import Directory, Member, Role
from trust.directory_store import DirectoryStore
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.member_folder import MemberFolder
from trust.messages import Person, SearchOrder, UrgentConfirmation
from trust.payload_types import PayloadType
from trust.tokens import Part
from trust.wire import checked, encode_confirmation

DEFAULT_DIMS: Final = 512
"""Dimensions a preview states where the caller does not."""
DEFAULT_WAIT_MARGIN_S: Final = 2.0
"""How much longer than the agencies' time ``search`` waits by default, seconds."""


class AsyncForceClient(ReviewingCalls, DisclosingCalls, RecallingCalls):
    """A force's connection to its broker; use it as an async context manager.

    Args:
        settings: where the force's keys, directory and state are.
        clock: the time.
    """

    def __init__(self, settings: ForceSettings, *, clock: Clock = utc_now) -> None:
        self.settings = settings
        self._clock = clock
        self._folder = MemberFolder(settings.member_folder)
        self._store = DirectoryStore(
            settings.directory, settings.scheme_key, settings.directory_floor
        )
        self._connection = Connection(settings, self._folder)
        self._caller = Caller(settings, self._connection)
        self._orders = OrderBook(settings.orders if settings.keep_orders else None)
        self._revisions = RevisionBook(settings.revisions if settings.keep_orders else None)
        self._request_of: dict[str, str] = {}
        self._refreshed_at = float("-inf")
        self._signer: Signer | None = None
        self._salt_key = b""
        self.force = ""
        """This force's directory id, once open."""
        self.officers = Officers({})
        """The people of the officers file, once open."""

    async def __aenter__(self) -> Self:
        """Load keys and directory, and get ready to call; nothing is sent yet.

        Raises:
            ProbegateError: ``FILE_MISSING``, ``KEY_FILE_INVALID``, ``CONFIG_INVALID`` or one of
                the directory's reasons.
        """
        self.force = self._folder.member().id
        self.officers = Officers.load(self.settings.officers)
        self._salt_key = load_salt_key(self.settings.salt_key)
        self._refresh()
        self.directory.member(self.force, Role.FORCE)
        await self.forget_expired()
        self._forgetting = asyncio.create_task(
            keep_doing([self.forget_expired], self.settings.forget_interval_s, logging.WARNING)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the broker; searches under way go on there."""
        self._forgetting.cancel()
        await asyncio.wait({self._forgetting})
        await self._connection.close()

    # --- what is known here -------------------------------------------------------------------

    @property
    def directory(self) -> Directory:
        """The directory in use."""
        return self._store.current

    @property
    def broker(self) -> Member:
        """The broker's directory entry."""
        return broker_of(self.directory, self.settings.broker)

    @property
    def agencies(self) -> tuple[str, ...]:
        """The ids of every agency of the directory, in its order."""
        return tuple(member.id for member in self.directory.members(Role.AGENCY))

    def issue_token(self, officer_id: str, part: Part) -> str:
        """Issue a token for a person of the officers file, where this force is its own provider.

        Raises:
            ProbegateError: ``ORDER_INVALID`` for a person not listed; ``FILE_MISSING`` where the
                identity key is kept elsewhere.
        """
        person = self.officers.person(officer_id, option=part.value)
        unit = self.officers.by_id[officer_id].unit
        return issue_token(self._folder, person, unit, part, self._clock())

    # --- searching ----------------------------------------------------------------------------

    def prepare(
        self, draft: OrderDraft, probe: Probe, *, request_id: str | None = None
    ) -> PreparedSearch:
        """Build, sign and seal a search without sending it.

        Args:
            draft: the facts.
            probe: the template.
            request_id: a UUID; a new one by default.

        Raises:
            ProbegateError: ``ORDER_INVALID``, ``AGENCY_UNKNOWN`` or ``KEY_UNKNOWN``.
        """
        self._refresh()
        return prepare(
            draft,
            probe,
            salt_key=self._salt_key,
            signer=self._own_signer,
            force=self.force,
            directory=self.directory,
            request_id=request_id or str(uuid.uuid4()),
            now=self._clock(),
        )

    async def search(
        self,
        draft: OrderDraft,
        probe: Probe,
        *,
        officer_token: str,
        authoriser_token: str,
        wait: float | None = None,
        request_id: str | None = None,
    ) -> SearchView:
        """Search, wait for the end and verify it.

        Args:
            draft: the facts.
            probe: the template.
            officer_token: from the force's identity provider.
            authoriser_token: the same for the person who authorised.
            wait: longest wait for the end, seconds; by default what the agencies may take and a
                little more. A search that is still running comes back with ``verified`` false.
            request_id: a UUID; a new one by default.

        Raises:
            ProbegateError: ``RESULT_INVALID`` if anything in the answer does not verify, or the
                broker's reason.
        """
        prepared = self.prepare(draft, probe, request_id=request_id)
        if wait is None:
            wait = draft.limits.timeout_ms / 1000 + DEFAULT_WAIT_MARGIN_S
        return await self.create(
            prepared, officer_token=officer_token, authoriser_token=authoriser_token, wait=wait
        )

    async def create(
        self,
        prepared: PreparedSearch,
        *,
        officer_token: str,
        authoriser_token: str,
        wait: float = 0.0,
    ) -> SearchView:
        """Send a prepared search; safe to repeat.

        Args:
            prepared: from ``prepare``.
            officer_token: from the force's identity provider.
            authoriser_token: the same for the person who authorised.
            wait: longest wait for the end, seconds; 0 returns once the search is recorded.

        Raises:
            ProbegateError: as ``search``.
        """
        await asyncio.to_thread(self._orders.keep, prepared.order)
        waited = min(max(wait, 0.0), self.settings.max_wait_s)
        request = wire.create_request(  # (1)
            prepared, officer_token, authoriser_token, round(waited * 1000)
        )
        with telemetry.span("create search"):
            response = await self._call(lambda stubs: stubs.create, request, waited)
        return await self._verified(wire.read_search(response), prepared.order)

    async def watch(self, search_id: str) -> AsyncIterator[AgencyOutcome | SearchView]:
        """Yield each agency's outcome as it comes, those known first, then the ended search.

        A lost connection is made again, for as long as ``watch_timeout_s``, and nothing is yielded
        twice.

        Raises:
            ProbegateError: ``RESULT_INVALID``, or the broker's reason.
        """
        order = await self._order_of(search_id)
        request = wire.watch_request(search_id)
        told: set[str] = set()
        renewing = Renewing(self.settings)
        while True:
            fault: grpc.aio.AioRpcError | None = None
            renewing.begins()
            try:
                async with aclosing(self._events(request)) as events:
                    async for event in events:
                        received = wire.read_event(event)
                        if isinstance(received, ReceivedSearch):
                            yield await self._verified(_expected(received, search_id), order)
                            return
                        if received.outcome.agency not in told:
                            told.add(received.outcome.agency)
                            renewing.told()
                            yield verify_answer(received, search_id, self._witness(order))
            except grpc.aio.AioRpcError as error:
                fault = error
            await renewing.pause(fault)

    async def get(self, search_id: str) -> SearchView:
        """Read one search and verify it.

        Raises:
            ProbegateError: ``RESULT_INVALID``; ``FILE_MISSING`` if its order is not kept here, so
                that it cannot be verified; or the broker's reason.
        """
        received = await self._received(search_id)
        return await self._verified(received, self._orders.find(received.request_id))

    async def list(self, page_size: int = 0) -> AsyncIterator[SearchSummary]:
        """Yield this force's searches, the newest first, page by page.

        Args:
            page_size: searches in one call; 0 is the broker's default.
        """
        token = ""
        while True:
            request = wire.list_request(page_size, token)
            response = await self._call(lambda stubs: stubs.list, request)
            searches, following = wire.read_page(response)
            for summary in searches:
                yield summary
            if not following or following == token:
                return
            token = following

    async def cancel(self, search_id: str) -> SearchView:
        """End a search now; agencies that have not answered become outcomes that say so."""
        response = await self._call(lambda stubs: stubs.cancel, wire.cancel_request(search_id))
        received = _expected(wire.read_search(response), search_id)
        return await self._verified(received, self._orders.find(received.request_id))

    async def confirm_urgent(
        self, search_id: str, confirmer: Person, *, confirmer_token: str, reasons: str
    ) -> SearchView:
        """Confirm in writing a search that was made on the urgent route; safe to repeat.

        Args:
            search_id: the broker's id of the search.
            confirmer: another person than the officer, of the rank its decisions name.
            confirmer_token: from the force's identity provider, for the part of an authoriser.
            reasons: why the urgent route was right, in the confirmer's words.

        Raises:
            ProbegateError: ``CONFIRMATION_INVALID`` for a search or a person that does not fit,
                ``FILE_MISSING`` if its order is not kept here, ``RESULT_INVALID`` with ``check``
                ``confirmation`` if the answer does not say that it is confirmed, or the broker's
                reason.
        """
        order = await self._order_to_confirm(search_id)
        confirmation = checked(
            Reason.CONFIRMATION_INVALID,
            lambda: UrgentConfirmation(
                search_id=search_id,
                order_sha256=order.sha256,
                force=self.force,
                confirmer=confirmer,
                confirmed_at=self._clock(),
                reasons=reasons,
            ),
        )
        payload = encode_confirmation(confirmation)
        signed = dsse.sign(PayloadType.URGENT_CONFIRMATION, payload, self._own_signer)
        request = wire.confirm_request(signed, confirmer_token)  # (1)
        response = await self._call(lambda stubs: stubs.confirm, request)
        received = _expected(wire.read_search(response), search_id)
        at = received.confirmed_at
        if at is None or not self._witness(order).ground.in_time(at):  # (2)
            raise ProbegateError(Reason.RESULT_INVALID, "not confirmed", check="confirmation")
        if received.state.ended and received.result is None:
            return verify_gone(received, self._witness(order))
        return await self._verified(received, order)

    # --- only thinking about it ---------------------------------------------------------------

    async def preview(
        self, draft: OrderDraft, *, model: str | None = None, dims: int = DEFAULT_DIMS
    ) -> Explanation:
        """Return what would be decided for each agency, and what is expected, without a search.

        Args:
            draft: the facts.
            model: the template model; the settings' by default.
            dims: its dimensions.
        """
        request = wire.preview_request(self._thought(draft, model, dims))
        response = await self._call(lambda stubs: stubs.preview, request)
        return wire.read_preview(response)

    async def explain(
        self, draft: OrderDraft, *, model: str | None = None, dims: int = DEFAULT_DIMS
    ) -> Explanation:
        """Return the decisions of ``preview`` with a paragraph for each agency."""
        request = wire.explain_request(self._thought(draft, model, dims))
        return wire.read_explanation(await self._call(lambda stubs: stubs.explain, request))

    # --- inside -------------------------------------------------------------------------------

    def _thought(self, draft: OrderDraft, model: str | None, dims: int) -> SearchOrder:
        return build_order(
            draft,
            manifest_without_probe(model or self.settings.model, dims),
            force=self.force,
            request_id=str(uuid.uuid4()),
            now=self._clock(),
        )

    def _refresh(self) -> None:
        """Take up a changed directory, certificate or signing key (3)."""
        if monotonic() - self._refreshed_at < self.settings.reload_interval_s:
            self.directory.require_current(self._clock())
            return
        directory = self._store.reload_if_changed(self._clock())
        self._connection.refresh(directory, broker_of(directory, self.settings.broker))
        self._signer = self._folder.signer()
        self._refreshed_at = monotonic()

    @property
    def _own_signer(self) -> Signer:
        if self._signer is None:
            raise ProbegateError(Reason.CONFIG_INVALID, "the client is not open")
        return self._signer

    def _witness(self, order: SignedOrder) -> Witness:
        return Witness(order, self.directory, self.broker.id, self._clock())

    async def _verified(self, received: ReceivedSearch, order: SignedOrder) -> SearchView:
        view = verify_search(received, self._witness(order))  # (2)
        if received.result is not None and view.verified:
            seen = Seen(
                revision=view.revision,
                result_sha256=sha256(received.result.payload).hexdigest(),
                ordered_at=order.order.created_at,
            )
            await asyncio.to_thread(self._revisions.require_newest, view.search_id, seen)
        view = replace(view, stop_use=self._kept.marked(view.search_id))
        self._request_of[view.search_id] = view.request_id
        if view.state.ended:
            self._request_of.pop(view.search_id)
        return view

    async def _order_of(self, search_id: str) -> SignedOrder:
        known = self._request_of.get(search_id)
        if known is None:
            known = (await self._received(search_id)).request_id
        return self._orders.find(known)

    async def _order_to_confirm(self, search_id: str) -> SignedOrder:
        """Return a search's order, also where its results' time is over: it is listed still."""
        try:
            return await self._order_of(search_id)
        except ProbegateError as error:
            if error.reason is not Reason.RESULT_GONE:
                raise
            async for summary in self.list():
                if summary.search_id == search_id:
                    return self._orders.find(summary.request_id)
            raise

    async def _received(self, search_id: str) -> ReceivedSearch:
        response = await self._call(lambda stubs: stubs.get, wire.get_request(search_id))
        return _expected(wire.read_search(response), search_id)

    async def _call(
        self, method: Callable[[wire.BrokerStubs], Any], request: Any, waited: float = 0.0
    ) -> Any:
        self._refresh()
        return await self._caller.call(method, request, waited)

    def _events(self, request: Any) -> AsyncGenerator[Any, None]:
        self._refresh()
        return self._caller.stream(lambda stubs: stubs.watch, request)


def _expected(received: ReceivedSearch, search_id: str) -> ReceivedSearch:
    if received.search_id != search_id:
        raise ProbegateError(Reason.RESULT_INVALID, "another search", check="search_id")
    return received
