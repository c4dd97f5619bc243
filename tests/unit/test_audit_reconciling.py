"""Reconciling finds each kind of disagreement, planted one by one, and nothing without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.reconciling import Fault, Finding, reconcile
from cli.audit import app
from tests.logs import MadeLog
from trust.errors import ProbegateError, Reason

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
AGENCIES = ("custody", "passport")
Entries = list[dict[str, Any]]


def sha(text: str) -> str:
    return text.encode().hex().ljust(64, "0")


def order(number: int, *, permitted: bool = True, at: datetime | None = None) -> dict[str, Any]:
    return {
        "v": 1,
        "type": "search.order",
        "search_id": f"search-{number}",
        "order_sha256": sha(f"o{number}"),
        "force": "northshire",
        "at": (at or NOW + timedelta(minutes=number)).isoformat(),
        "decisions": [
            {"agency": agency, "permitted": permitted or agency != "passport", "failed": []}
            for agency in AGENCIES
        ],
    }


def outcome(number: int, agency: str, state: str = "candidates", *, report: bool = True) -> Any:
    digest = sha(f"r{number}{agency}") if report else ""
    return {"agency": agency, "state": state, "reason": "", "report_sha256": digest}


def result(number: int, *outcomes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "type": "search.result",
        "search_id": f"search-{number}",
        "order_sha256": sha(f"o{number}"),
        "at": (NOW + timedelta(minutes=number, seconds=5)).isoformat(),
        "outcomes": list(outcomes) or [outcome(number, agency) for agency in AGENCIES],
    }


def report(number: int, agency: str, size: int, **changes: Any) -> dict[str, Any]:
    said = {
        "v": 1,
        "type": "match.report",
        "search_id": f"search-{number}",
        "order_sha256": sha(f"o{number}"),
        "at": (NOW + timedelta(minutes=number, seconds=2)).isoformat(),
        "broker_checkpoint": size,
        "state": "candidates",
        "reason": "",
        "report_sha256": sha(f"r{number}{agency}"),
    }
    return said | changes


class Sides:
    """A broker's and two agencies' entries of five ordinary searches, to be spoiled and written."""

    def __init__(self) -> None:
        self.broker: Entries = [made for n in range(5) for made in (order(n), result(n))]
        self.agency: dict[str, Entries] = {
            agency: [report(n, agency, 2 * n + 1) for n in range(5)] for agency in AGENCIES
        }

    def write(self, folder: Path) -> tuple[Path, dict[str, Path]]:
        broker = MadeLog(folder / "broker", "broker.example/search")
        broker.write(self.broker)
        for agency, entries in self.agency.items():
            for entry in entries:
                size = entry["broker_checkpoint"]
                if isinstance(size, int):
                    beyond = {"origin": broker.origin, "size": size, "root": "00" * 32}
                    known = size < len(broker.roots)
                    entry["broker_checkpoint"] = broker.checkpoint(size) if known else beyond
            MadeLog(folder / agency, f"{agency}.example/search").write(entries)
        return broker.folder, {agency: folder / agency for agency in self.agency}


def test_logs_that_agree_have_no_finding(tmp_path: Path) -> None:
    broker, agencies = Sides().write(tmp_path)
    found = reconcile(broker, agencies)
    assert found.ok
    assert (found.searches, found.agreed, found.failed, found.under_way) == (5, 10, 0, 0)
    assert found.not_compared == ()


def lost_report(sides: Sides) -> None:
    del sides.agency["passport"][2]


def lost_outcome(sides: Sides) -> None:
    del sides.broker[5]["outcomes"][1]
    del sides.agency["passport"][2]


def never_ended(sides: Sides) -> None:
    del sides.broker[1]  # the result of search 0, two hours before the newest entry
    sides.broker.append(order(5, at=NOW + timedelta(hours=2)) | {"decisions": []})
    for agency in AGENCIES:
        del sides.agency[agency][0]
        for entry in sides.agency[agency]:
            entry["broker_checkpoint"] -= 1


def forged_report(sides: Sides) -> None:
    sides.agency["passport"].append(report(9, "passport", 10))


def denied_report(sides: Sides) -> None:
    sides.broker[4] = order(2, permitted=False)
    denied = {"agency": "passport", "state": "denied", "reason": "", "report_sha256": ""}
    sides.broker[5] = result(2, outcome(2, "custody"), denied)


def another_digest(sides: Sides) -> None:
    sides.agency["passport"][2]["report_sha256"] = sha("another")


def another_state(sides: Sides) -> None:
    sides.agency["passport"][2]["state"] = "no_candidate"


def silence(sides: Sides) -> None:
    sides.broker[5] = result(
        2, outcome(2, "custody"), outcome(2, "passport", "no_candidate", report=False)
    )
    del sides.agency["passport"][2]


def unknown_refusal(sides: Sides) -> None:
    sides.agency["passport"].append(report(9, "passport", 10, type="match.refused"))


def another_history(sides: Sides) -> None:
    root = {"origin": "broker.example/search", "size": 5, "root": "ab" * 32}
    sides.agency["passport"][2]["broker_checkpoint"] = root


def cut(sides: Sides) -> None:
    del sides.broker[8:]


PLANTED: list[tuple[Callable[[Sides], None], Fault, int | None, int | None]] = [
    (lost_report, Fault.GRANT_WITHOUT_REPORT, 5, None),
    (lost_outcome, Fault.GRANT_WITHOUT_REPORT, 4, None),
    (never_ended, Fault.GRANT_WITHOUT_REPORT, 0, None),
    (forged_report, Fault.REPORT_WITHOUT_GRANT, None, 5),
    (denied_report, Fault.REPORT_WITHOUT_GRANT, 4, 2),
    (another_digest, Fault.DIGEST_DIFFERS, 5, 2),
    (another_state, Fault.STATE_DIFFERS, 5, 2),
    (silence, Fault.SILENCE_AS_ANSWER, 5, None),
    (unknown_refusal, Fault.ENTRY_UNKNOWN_TO_BROKER, None, 5),
    (another_history, Fault.ANOTHER_HISTORY, None, 2),
    (cut, Fault.BROKER_LOG_SHORTER, None, None),
]


@pytest.mark.parametrize(("plant", "fault", "at_broker", "at_agency"), PLANTED)
def test_each_disagreement_is_found_where_it_is(
    tmp_path: Path,
    plant: Callable[[Sides], None],
    fault: Fault,
    at_broker: int | None,
    at_agency: int | None,
) -> None:
    sides = Sides()
    plant(sides)
    broker, agencies = sides.write(tmp_path)
    found = reconcile(broker, agencies)
    assert not found.ok
    assert set(found.counts) == {fault}
    mine = [one for one in found.findings if one.agency == "passport"]
    assert [(one.broker_entry, one.agency_entry) for one in mine] == [(at_broker, at_agency)]


def test_a_search_under_way_and_a_late_answer_are_no_faults(tmp_path: Path) -> None:
    sides = Sides()
    sides.broker.append(order(5))
    sides.broker[9] = result(
        4, outcome(4, "custody"), outcome(4, "passport", "timed_out", report=False)
    )
    broker, agencies = sides.write(tmp_path)
    found = reconcile(broker, agencies)
    assert found.ok
    assert (found.under_way, found.failed, found.late) == (2, 1, 1)


def test_an_agency_whose_log_is_not_there_is_named(tmp_path: Path) -> None:
    broker, agencies = Sides().write(tmp_path)
    del agencies["passport"]
    found = reconcile(broker, agencies)
    assert found.ok
    assert found.not_compared == ("passport",)


def test_an_entry_that_is_not_of_its_type_is_a_corrupt_log(tmp_path: Path) -> None:
    sides = Sides()
    sides.broker[3] = {"v": 1, "type": "search.result", "at": NOW.isoformat()}
    broker, agencies = sides.write(tmp_path)
    with pytest.raises(ProbegateError) as caught:
        reconcile(broker, agencies)
    assert caught.value.reason is Reason.LOG_CORRUPT


def test_the_command_says_so_and_fails(tmp_path: Path) -> None:
    sides = Sides()
    another_digest(sides)
    broker, agencies = sides.write(tmp_path)
    given = [f"--agency={name}={folder}" for name, folder in agencies.items()]
    shown = CliRunner().invoke(app, ["reconcile", str(broker), *given])
    assert shown.exit_code == 1
    assert "another report" in " ".join(shown.output.split())
    assert max(map(len, shown.output.splitlines())) <= 80
    said = CliRunner().invoke(app, ["reconcile", str(broker), *given, "--json"])
    document = json.loads(said.stdout)
    assert Finding.model_validate(document["findings"][0]).fault is Fault.DIGEST_DIFFERS
