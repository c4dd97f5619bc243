"""Reconciling what followed searches: each disagreement planted, and nothing without one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.reconciling_releases import StepFault, StepFinding, reconcile_releases
from tests.logs import MadeLog
from trust.errors import ProbegateError, Reason

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
Entries = list[dict[str, Any]]


def entry(kind: str, minute: int, **more: Any) -> dict[str, Any]:
    at = (NOW + timedelta(minutes=minute)).isoformat()
    return {"v": 1, "type": kind, "at": at, "search_id": "s1", **more}


def broker_entries() -> Entries:
    at = {"agency": "custody"}
    return [
        entry("images.requested", 0, **at, request_sha256="i1"),
        entry("disclosure.requested", 5, **at, request_sha256="q1"),
        entry(
            "disclosure.decided",
            9,
            **at,
            request_sha256="q1",
            decision_sha256="d1",
            state="released",
        ),
        entry("disclosure.requested", 10, **at, request_sha256="q2"),
        entry("disclosure.lapsed", 11, **at, request_sha256="q2"),
        entry("disclosure.requested", 12, **at, request_sha256="q3"),
        entry("disclosure.refused", 13, **at, request_sha256="q3"),
        entry("recall.received", 20, **at, recall_id="r1", recall_sha256="c1"),
        entry("disclosure.requested", 21, agency="pnd", request_sha256="p1"),
        entry("search.order", 300),
    ]


def agency_entries() -> Entries:
    return [
        entry("images.sent", 0, request_sha256="i1"),
        entry("release.requested", 5, request_sha256="q1"),
        entry("release.decided", 9, request_sha256="q1", decision_sha256="d1", state="released"),
        entry("release.requested", 10, request_sha256="q2"),
        entry("release.decided", 12, request_sha256="q2", decision_sha256="d2", state="refused"),
        entry("release.requested", 12, request_sha256="q3"),
        entry("release.decided", 14, request_sha256="q3", decision_sha256="d3", state="refused"),
        entry("recall.issued", 19, recall_id="r1", recall_sha256="c1"),
        entry("recall.issued", 299, recall_id="r2", recall_sha256="c2"),  # still on its way
    ]


def compared(tmp_path: Path, ours: Entries, theirs: Entries) -> tuple[StepFinding, ...]:
    broker = MadeLog(tmp_path / "broker", "broker.example/search")
    agency = MadeLog(tmp_path / "custody", "custody.example/search")
    broker.write(ours)
    agency.write(theirs)
    return reconcile_releases(broker.folder, {"custody": agency.folder}, timedelta(hours=1))


def test_logs_that_agree_have_no_finding(tmp_path: Path) -> None:
    assert compared(tmp_path, broker_entries(), agency_entries()) == ()


def without(kind: str, joined: str = "") -> Callable[[Entries], Entries]:
    return lambda entries: [
        one for one in entries if one["type"] != kind or (joined and joined not in one.values())
    ]


def unchanged(entries: Entries) -> Entries:
    return entries


def another(entries: Entries) -> Entries:
    return [
        one | {"decision_sha256": "dx"}
        if one.get("request_sha256") == "q1" and one["type"] == "release.decided"
        else one
        for one in entries
    ]


def also_recalled(entries: Entries) -> Entries:
    return [*entries, entry("recall.issued", 30, recall_id="r3", recall_sha256="c3")]


@pytest.mark.parametrize(
    ("ours", "theirs", "fault", "places"),
    [
        (without("images.requested"), unchanged, "images_unknown_to_broker", (None, 0)),
        (without("disclosure.requested", "q1"), unchanged, "request_unknown_to_broker", (None, 1)),
        (unchanged, without("release.decided", "q1"), "decision_unknown_to_agency", (2, None)),
        (without("disclosure.decided"), unchanged, "decision_unknown_to_broker", (None, 2)),
        (unchanged, another, "decision_differs", (2, 2)),
        (unchanged, without("recall.issued", "r1"), "recall_unknown_to_agency", (7, None)),
        (unchanged, also_recalled, "recall_unknown_to_broker", (None, 9)),
    ],
)
def test_each_disagreement_is_found_where_it_is(
    tmp_path: Path,
    ours: Callable[[Entries], Entries],
    theirs: Callable[[Entries], Entries],
    fault: str,
    places: tuple[int | None, int | None],
) -> None:
    found = compared(tmp_path, ours(broker_entries()), theirs(agency_entries()))
    assert [one.fault for one in found] == [StepFault(fault)]
    assert (found[0].broker_entry, found[0].agency_entry) == places
    assert found[0].search_id == "s1"


def test_every_kind_of_disagreement_is_planted() -> None:
    marks = test_each_disagreement_is_found_where_it_is.pytestmark  # type: ignore[attr-defined]
    assert {case[2] for case in marks[0].args[1]} == set(StepFault)


def test_an_entry_that_is_not_of_its_form_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProbegateError) as refused:
        compared(tmp_path, [{"v": 1, "type": "recall.received", "at": "x"}], [])
    assert refused.value.reason is Reason.LOG_CORRUPT
