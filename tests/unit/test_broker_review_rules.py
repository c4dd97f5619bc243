"""The rules of review as a pure function: who must agree before a candidate is a potential one."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.second_step.rules import Listed, Sitting, Standing, standing_of
from trust.messages import Person
from trust.people import plain_id
from trust.second_step import Finding, Opinion, Review

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
REPORT = bytes(31) + b"\1"
SEARCH = "00000000-0000-4000-8000-000000000001"
CUSTODY = Listed("custody", REPORT, ("a", "b"))
PND = Listed("pnd", REPORT, ("c",))
LISTED = (CUSTODY, PND)
YES, NO, DONT_KNOW = Opinion.POTENTIAL_CANDIDATE, Opinion.NO_CANDIDATE, Opinion.INCONCLUSIVE


def sitting(
    person: str,
    opinions: Sequence[Opinion],
    listed: Sequence[Listed] = LISTED,
    report: bytes = REPORT,
    review_id: str = "",
) -> Sitting:
    """Return one person's sitting; opinions in the order of the candidates."""
    review_id = review_id or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{person}{opinions}"))
    rest = list(opinions)
    reviews = {}
    for one in listed:
        findings = tuple(
            Finding(
                reference=reference,
                opinion=rest.pop(0),
                reasons="compared",
                side_by_side=True,
                seconds=0,
                shown=place,
            )
            for place, reference in enumerate(one.references, 1)
        )
        reviews[one.agency] = Review(
            review_id=review_id,
            search_id=SEARCH,
            order_sha256=bytes(32),
            force="northshire",
            agency=one.agency,
            report_sha256=report,
            reviewer=Person(id=person),
            findings=findings,
            started_at=NOW,
            finished_at=NOW + timedelta(minutes=1),
        )
    digests = {
        agency: hashlib.sha256(f"{review_id}{agency}".encode()).digest() for agency in reviews
    }
    return Sitting(review_id, reviews, digests)


def standing(*sittings: Sitting, needed: int = 2) -> Standing:
    return standing_of(LISTED, needed, sittings)


def opinions_of(found: Standing) -> list[Opinion]:
    return [one.opinion for one in found.candidates]


ALL_YES = (YES, YES, YES)


def test_two_who_agree_settle_it() -> None:
    first, second = sitting("p1", ALL_YES), sitting("p2", ALL_YES)
    assert (standing().open, standing(first).open, standing(first).reviews) == (True, True, 1)
    assert standing(first).candidates == ()
    done = standing(first, second)
    assert (done.open, done.disagreement, done.reviews, done.settled) == (False, False, 2, True)
    assert opinions_of(done) == [YES, YES, YES]
    found = done.of("custody", "a")
    assert found is not None
    assert set(found.review_sha256s) == {first.sha256s["custody"], second.sha256s["custody"]}
    assert done.of("custody", "nobody") is None


def test_a_third_settles_a_disagreement_or_leaves_it_inconclusive() -> None:
    first, second = sitting("p1", ALL_YES), sitting("p2", (YES, NO, YES))
    split = standing(first, second)
    assert (split.open, split.disagreement, split.candidates) == (True, True, ())
    third = standing(first, second, sitting("p3", (YES, NO, NO)))
    assert (third.open, third.disagreement) == (False, True)
    assert opinions_of(third) == [YES, NO, YES]
    lost = standing(first, second, sitting("p3", (YES, DONT_KNOW, YES)))
    assert opinions_of(lost) == [YES, DONT_KNOW, YES]
    assert not lost.open


@pytest.mark.parametrize("other", ["P1", " p1 ", "p1", "p1  "])
def test_one_person_however_spelt_is_one(other: str) -> None:
    first = sitting("p1", ALL_YES)
    person = plain_id(other)
    again = sitting("P1" if person == "p1" else other, ALL_YES, review_id=str(uuid.uuid4()))
    assert standing(first, again).open
    assert standing(first, again).reviews == 1


