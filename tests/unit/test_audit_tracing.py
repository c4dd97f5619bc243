"""An order counts as recorded first only by a checkpoint that the broker's log signed and keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit.tracing import Recorded, trace
from tests.logs import MadeLog

ORDER = {
    "type": "search.order",
    "search_id": "one",
    "decisions": [{"agency": "custody", "permitted": True}],
}


@pytest.mark.parametrize(
    ("shown", "recorded"),
    [
        (lambda log: log.embedded(2), Recorded.BEFORE),
        (lambda log: log.checkpoint(2), Recorded.BEFORE),
        (lambda log: log.embedded(1), Recorded.NOT_PROVED),
        (lambda log: log.embedded(2, bytes(32)), Recorded.NOT_PROVED),
        (lambda log: log.embedded(3, bytes(32)), Recorded.NOT_PROVED),
        (
            lambda log: MadeLog(log.folder, log.origin).embedded(2, log.roots[2]),
            Recorded.NOT_PROVED,
        ),
    ],
    ids=["signed", "of an earlier version", "too early", "another history", "beyond", "made up"],
)
def test_what_proves_that_an_order_was_recorded_first(
    tmp_path: Path, shown: Any, recorded: Recorded
) -> None:
    broker = MadeLog(tmp_path / "broker", "broker.example/search")
    broker.write([{"type": "other"}, ORDER])
    agency = MadeLog(tmp_path / "custody", "custody.example/search")
    report = {"type": "match.report", "search_id": "one", "state": "candidates"}
    agency.write([report | {"broker_checkpoint": shown(broker)}])
    found = trace("one", broker.folder, {"custody": agency.folder})
    assert [one.recorded for one in found.agencies] == [recorded]


def test_what_was_erased_since_is_said_with_its_day(tmp_path: Path) -> None:
    broker = MadeLog(tmp_path / "broker", "broker.example/search")
    outcome = {"agency": "custody", "state": "candidates", "reason": ""}
    result = {"type": "search.result", "search_id": "one"}
    gone = outcome | {"erased_at": "2026-12-14T10:00:00.000000+00:00"}
    broker.write([ORDER, result | {"outcomes": [outcome]}, result | {"outcomes": [gone]}])
    (custody,) = trace("one", broker.folder, {}).agencies
    assert (custody.state, custody.erased_at[:10]) == ("candidates", "2026-12-14")


ANSWERED = {"agency": "custody", "state": "candidates", "reason": "", "report_sha256": "cc"}
RESULT = {"type": "search.result", "search_id": "one", "outcomes": [ANSWERED]}


def test_an_answer_that_the_agencys_own_log_does_not_have_proves_nothing(tmp_path: Path) -> None:
    broker = MadeLog(tmp_path / "broker", "broker.example/search")
    broker.write([ORDER, RESULT])
    agency = MadeLog(tmp_path / "custody", "custody.example/search")
    agency.write([{"type": "other"}])
    found = trace("one", broker.folder, {"custody": agency.folder})
    assert [one.recorded for one in found.agencies] == [Recorded.NOT_PROVED]
    assert not found.in_order


def test_an_answer_to_another_order_under_the_same_id_proves_nothing(tmp_path: Path) -> None:
    broker = MadeLog(tmp_path / "broker", "broker.example/search")
    broker.write([ORDER | {"order_sha256": "aa"}, RESULT])
    for number, (order, recorded) in enumerate(
        (("aa", Recorded.BEFORE), ("bb", Recorded.NOT_PROVED))
    ):
        agency = MadeLog(tmp_path / f"custody-{number}", "custody.example/search")
        report = {"type": "match.report", "search_id": "one", "state": "candidates"}
        seen = {"order_sha256": order, "broker_checkpoint": broker.embedded(1)}
        agency.write([report | seen])
        found = trace("one", broker.folder, {"custody": agency.folder})
        assert [one.recorded for one in found.agencies] == [recorded]


def test_details_that_only_the_agencys_log_knows_of_are_not_in_order(tmp_path: Path) -> None:
    broker = MadeLog(tmp_path / "broker", "broker.example/search")
    broker.write([ORDER | {"order_sha256": "aa"}, RESULT])
    agency = MadeLog(tmp_path / "custody", "custody.example/search")
    about = {"search_id": "one", "order_sha256": "aa"}
    asked = about | {"request_sha256": "ee", "reference": "R-1"}
    agency.write(
        [
            about | {"type": "match.report", "broker_checkpoint": broker.embedded(2)},
            asked | {"type": "release.requested", "broker_checkpoint": None},
            asked | {"type": "release.decided", "decision_sha256": "ff", "state": "released"},
        ]
    )
    found = trace("one", broker.folder, {"custody": agency.folder})
    (request,) = found.requests
    assert (request.agency, request.state, request.entry) == ("custody", "released", None)
    assert request.faults
    assert found.recorded_first
    assert not found.in_order
