"""What the broker's search log says of what follows a search: digests, ids and codes.

No entry holds an opinion before all are in (``review.settled`` has counts, and no more): who
reviewed, what they found and why are values beside the log, which the entries commit to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from audit import kinds
from audit.leaves import JsonValue, stamp
from broker.leaves import sha256
from broker.second_step.kinds import (
    DISCLOSURE_DISBELIEVED,
    IMAGES_REFUSED,
    NOTICE_LAPSED,
    RECALL_DISBELIEVED,
    REQUEST_REFUSED,
)
from broker.second_step.models import Disclosure, Notice
from broker.second_step.rules import Standing
from trust.messages import Person
from trust.second_step import (
    Corroboration,
    DisclosureRequest,
    ImageRequest,
    Opinion,
    Recall,
    RecallAcknowledgement,
    ReleaseDecision,
    Review,
    ReviewerRevocation,
    WrongMatch,
)

Leaf = dict[str, JsonValue]
BROKER = "broker"
AGENCY = "agency"


def _entry(kind: str, at: datetime, /, **facts: JsonValue) -> Leaf:
    return {"v": 1, "type": kind, "at": stamp(at), **facts}


def person_facts(person: Person) -> Leaf:
    """Return what is kept beside the log of a person."""
    expires = person.accreditation_expires
    return {
        "id": person.id,
        "role": person.role,
        "rank": person.rank,
        "accreditation": person.accreditation,
        "accreditation_expires": expires.isoformat() if expires else "",
    }


def images_requested(said: ImageRequest, payload: bytes, at: datetime) -> Leaf:
    """State that images are asked for, before they are."""
    return _entry(
        kinds.IMAGES_REQUESTED,
        at,
        search_id=said.search_id,
        order_sha256=said.order_sha256.hex(),
        agency=said.agency,
        request_sha256=sha256(payload).hex(),
        references=list(said.references),
    )


def images_refused(
    said: ImageRequest, payload: bytes, search_id: str, reason: str, by: str, at: datetime
) -> Leaf:
    """State that images were not sent."""
    return _entry(
        IMAGES_REFUSED,
        at,
        force=said.force,
        search_id=search_id,
        agency=said.agency,
        request_sha256=sha256(payload).hex(),
        reason=reason,
        decided_by=by,
    )


def review_recorded(
    reviews: Mapping[str, Review], digests: Mapping[str, bytes], number: int, at: datetime
) -> Leaf:
    """State that somebody reviewed; not what they found."""
    one = next(iter(reviews.values()))
    return _entry(
        kinds.REVIEWED,
        at,
        search_id=one.search_id,
        order_sha256=one.order_sha256.hex(),
        review_id=one.review_id,
        reviews={agency: digest.hex() for agency, digest in digests.items()},
        number=number,
    )


def review_facts(reviews: Mapping[str, Review]) -> Leaf:
    """Return what of a sitting is committed to and kept beside the log."""
    one = next(iter(reviews.values()))
    return {
        "reviewer": person_facts(one.reviewer),
        "findings": {
            agency: [
                {
                    "reference": finding.reference,
                    "opinion": finding.opinion.value,
                    "reasons": finding.reasons,
                    "disconfirming": finding.disconfirming,
                    "side_by_side": finding.side_by_side,
                    "seconds": finding.seconds,
                    "shown": finding.shown,
                }
                for finding in review.findings
            ]
            for agency, review in reviews.items()
        },
    }


def review_refused(force: str, search_id: str, reason: str, at: datetime) -> Leaf:
    """State that a review was not recorded."""
    return _entry(kinds.REVIEW_REFUSED, at, force=force, search_id=search_id, reason=reason)


def review_settled(search_id: str, standing: Standing, at: datetime) -> Leaf:
    """State that every candidate of a search is settled, and how many in which way."""
    counts = Counter(one.opinion for one in standing.candidates)
    return _entry(
        kinds.SETTLED,
        at,
        search_id=search_id,
        reviews=list(standing.review_ids),
        counts={opinion.value: counts[opinion] for opinion in Opinion},
        disagreement=standing.disagreement,
    )


def reviewer_revoked(said: ReviewerRevocation, payload: bytes, reviews: int, at: datetime) -> Leaf:
    """State that a reviewer's reviews no longer count."""
    return _entry(
        kinds.REVOKED,
        at,
        force=said.force,
        revocation_sha256=sha256(payload).hex(),
        reviews=reviews,
    )


def revocation_facts(said: ReviewerRevocation) -> Leaf:
    """Return what of a revocation is committed to and kept beside the log."""
    return {
        "reviewer": {"id": said.reviewer, "since": stamp(said.since)},
        "person": person_facts(said.person),
        "reasons": said.reasons,
    }


def disclosure_requested(said: DisclosureRequest, payload: bytes, at: datetime) -> Leaf:
    """State that the details behind a reference are asked for, before they are."""
    return _entry(
        kinds.DISCLOSURE_REQUESTED,
        at,
        search_id=said.search_id,
        order_sha256=said.order_sha256.hex(),
        agency=said.agency,
        reference=said.reference,
        request_id=said.request_id,
        request_sha256=sha256(payload).hex(),
        reviews=[one.hex() for one in said.review_sha256s],
        fields=list(said.fields),
    )


def disclosure_facts(said: DisclosureRequest) -> Leaf:
    """Return what of a request is committed to and kept beside the log."""
    return {
        "requester": person_facts(said.requester),
        "offence": {"code": said.offence.code, "seriousness": said.offence.seriousness},
        "subject_category": said.subject_category,
    }