def test_what_was_found_of_another_report_does_not_count() -> None:
    old = sitting("p1", ALL_YES, report=bytes(32))
    assert standing(old, sitting("p2", ALL_YES)).reviews == 1
    assert standing(old, sitting("p2", ALL_YES)).open


def test_candidates_that_came_later_open_a_search_again_and_what_was_found_still_counts() -> None:
    before = (sitting("p1", (YES, YES), (CUSTODY,)), sitting("p2", (YES, YES), (CUSTODY,)))
    assert standing_of((CUSTODY,), 2, before).settled
    later = standing(*before)
    assert (later.open, later.reviews, later.candidates) == (True, 0, ())
    after = (sitting("p3", ALL_YES), sitting("p4", (NO, YES, YES)))
    assert opinions_of(standing(*before, *after)) == [YES, YES, YES]
    torn = standing(*before, sitting("p3", (NO, YES, YES)), sitting("p4", (NO, YES, YES)))
    assert opinions_of(torn) == [DONT_KNOW, YES, YES]


def test_no_candidates_need_nobody() -> None:
    nothing = standing_of((), 2, ())
    assert (nothing.open, nothing.settled, nothing.candidates) == (False, False, ())


def test_an_agreement_that_asks_for_three_gets_three() -> None:
    two = (sitting("p1", ALL_YES), sitting("p2", ALL_YES))
    assert standing(*two, needed=3).open
    assert not standing(*two, needed=3).disagreement
    assert standing(*two, sitting("p3", ALL_YES), needed=3).settled
    fewer = standing(*two, needed=1)
    assert fewer.needed == 2


PEOPLE = st.sampled_from(["p1", "P1", "p2", "p3", "P3", "p4"])
OPINIONS = st.lists(st.sampled_from(Opinion), min_size=3, max_size=3)
SITTINGS = st.lists(st.builds(sitting, PEOPLE, OPINIONS), max_size=6)


@given(SITTINGS, st.integers(0, 5))
def test_never_a_potential_candidate_without_two_distinct_people(
    sittings: list[Sitting], needed: int
) -> None:
    found = standing_of(LISTED, needed, sittings)
    for one in found.candidates:
        if one.opinion is not YES:
            continue
        people = {
            sit.person
            for sit in sittings
            if sit.sha256s[one.agency] in one.review_sha256s
            and sit.reviews[one.agency].opinion_on(one.reference) is YES
        }
        assert len(people) >= max(needed, 2)


@given(SITTINGS, st.integers(2, 4), st.randoms())
def test_the_order_of_reviews_does_not_matter(
    sittings: list[Sitting], needed: int, shuffler: object
) -> None:
    shuffled = list(sittings)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined] # a random.Random
    assert standing_of(LISTED, needed, shuffled) == standing_of(LISTED, needed, sittings)


@given(SITTINGS, st.integers(2, 4))
def test_nothing_shows_while_anything_is_open_and_all_of_it_once_nothing_is(
    sittings: list[Sitting], needed: int
) -> None:
    found = standing_of(LISTED, needed, sittings)
    people = {sit.person for sit in sittings}
    assert found.open == (not found.candidates)
    assert found.reviews == len(people)
    assert len(found.candidates) in {0, 3}
    if len(people) < needed:
        assert found.open
        assert not found.disagreement
    if len(people) > needed:
        assert not found.open


@given(SITTINGS, st.integers(2, 4))
def test_what_is_settled_is_what_so_many_share(sittings: list[Sitting], needed: int) -> None:
    found = standing_of(LISTED, needed, sittings)
    by_digest = {d: sit for sit in sittings for d in sit.sha256s.values()}
    for one in found.candidates:
        shared = Counter(
            by_digest[digest].reviews[one.agency].opinion_on(one.reference)
            for digest in one.review_sha256s
        )
        enough = [opinion for opinion, count in shared.items() if count >= needed]
        assert one.opinion is (enough[0] if len(enough) == 1 else DONT_KNOW)
