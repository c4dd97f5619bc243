"""Whether details were asked for and released in order, by the logs alone."""

from __future__ import annotations

from typing import Any

import pytest

from audit.releasing import Asked, Entry, asked_of

AGENCY = "custody"
REQUEST = "aa" * 32
REVIEWS = ("b1" * 32, "b2" * 32)
ROOTS = {size: f"{size:064x}" for size in range(20)}


def reviewed(index: int, digest: str) -> Entry:
    said = {"type": "review.recorded", "reviews": {AGENCY: digest, "pnd": "00" * 32}}
    return Entry("broker", index, said)


def request(index: int, kind: str, **more: Any) -> Entry:
    said = {"type": f"disclosure.{kind}", "agency": AGENCY, "reference": "r" * 20}
    return Entry("broker", index, said | {"request_sha256": REQUEST} | more)


def requested(index: int = 3, reviews: tuple[str, ...] = REVIEWS) -> Entry:
    return request(index, "requested", reviews=list(reviews))


def decided(index: int = 5, state: str = "released", reason: str = "") -> Entry:
    return request(index, "decided", state=state, reason=reason, decision_sha256="dd" * 32)


def at_agency(size: int = 4, root: str = "", state: str = "released") -> list[Entry]:
    shown = {"size": size, "root": root or ROOTS[size]}
    return [
        Entry(
            AGENCY,
            0,
            {
                "type": "release.requested",
                "request_sha256": REQUEST,
                "broker_checkpoint": shown,
            },
        ),
        Entry(
            AGENCY,
            1,
            {
                "type": "release.decided",
                "request_sha256": REQUEST,
                "decision_sha256": "dd" * 32,
                "state": state,
            },
        ),
    ]


GOOD = [reviewed(1, REVIEWS[0]), reviewed(2, REVIEWS[1]), requested(), decided(), *at_agency()]


def judged(entries: list[Entry]) -> Asked:
    (found,) = asked_of(entries, frozenset({AGENCY}), ROOTS.get)
    return found


def test_two_sittings_a_request_and_a_decision_are_in_order() -> None:
    found = judged(GOOD)
    assert not found.faults
    assert found.reviews == (1, 2)
    assert (found.entry, found.decided, found.agency_entry, found.state) == (3, 5, 1, "released")


def test_without_the_agencys_log_the_brokers_is_judged_alone() -> None:
    (found,) = asked_of(GOOD[:4], frozenset(), ROOTS.get)
    assert not found.faults
    assert found.agency_entry is None


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([GOOD[0], *GOOD[2:]], "not every review"),
        ([GOOD[0], reviewed(4, REVIEWS[1]), *GOOD[2:]], "not every review"),
        ([*GOOD[:2], requested(reviews=(REVIEWS[0], "cc" * 32)), *GOOD[3:]], "not every review"),
        # One sitting that is named twice is one person.
        ([GOOD[0], requested(reviews=(REVIEWS[0], REVIEWS[0])), *GOOD[3:]], "not every review"),
        ([*GOOD[:2], requested(6), *GOOD[3:]], "released without a request"),
        ([*GOOD[:2], *GOOD[3:]], "released without a request"),
        ([*GOOD[:4], *at_agency(size=3)], "not shown a log"),
        ([*GOOD[:4], *at_agency(root="00" * 32)], "not shown a log"),
        ([*GOOD[:4], at_agency()[0]], "holds no decision"),
        ([*GOOD[:4], *at_agency(state="refused")], "another decision"),
    ],
)
def test_what_is_not_in_order_is_said(entries: list[Entry], fault: str) -> None:
    assert any(fault in one for one in judged(entries).faults)


def test_what_was_refused_at_once_or_lapsed_or_waits_is_shown() -> None:
    refused = judged([request(3, "refused", reason="REVIEW_MISSING", decided_by="broker")])
    assert (refused.entry, refused.state, refused.reason) == (None, "refused", "REVIEW_MISSING")
    assert not refused.faults
    waiting = judged([*GOOD[:3], at_agency()[0]])
    assert (waiting.state, waiting.faults) == ("", ())
    lapsed = judged([*GOOD[:3], request(9, "lapsed"), at_agency()[0]])
    assert (lapsed.state, lapsed.faults) == ("lapsed", ())
