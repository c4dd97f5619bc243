"""What holds of everything that a force sends after a search, in whoever's name.

1. It is no larger than the limit, of its own payload type, and signed by keys that the directory
   lists for the force that owns the channel. Nothing is decoded before that holds.
2. It names that force and no other.
3. Whoever stands for it holds a token of the force, for their part, bound to this very channel, and
   it says of them what the token says.
4. It is about a search of that force, by its id and its order's digest, that has ended and whose
   results are not gone; where it is about candidates of one agency, what that agency found is not.
   Another force's search and one that never was get the same answer.
5. It is of this moment: not from the future beyond clock skew, and not older than its kind may be.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from broker.admission import says_the_same
from broker.models import SearchRecord, SearchState
from broker.second_step.rules import Listed
from broker.settings import MAX_TOKEN_CHARS
from broker.store import SearchStore
from trust import dsse
from trust.directory import Directory, KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import Model, OutcomeState, Person
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.tokens import Part, verify_token
from trust.wire import decode, decode_report

MAX_STATEMENT_BYTES: Final = 1024 * 1024
"""Largest payload that a force signs after a search, bytes: reasons on every candidate."""
MAX_STATEMENT_AGE: Final = timedelta(minutes=10)
"""How long after it was made a statement is taken."""

_Said = TypeVar("_Said", bound=Model)


class _AboutASearch(Protocol):
    @property
    def search_id(self) -> str: ...

    @property
    def order_sha256(self) -> bytes: ...


class _OfCandidates(Protocol):
    @property
    def agency(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose channel it is, and what is known of its members at this instant."""

    peer: PeerIdentity
    directory: Directory
    now: datetime

    @property
    def force(self) -> str:
        """The force's directory id."""
        return self.peer.member.id

    def opened(self, envelope: Envelope, kind: PayloadType, model: type[_Said]) -> _Said:
        """Verify and decode what the force signed (1) (2).

        Raises:
            ProbegateError: ``MESSAGE_TOO_LARGE``, the envelope's or the key's reason, the
                message's own, or ``CHANNEL_ROLE``.
        """
        self.directory.require_current(self.now)
        if len(envelope.payload) > MAX_STATEMENT_BYTES:
            raise ProbegateError(Reason.MESSAGE_TOO_LARGE, field="payload")
        resolve = self.directory.resolver(self.force, KeyUse.SIGN, self.now)
        dsse.verify(envelope, kind, resolve)
        said = decode(model, envelope.payload)
        if getattr(said, "force", None) != self.force:
            raise ProbegateError(Reason.CHANNEL_ROLE, field="force")
        return said

    def require_person(self, token: str, part: Part, person: Person) -> None:
        """Check who stands for it (3).

        Raises:
            ProbegateError: ``OFFICER_TOKEN_INVALID``.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check="format")
        claims = verify_token(
            token,
            resolve=self.directory.resolver(self.force, KeyUse.IDENTITY, self.now),
            force_id=self.force,
            channel_cert_sha256=self.peer.certificate_sha256,
            now=self.now,
            part=part,
        )
        if not says_the_same(claims, person):
            raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check=f"{part.value} in the request")

    def require_fresh(self, made_at: datetime, skew: timedelta, reason: Reason, field: str) -> None:
        """Check that something is of this moment (5).

        Raises:
            ProbegateError: ``reason``.
        """
        if not self.now - MAX_STATEMENT_AGE <= made_at <= self.now + skew:
            raise ProbegateError(reason, "not of this moment", field=field)


async def ended_search(
    store: SearchStore, force: str, said: _AboutASearch, reason: Reason
) -> SearchRecord:
    """Return the force's own search that something is about (4).

    Raises:
        ProbegateError: ``NOT_FOUND``; ``reason`` for one that has not ended; ``RESULT_GONE``.
    """
    record = await store.get(force, said.search_id)
    if record is None or record.order_sha256 != said.order_sha256:
        raise ProbegateError(Reason.NOT_FOUND)
    if results_are_gone(record):
        raise ProbegateError(Reason.RESULT_GONE)
    if record.state is SearchState.RUNNING or record.result is None:
        raise ProbegateError(reason, "the search has not ended", field="search_id")
    return record


def results_are_gone(record: SearchRecord) -> bool:
    """Whether what a search found was erased when its time was over (``broker.retention``)."""
    return record.result_leaf_index is not None and record.result is None


def found_is_gone(record: SearchRecord, agency: str) -> bool:
    """Whether what one agency found was erased when its time was over, or all of the search was."""
    return results_are_gone(record) or any(
        one.outcome.agency == agency and one.outcome.erased_at is not None for one in record.answers
    )


def require_listed(
    record: SearchRecord,
    said: _OfCandidates,
    references: Collection[str],
    reason: Reason,
    field: str = "reference",
) -> Listed:
    """Return the candidates of the agency that something is about, and of which it names some (4).

    Raises:
        ProbegateError: ``RESULT_GONE`` if what that agency found was erased; ``reason`` if the
            result as it stands does not have them.
    """
    if found_is_gone(record, said.agency):
        raise ProbegateError(Reason.RESULT_GONE, agency=said.agency)
    listed = listed_by(record, said.agency)
    if listed is None or not set(references) <= set(listed.references):
        raise ProbegateError(reason, field=field)
    return listed


def listed_in(record: SearchRecord) -> tuple[Listed, ...]:
    """Return the candidates of a search's result as it stands now, in the order's sequence.

    Reports that are kept were verified when they came.
    """
    found = []
    for answer in record.answers:
        if answer.report is None or answer.outcome.state is not OutcomeState.CANDIDATES:
            continue
        report = decode_report(answer.report.payload)
        if report.candidates:
            references = tuple(one.reference for one in report.candidates)
            found.append(Listed(report.agency, answer.outcome.report_sha256, references))
    return tuple(found)


def listed_still(record: SearchRecord) -> tuple[Listed, ...]:
    """Return the candidates of a search's result as ``listed_in`` does.

    Raises:
        ProbegateError: ``RESULT_GONE`` if there were some and all of them were erased.
    """
    listed = listed_in(record)
    if not listed and any(one.outcome.erased_at is not None for one in record.answers):
        raise ProbegateError(Reason.RESULT_GONE)
    return listed


def listed_by(record: SearchRecord, agency: str) -> Listed | None:
    """Return the candidates of one agency, if it listed any."""
    return next((one for one in listed_in(record) if one.agency == agency), None)