def request_refused_by_broker(
    said: DisclosureRequest, payload: bytes, search_id: str, reason: str, at: datetime
) -> Leaf:
    """State that a request for disclosure was not recorded."""
    return _entry(
        kinds.DISCLOSURE_REFUSED,
        at,
        force=said.force,
        search_id=search_id,
        agency=said.agency,
        reference=said.reference,
        request_sha256=sha256(payload).hex(),
        reason=reason,
        decided_by=BROKER,
    )


def disclosure_refused(record: Disclosure, reason: str, by: str, at: datetime) -> Leaf:
    """State that a recorded request came to nothing before the owner's people decided."""
    return _entry(
        kinds.DISCLOSURE_REFUSED,
        at,
        **_of(record),
        force=record.force,
        reason=reason,
        decided_by=by,
    )


def disclosure_lapsed(record: Disclosure, at: datetime) -> Leaf:
    """State that the owner did not decide in time."""
    return _entry(kinds.DISCLOSURE_LAPSED, at, **_of(record))


def disclosure_decided(
    record: Disclosure, said: ReleaseDecision, payload: bytes, at: datetime
) -> Leaf:
    """State what the owner decided, under its own signature."""
    return _entry(
        kinds.DISCLOSURE_DECIDED,
        at,
        **_of(record),
        request_id=record.request_id,
        decision_sha256=sha256(payload).hex(),
        state=said.state.value,
        reason=said.reason,
    )


def disclosure_disbelieved(record: Disclosure, payload: bytes, reason: str, at: datetime) -> Leaf:
    """State that something came as a decision that does not verify."""
    return _entry(
        DISCLOSURE_DISBELIEVED,
        at,
        **_of(record),
        received_sha256=sha256(payload).hex() if payload else "",
        reason=reason,
    )


def disclosure_delivered(record: Disclosure, at: datetime) -> Leaf:
    """State that sealed details went to the force, the first time."""
    return _entry(kinds.DISCLOSURE_DELIVERED, at, **_of(record))


def disclosure_withheld(record: Disclosure, reason: str, at: datetime) -> Leaf:
    """State that a force read a release and did not get its details, and why."""
    return _entry(kinds.DISCLOSURE_WITHHELD, at, **_of(record), reason=reason)


def _of(record: Disclosure) -> Leaf:
    return {
        "search_id": record.search_id,
        "agency": record.agency,
        "reference": record.reference,
        "request_sha256": record.request_sha256.hex(),
    }


def corroboration_recorded(said: Corroboration, payload: bytes, at: datetime) -> Leaf:
    """State that there is evidence that does not come from comparing faces."""
    return _entry(
        kinds.CORROBORATED,
        at,
        search_id=said.search_id,
        agency=said.agency,
        reference=said.reference,
        corroboration_sha256=sha256(payload).hex(),
        kind=said.kind.value,
    )


def corroboration_facts(said: Corroboration) -> Leaf:
    """Return what of a corroboration is committed to and kept beside the log."""
    return {"person": person_facts(said.person), "case_material": said.case_material}


def wrong_match(said: WrongMatch, payload: bytes, at: datetime) -> Leaf:
    """State that a candidate is not the person sought."""
    return _entry(
        kinds.WRONG_MATCH,
        at,
        search_id=said.search_id,
        agency=said.agency,
        reference=said.reference,
        wrong_match_sha256=sha256(payload).hex(),
    )


def wrong_match_facts(said: WrongMatch) -> Leaf:
    """Return what of such a report is committed to and kept beside the log."""
    return {"reporter": person_facts(said.reporter), "reasons": said.reasons}


def request_refused(
    force: str, kind: str, digest: bytes, search_id: str, reason: str, at: datetime
) -> Leaf:
    """State that something else that a force sent was refused, or that it was not even signed."""
    return _entry(
        REQUEST_REFUSED,
        at,
        force=force,
        kind=kind,
        sha256=digest.hex(),
        search_id=search_id,
        reason=reason,
    )


def notice_lapsed(notice: Notice, reason: str, at: datetime) -> Leaf:
    """State that an agency never acknowledged what it was told."""
    return _entry(
        NOTICE_LAPSED,
        at,
        agency=notice.agency,
        notice_sha256=notice.sha256.hex(),
        reason=reason,
    )


def recall_received(said: Recall, payload: bytes, at: datetime) -> Leaf:
    """State that an agency recalled a candidate."""
    return _entry(
        kinds.RECALL_RECEIVED,
        at,
        search_id=said.search_id,
        agency=said.agency,
        reference=said.reference,
        recall_id=said.recall_id,
        recall_sha256=sha256(payload).hex(),
        reason=said.reason.value,
    )


def recall_disbelieved(agency: str, number: int, payload: bytes, reason: str, at: datetime) -> Leaf:
    """State that something came as a recall that does not verify."""
    return _entry(
        RECALL_DISBELIEVED,
        at,
        agency=agency,
        number=number,
        received_sha256=sha256(payload).hex(),
        reason=reason,
    )


def recall_acknowledged(
    said: RecallAcknowledgement, recall: Recall, payload: bytes, at: datetime
) -> Leaf:
    """State that a recalled candidate is no longer used."""
    return _entry(
        kinds.RECALL_ACKNOWLEDGED,
        at,
        search_id=recall.search_id,
        agency=recall.agency,
        recall_id=said.recall_id,
        acknowledgement_sha256=sha256(payload).hex(),
    )


def acknowledgement_facts(said: RecallAcknowledgement) -> Leaf:
    """Return what of an acknowledgement is committed to and kept beside the log."""
    return {"person": person_facts(said.person), "action": said.action}
