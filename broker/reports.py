"""Whether an agency's answer may be believed, and what outcome it then is.

Rules; an answer that fails any of them is INVALID, never "no candidate" (promise 5):

1. The report is signed by keys that the directory lists for this agency, now.
2. It is about this search, this order and this grant, from this agency.
3. It keeps the obligations it was granted under: no more candidates, no lower score, and in
   hit/no-hit mode no candidate at all.
4. It is of this moment: made after the grant and not in the future, within clock skew.
5. It follows what it must: an answer to the grant follows no report; one that was collected later
   follows the very HELD report that this broker holds, and is an answer.
6. The checkpoint of the agency's search log that came with it is signed by a key that the directory
   lists for that log, now, and by no other in its name. The broker's log embeds it, so the agency
   can be held to what it showed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from audit.checkpoints import open_checkpoint
from audit.embedded import embed, search_log_keys
from broker.candidate_links import links_of
from broker.models import AgencyAnswer, AgencyReply
from broker.settings import MAX_AGENCY_NOTE_BYTES
from trust import dsse
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import MatchReport, Obligations, Outcome, OutcomeState
from trust.payload_types import PayloadType
from trust.wire import decode_report


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a believable answer must fit."""

    search_id: str
    agency: str
    order_sha256: bytes
    grant_sha256: bytes
    granted_at: datetime
    obligations: Obligations
    held_sha256: bytes = b""
    """Of the HELD report that the answer must follow; empty for the first answer."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What an agency says became of an answer, nothing of it checked.

    Attributes:
        reply: the answer; none while it waits.
        decide_by: by when the agency is to decide, if it says.
    """

    reply: AgencyReply | None
    decide_by: datetime | None


def answer_of(
    reply: AgencyReply,
    expected: Expectation,
    directory: Directory,
    now: datetime,
    skew: timedelta,
    latency_ms: float,
) -> AgencyAnswer:
    """Check a reply and state the outcome; a reply that does not verify is INVALID."""
    try:
        report = _verified(reply, expected, directory, now, skew)
    except ProbegateError as error:
        return AgencyAnswer(
            Outcome(
                agency=expected.agency,
                state=OutcomeState.INVALID,
                reason=error.reason.name,
                latency_ms=latency_ms,
            )
        )
    outcome = Outcome(
        agency=expected.agency,
        state=report.state,
        reason=report.reason,
        failed_clauses=report.failed_clauses,
        decided_by="agency" if report.state is OutcomeState.DENIED else "",
        report_sha256=hashlib.sha256(reply.report.payload).digest(),
        latency_ms=latency_ms,
    )
    return AgencyAnswer(
        outcome,
        reply.report,
        reply.agency_checkpoint,
        reply.acknowledged,
        # Checked when it is shown to another agency: by us, and by that agency.
        statement=reply.statement if report.state.searched else None,
        said=report,
        links=links_of(reply.links, report, reply.report.payload, directory, now),
    )


def _verified(
    reply: AgencyReply,
    expected: Expectation,
    directory: Directory,
    now: datetime,
    skew: timedelta,
) -> MatchReport:
    resolve = directory.resolver(expected.agency, KeyUse.SIGN, now)
    dsse.verify(reply.report, PayloadType.MATCH_REPORT, resolve)  # (1)
    report = decode_report(reply.report.payload)
    if (  # (2)
        report.search_id != expected.search_id
        or report.agency != expected.agency
        or report.order_sha256 != expected.order_sha256
        or report.grant_sha256 != expected.grant_sha256
    ):
        raise ProbegateError(Reason.OUTCOME_INVALID, "of another search", field="search_id")
    duties = expected.obligations  # (3)
    if len(report.candidates) > duties.max_candidates:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="candidates")
    if duties.hit_no_hit and report.candidates:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="candidates")
    floor = math.nextafter(duties.min_score, -math.inf)
    if report.candidates and report.candidates[-1].score < floor:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="candidates.score")
    if not expected.granted_at - skew <= report.reported_at <= now + skew:  # (4)
        raise ProbegateError(Reason.OUTCOME_INVALID, field="reported_at")
    if report.held_report_sha256 != expected.held_sha256:  # (5)
        raise ProbegateError(Reason.OUTCOME_INVALID, field="held_report_sha256")
    if expected.held_sha256 and not report.state.is_answer:
        raise ProbegateError(Reason.OUTCOME_INVALID, field="state")
    if not 0 < len(reply.agency_checkpoint) <= MAX_AGENCY_NOTE_BYTES:  # (6)
        raise ProbegateError(Reason.OUTCOME_INVALID, field="agency_checkpoint")
    open_checkpoint(  # (6)
        reply.agency_checkpoint, search_log_keys(directory, expected.agency, now)
    )
    embed(reply.agency_checkpoint)  # (6)
    return report
