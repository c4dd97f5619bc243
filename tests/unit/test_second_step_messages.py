"""The messages of the second step: there and back, and what their models refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust import second_step as ss
from trust.errors import ProbegateError, Reason
from trust.messages import Offence, Person
from trust.wire import decode, encode

UUIDS = st.uuids().map(str)
DIGESTS = st.binary(min_size=32, max_size=32)
MEMBERS = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
CODES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
REFERENCES = st.from_regex(r"[a-z2-7]{20}", fullmatch=True)
WORDS = st.text(
    st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"),
    min_size=1,
    max_size=60,
)
TIMES = st.datetimes(
    datetime(2026, 1, 1),  # noqa: DTZ001 - what hypothesis wants
    datetime(2030, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
PEOPLE = st.builds(
    Person,
    id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,20}", fullmatch=True),
    role=CODES,
    rank=CODES,
    accreditation=CODES,
    accreditation_expires=st.none() | st.dates(),
)
SECONDS = st.integers(0, 3600)
ABOUT = {"search_id": UUIDS, "order_sha256": DIGESTS, "agency": MEMBERS}
MATTER = ABOUT | {"force": MEMBERS, "reference": REFERENCES}


@st.composite
def reviews(draw: st.DrawFn) -> ss.Review:
    references = draw(st.lists(REFERENCES, min_size=1, max_size=5, unique=True))
    started = draw(TIMES)
    findings = tuple(
        ss.Finding(
            reference=one,
            opinion=draw(st.sampled_from(ss.Opinion)),
            reasons=draw(WORDS),
            disconfirming=draw(WORDS),
            side_by_side=True,
            seconds=draw(SECONDS),
            shown=place,
        )
        for place, one in enumerate(references, start=1)
    )
    long = timedelta(seconds=sum(one.seconds for one in findings))
    return ss.Review(
        review_id=draw(UUIDS),
        search_id=draw(UUIDS),
        order_sha256=draw(DIGESTS),
        force=draw(MEMBERS),
        agency=draw(MEMBERS),
        report_sha256=draw(DIGESTS),
        reviewer=draw(PEOPLE),
        findings=findings,
        started_at=started,
        finished_at=started + long,
    )


@st.composite
def requests(draw: st.DrawFn) -> ss.DisclosureRequest:
    made = draw(TIMES)
    return ss.DisclosureRequest(
        request_id=draw(UUIDS),
        requester=draw(PEOPLE),
        report_sha256=draw(DIGESTS),
        review_sha256s=tuple(draw(st.lists(DIGESTS, min_size=2, max_size=3, unique=True))),
        facts_commitment=draw(DIGESTS),
        offence=Offence(code="theft", seriousness="serious_crime"),
        fields=tuple(draw(st.lists(CODES, min_size=1, max_size=4, unique=True))),
        created_at=made,
        expires_at=made + timedelta(minutes=5),
        **{name: draw(strategy) for name, strategy in MATTER.items()},
    )


ANY = st.one_of(
    reviews(),
    requests(),
    st.builds(
        ss.ImageRequest,
        request_id=UUIDS,
        force=MEMBERS,
        references=st.lists(REFERENCES, min_size=1, max_size=4, unique=True).map(tuple),
        reviewer=PEOPLE,
        reasons=WORDS,
        created_at=TIMES,
        **ABOUT,
    ),
    st.builds(
        ss.CandidateImage,
        reference=REFERENCES,
        media_type=st.sampled_from(["image/png", "image/jpeg"]),
        image=st.binary(min_size=1, max_size=50),
        sent_at=TIMES,
        **ABOUT,
    ),
    st.builds(
        ss.Disclosure,
        request_sha256=DIGESTS,
        search_id=UUIDS,
        agency=MEMBERS,
        reference=REFERENCES,
        fields=st.lists(
            st.builds(
                ss.DisclosedField, name=CODES, value=WORDS, nature=st.sampled_from(ss.Nature)
            ),
            min_size=1,
            max_size=4,
        ).map(tuple),
        caveats=st.lists(WORDS, max_size=3).map(tuple),
        delete_by=TIMES,
        onward_transfer=CODES,
        released_at=TIMES,
        expires_at=TIMES,
    ),
    st.builds(
        ss.WrongMatch, report_id=UUIDS, reporter=PEOPLE, reasons=WORDS, reported_at=TIMES, **MATTER
    ),
    st.builds(
        ss.Recall,
        recall_id=UUIDS,
        reference=REFERENCES,
        reason=st.sampled_from(ss.RecallReason),
        notice=WORDS,
        recalled_at=TIMES,
        **ABOUT,
    ),
    st.builds(
        ss.RecallAcknowledgement,
        recall_id=UUIDS,
        recall_sha256=DIGESTS,
        force=MEMBERS,
        person=PEOPLE,
        action=WORDS,
        acknowledged_at=TIMES,
    ),
    st.builds(
        ss.ReviewerRevocation,
        force=MEMBERS,
        reviewer=WORDS,
        since=TIMES,
        person=PEOPLE,
        reasons=WORDS,
        revoked_at=TIMES,
    ),
    st.builds(
        ss.Corroboration,
        corroboration_id=UUIDS,
        kind=st.sampled_from(ss.CorroborationKind),
        case_material=WORDS,
        person=PEOPLE,
        recorded_at=TIMES,
        **MATTER,
    ),
)


@given(ANY)
def test_there_and_back(message: Any) -> None:
    assert decode(type(message), encode(message)) == message


@given(reviews(), st.integers(0, 2000), st.integers(0, 255))
def test_bytes_that_were_changed_are_another_message_or_a_catalogued_error(
    review: ss.Review, place: int, value: int
) -> None:
    payload = bytearray(encode(review))
    payload[place % len(payload)] = value
    refused = None
    try:
        decode(ss.Review, bytes(payload))
    except ProbegateError as error:
        refused = error.reason
    assert refused in {None, Reason.REVIEW_INVALID}


@given(reviews())
def test_a_review_in_less_time_than_its_findings_took_is_refused(review: ss.Review) -> None:
    finding = review.findings[0].model_copy(update={"seconds": 5000})
    changed = review.model_copy(update={"findings": (finding, *review.findings[1:])})
    with pytest.raises(ProbegateError) as refused:
        decode(ss.Review, encode(changed))
    assert refused.value.metadata == {"field": "findings.seconds"}


@given(reviews(), st.sampled_from([ss.Opinion.POTENTIAL_CANDIDATE, ss.Opinion.NO_CANDIDATE]))
def test_who_did_not_see_both_images_has_no_opinion(review: ss.Review, opinion: ss.Opinion) -> None:
    blind = review.findings[0].model_copy(update={"side_by_side": False, "opinion": opinion})
    changed = review.model_copy(update={"findings": (blind, *review.findings[1:])})
    with pytest.raises(ProbegateError) as refused:
        decode(ss.Review, encode(changed))
    assert refused.value.reason is Reason.REVIEW_INVALID
