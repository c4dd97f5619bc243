"""What an adapter reports of one search, as far as its duties allow.

1. An answer that a person must release is HELD whatever was found: that it waits must not say that
   there is something. What would have been reported is kept beside it and does not leave the
   agency before its people have decided (``deciding``). An answer is also held because of who must
   be asked about a record in it (``ReleaseRule``).
2. In hit/no-hit mode the report says that something is held, never what, how many or how like.
3. Otherwise each candidate is an opaque reference with its score and, where a calibration holds for
   this probe, what that score is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from agency_adapters.calibration.artefact import ScoreScale
from agency_adapters.checks import Admitted, matcher_switches
from agency_adapters.galleries.gallery import Found, GalleryFacts
from agency_adapters.galleries.store import size_class
from agency_adapters.models import Finding, FoundRecord, Hold
from agency_adapters.references import References
from policy.standing import switches_of
from trust.messages import (
    HIT_ONLY,
    TO_BE_RELEASED,
    Candidate,
    MatchReport,
    Obligations,
    OutcomeState,
)
from trust.wire import encode_order


@dataclass(frozen=True, slots=True)
class Reporting:
    """What every report of one request has in common.

    Attributes:
        agency: this agency's member id.
        admitted: the request.
        gallery: what the gallery says about itself.
        policy_sha256: the digest of the agreements decided under.
        now: when the request was decided.
        broker: the member id of the broker that asked.
        owner_reviewers: how many people must release what is held.
        decide_within: how long they have.
        scale: what scores are worth for this probe; None where they are raw.
    """

    agency: str
    admitted: Admitted
    gallery: GalleryFacts
    policy_sha256: bytes
    now: datetime
    broker: str
    owner_reviewers: int
    decide_within: timedelta
    scale: ScoreScale | None = None

    def report(self, state: OutcomeState, **more: Any) -> MatchReport:
        """Return a report in this state."""
        return MatchReport(
            search_id=self.admitted.grant.search_id,
            agency=self.agency,
            order_sha256=self.admitted.order_sha256,
            grant_sha256=self.admitted.grant_sha256,
            state=state,
            gallery_generation=self.gallery.generation,
            policy_sha256=self.policy_sha256,
            reported_at=self.now,
            **more,
        )

    def finding(
        self,
        found: Found,
        duties: Obligations,
        references: References,
        ask: tuple[str, ...] = (),
    ) -> Finding:
        """Report what a search found, as far as the duties allow.

        Args:
            found: what it found.
            duties: what to keep.
            references: makes opaque references.
            ask: who must be asked about a record in it.
        """
        plain = self._plain(found, duties, references)
        if not duties.release_by_human and not ask:
            return plain
        said = plain.report  # (1)
        held = self.report(
            OutcomeState.HELD,
            reason=TO_BE_RELEASED,
            matcher=said.matcher,
            threshold=said.threshold,
            gallery_class=said.gallery_class,
            exact=said.exact,
        )
        return replace(plain, report=held, hold=self._hold(said, ask))

    def _hold(self, withheld: MatchReport, ask: tuple[str, ...]) -> Hold:
        order = self.admitted.order
        why, model = order.justification, order.probe.model
        names = switches_of(self.agency, order.force, why.purpose, model)
        switches = {*names, *matcher_switches(self.gallery.matcher)}
        return Hold(
            withheld=withheld,
            broker=self.broker,
            order=encode_order(order),
            needed=self.owner_reviewers,
            ask=ask,
            switches=tuple(sorted(switches)),
            decide_by=self.now + self.decide_within,
        )

    def _plain(self, found: Found, duties: Obligations, references: References) -> Finding:
        """Report what a search found as if nobody had to release it."""
        searched = {
            "matcher": self.gallery.matcher,
            "threshold": duties.min_score,
            "gallery_class": size_class(found.eligible) if self.gallery.counted else "",
            "exact": self.gallery.exact,
            **self._calibrated(),
        }
        search_id = self.admitted.grant.search_id
        records = tuple(
            FoundRecord(
                references.reference(search_id, one.record_id), one.record_id, rank, one.score
            )
            for rank, one in enumerate(found.candidates, start=1)
        )
        if not records:
            return Finding(self.report(OutcomeState.NO_CANDIDATE, **searched))
        if duties.hit_no_hit:  # (2)
            hit = self.report(OutcomeState.CANDIDATES, reason=HIT_ONLY, **searched)
            return Finding(hit, records)
        listed = tuple(self.candidate(record, found.eligible) for record in records)  # (3)
        return Finding(self.report(OutcomeState.CANDIDATES, candidates=listed, **searched), records)

    def candidate(self, record: FoundRecord, eligible: int) -> Candidate:
        """Return what is said of one record, found among so many eligible ones (3)."""
        scale, score = self.scale, record.score
        return Candidate(
            reference=record.reference,
            score=score,
            rank=record.rank,
            log10_lr=scale.log10_lr(score) if scale else None,
            expected_false=scale.expected_false(score, eligible) if scale else None,
        )

    def _calibrated(self) -> dict[str, Any]:
        """Return which calibration a report states, if any."""
        if self.scale is None:
            return {}
        return {
            "calibration": self.scale.name,
            "calibration_sha256": self.scale.sha256,
            "calibration_expires_at": self.scale.expires_at,
        }
