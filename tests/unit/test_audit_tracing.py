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
