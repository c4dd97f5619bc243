"""The second step for code that does not use asyncio: the same methods, blocking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from force_client.second_step.calls_submitting import Sitting
from force_client.second_step.images import Picture
from force_client.second_step.models import (
    DisclosureSummary,
    DisclosureView,
    OpenedDisclosure,
    RecallView,
    RecordedCorroboration,
    ReviewStatus,
    TokenSource,
)
from force_client.second_step.sheet import Findings
from force_client.second_step.sitting import BlindCandidate
from trust.messages import Offence, Person
from trust.second_step import CorroborationKind, Opinion

if TYPE_CHECKING:
    from force_client.client import AsyncForceClient

_Made = TypeVar("_Made")


class BlockingSitting:
    """One reviewer at the candidates; every method does what that of ``Sitting`` does."""

    def __init__(self, sitting: Sitting, owner: BlockingSecondStep) -> None:
        self._sitting, self._owner = sitting, owner

    def __repr__(self) -> str:
        return repr(self._sitting)

    @property
    def review_id(self) -> str:
        """The sitting's id."""
        return self._sitting.review_id

    @property
    def candidates(self) -> tuple[BlindCandidate, ...]:
        """Every candidate, in this sitting's sequence."""
        return self._sitting.candidates

    @property
    def open(self) -> tuple[BlindCandidate, ...]:
        """The candidates that have no finding yet."""
        return self._sitting.open

    @property
    def probe(self) -> Picture | None:
        """The probe's image, which stays here."""
        return self._sitting.probe

    def look(self, candidate: BlindCandidate) -> Picture | None:
        """Show a candidate beside the probe: time at it begins."""
        return self._sitting.look(candidate)

    def record(
        self,
        candidate: BlindCandidate,
        opinion: Opinion,
        *,
        reasons: str,
        disconfirming: str = "",
    ) -> None:
        """Note what the reviewer makes of a candidate."""
        self._sitting.record(candidate, opinion, reasons=reasons, disconfirming=disconfirming)

    def submit(self, reviewer_token: TokenSource | None = None) -> ReviewStatus:
        """Sign the findings, have them recorded, and return how the reviews stand."""
        return self._owner._run(self._sitting.submit(reviewer_token))  # noqa: SLF001 - its own client


class BlockingSecondStep(ABC):
    """Every method does what the one of the same name does on ``AsyncForceClient``."""

    _client: AsyncForceClient

    @abstractmethod
    def _run(self, work: Coroutine[Any, Any, _Made]) -> _Made: ...

    @abstractmethod
    def _iterate(self, items: AsyncIterator[_Made]) -> Iterator[_Made]: ...

    @contextmanager
    def review(
        self,
        search_id: str,
        *,
        reviewer: Person,
        reviewer_token: TokenSource,
        probe_image: Path | None = None,
        reasons: str = "",
    ) -> Iterator[BlockingSitting]:
        """Sit one reviewer down at the candidates of an ended search."""
        sitting = self._client.review(
            search_id,
            reviewer=reviewer,
            reviewer_token=reviewer_token,
            probe_image=probe_image,
            reasons=reasons,
        )
        opened = self._run(sitting.__aenter__())
        try:
            yield BlockingSitting(opened, self)
        finally:
            self._run(sitting.__aexit__(None, None, None))

    def kept_findings(self, review_id: str) -> Findings:
        """Return what was found at a sitting that was kept and has not been submitted."""
        return self._run(self._client.kept_findings(review_id))

    def submit_findings(
        self, findings: Findings, *, reviewer: Person, reviewer_token: str
    ) -> ReviewStatus:
        """Submit what a reviewer wrote on a sheet."""
        return self._run(
            self._client.submit_findings(findings, reviewer=reviewer, reviewer_token=reviewer_token)
        )

    def review_status(self, search_id: str) -> ReviewStatus:
        """Return how the reviews of a search stand, verified."""
        return self._run(self._client.review_status(search_id))

    def revoke_reviewer(
        self,
        reviewer_id: str,
        *,
        since: datetime,
        reasons: str,
        person: Person,
        person_token: str,
    ) -> int:
        """Withdraw a reviewer's reviews; return how many count no more."""
        return self._run(
            self._client.revoke_reviewer(
                reviewer_id, since=since, reasons=reasons, person=person, person_token=person_token
            )
        )

    def corroborate(
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
        """Record evidence that does not come from comparing faces."""
        return self._run(
            self._client.corroborate(
                search_id,
                agency,
                reference,
                kind=kind,
                case_material=case_material,
                person=person,
                person_token=person_token,
            )
        )

    def request_disclosure(
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
        """Ask the owner of a potential candidate for its details; safe to repeat."""
        return self._run(
            self._client.request_disclosure(
                search_id,
                agency,
                reference,
                requester=requester,
                requester_token=requester_token,
                facts=facts,
                fields=fields,
                offence=offence,
                subject_category=subject_category,
                request_id=request_id,
            )
        )

    def disclosure(self, request_id: str) -> DisclosureView:
        """Return how a request stands, verified."""
        return self._run(self._client.disclosure(request_id))

    def disclosures(self, search_id: str = "", page_size: int = 0) -> Iterator[DisclosureSummary]:
        """Yield this force's requests as the broker lists them, the newest first."""
        return self._iterate(self._client.disclosures(search_id, page_size))

    def await_disclosure(self, request_id: str, timeout: float) -> Iterator[DisclosureView]:
        """Yield how a request stands, now and whenever that has changed, until it is decided."""
        return self._iterate(self._client.await_disclosure(request_id, timeout))

    def open_disclosure(self, request_id: str) -> OpenedDisclosure:
        """Open released details, or read the kept ones."""
        return self._run(self._client.open_disclosure(request_id))

    def export(self, request_id: str, path: Path) -> None:
        """Write details to a file that may leave the force."""
        self._run(self._client.export(request_id, path))

    def forget_expired(self) -> int:
        """Delete what is kept here and whose time has come."""
        return self._run(self._client.forget_expired())

    def report_wrong_match(
        self,
        search_id: str,
        agency: str,
        reference: str,
        *,
        reporter: Person,
        reporter_token: str,
        reasons: str,
    ) -> str:
        """Report that a candidate is not the person sought."""
        return self._run(
            self._client.report_wrong_match(
                search_id,
                agency,
                reference,
                reporter=reporter,
                reporter_token=reporter_token,
                reasons=reasons,
            )
        )

    def recalls(self) -> Iterator[RecallView]:
        """Yield what agencies recalled, verified and marked, the oldest first."""
        return self._iterate(self._client.recalls())

    def take_recalls(self) -> int:
        """Read every recall and mark its candidate; return how many there are."""
        return self._run(self._client.take_recalls())

    def acknowledge_recall(
        self, recall_id: str, *, person: Person, person_token: str, action: str
    ) -> None:
        """Say that a recalled candidate is no longer used."""
        self._run(
            self._client.acknowledge_recall(
                recall_id, person=person, person_token=person_token, action=action
            )
        )
