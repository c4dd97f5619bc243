"""Whether the link tokens that came with a report may be used.

Rules; tokens that fail any of them are as if none had come: nothing of that agency's is in a group,
the report stands, and the refusal is in the operator's log. To turn a sound report away would lose
candidates for the sake of a help to the reader.

1. They are signed by keys that the directory lists for this agency, now.
2. They are about this search, this agency and this very report.
3. They name candidates of the report and no others, each once, with 1 to 8 tokens of 16 bytes.
4. A report that lists no candidate has none.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from trust import dsse, telemetry
from trust.directory import Directory, KeyUse
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import CandidateLinks, MatchReport
from trust.payload_types import PayloadType
from trust.wire import decode_links


def links_of(
    envelope: Envelope | None,
    report: MatchReport,
    report_payload: bytes,
    directory: Directory,
    now: datetime,
) -> CandidateLinks | None:
    """Return the tokens that came with a verified report; None where there are none to be used."""
    if envelope is None:
        return None
    try:
        return _verified(envelope, report, report_payload, directory, now)
    except ProbegateError as error:
        telemetry.log("candidate links refused", agency=report.agency, reason=error.reason.name)
        return None


def _verified(
    envelope: Envelope,
    report: MatchReport,
    report_payload: bytes,
    directory: Directory,
    now: datetime,
) -> CandidateLinks:
    resolve = directory.resolver(report.agency, KeyUse.SIGN, now)
    dsse.verify(envelope, PayloadType.CANDIDATE_LINKS, resolve)  # (1)
    links = decode_links(envelope.payload)  # (3)
    about = (links.search_id, links.agency, links.report_sha256)
    if about != (report.search_id, report.agency, hashlib.sha256(report_payload).digest()):  # (2)
        raise ProbegateError(Reason.OUTCOME_INVALID, "of another report", field="links")
    listed = {one.reference for one in report.candidates}
    if not listed >= {one.reference for one in links.candidates}:  # (3) (4)
        raise ProbegateError(Reason.OUTCOME_INVALID, "of no candidate", field="links")
    return links
