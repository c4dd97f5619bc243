"""What an adapter reports of one search, as far as its duties allow.

1. An answer that a person must release is HELD whatever was found: that it waits must not say that
   there is something.
2. In hit/no-hit mode the report says that something is held, never what, how many or how like.
3. Otherwise each candidate is an opaque reference with its score and, where a calibration holds for
   this probe, what that score is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agency_adapters.calibration.artefact import ScoreScale
from agency_adapters.checks import Admitted
from agency_adapters.galleries.gallery import Found, GalleryFacts
from agency_adapters.galleries.store import size_class
from agency_adapters.models import Finding, FoundRecord
from agency_adapters.references import References
from trust.messages import (
    HIT_ONLY,
    TO_BE_RELEASED,
    Candidate,
    MatchReport,
    Obligations,
    OutcomeState,
)


@dataclass(frozen=True, slots=True)
class Reporting:
    """What every report of one request has in common.

    Attributes:
        agency: this agency's member id.
        admitted: the request.
        gallery: what the gallery says about itself.
        policy_sha256: the digest of the agreements decided under.
        now: when the request was decided.
        scale: what scores are worth for this probe; None where they are raw.
    """

    agency: str
    admitted: Admitted
    gallery: GalleryFacts
    policy_sha256: bytes
    now: datetime
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

    def finding(self, found: Found, duties: Obligations, references: References) -> Finding:
        """Report what a search found, as far as the duties allow."""
        searched = {
            "matcher": self.gallery.matcher,
            "threshold": duties.min_score,
            "gallery_class": size_class(found.eligible),
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
        if duties.release_by_human:  # (1)
            return Finding(
                self.report(OutcomeState.HELD, reason=TO_BE_RELEASED, **searched), records
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
