"""Reconciling finds each kind of disagreement, planted one by one, and nothing without one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.reconciliation import Fault, Finding
from audit.reconciling import reconcile
from cli.audit import app
from tests.logs import MadeLog
from trust.errors import ProbegateError, Reason

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
AGENCIES = ("custody", "passport")
Entries = list[dict[str, Any]]
COVERING = "covering"
"""Stands for the agency's checkpoint just after the report, or of no entries if it has none."""


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
    said: dict[str, Any] = {"agency": agency, "state": state, "reason": "", "report_sha256": digest}
    return said | ({"checkpoint": COVERING} if report else {})


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

    def write(self, folder: Path, *, signed: bool = True) -> tuple[Path, dict[str, Path]]:
        """Write each log; a size that stands for a checkpoint becomes what embeds it.

        Each log waits for the other to have the entries that it embeds a checkpoint of. Where both
        wait, a checkpoint is of more entries than its log will ever have.
        """
        names = ("broker", *self.agency)
        logs = {name: MadeLog(folder / name, f"{name}.example/search") for name in names}
        left = {"broker": list(self.broker)} | {k: list(v) for k, v in self.agency.items()}
        self._number_checkpoints()
        while any(left.values()):
            ready = [name for name in names if left[name] and _is_ready(left[name][0], logs)]
            name = ready[0] if ready else next(name for name in names if left[name])
            batch = [left[name].pop(0)]
            while left[name] and _is_ready(left[name][0], logs):
                batch.append(left[name].pop(0))
            logs[name].write([_embedding(entry, logs, signed=signed) for entry in batch])
        return folder / "broker", {agency: folder / agency for agency in self.agency}

    def _number_checkpoints(self) -> None:
        for one in (one for entry in self.broker for one in entry.get("outcomes", ())):
            if one.get("checkpoint") == COVERING:
                reports = [entry["report_sha256"] for entry in self.agency[one["agency"]]]
                digest = one["report_sha256"]
                one["checkpoint"] = reports.index(digest) + 1 if digest in reports else 0


def _shown(entry: dict[str, Any]) -> list[tuple[str, Any, dict[str, Any], str]]:
    """Whose checkpoints an entry embeds, which, and where they stand."""
    found = [
        (one["agency"], one.get("checkpoint"), one, "checkpoint")
        for one in entry.get("outcomes", ())
    ]
    found.append(("broker", entry.get("broker_checkpoint"), entry, "broker_checkpoint"))
    return [one for one in found if one[1] is not None]


def _is_ready(entry: dict[str, Any], logs: dict[str, MadeLog]) -> bool:
    return all(
        not isinstance(size, int) or size < len(logs[whose].roots)
        for whose, size, _, _ in _shown(entry)
    )


def _embedding(entry: dict[str, Any], logs: dict[str, MadeLog], *, signed: bool) -> dict[str, Any]:
    entry = copy.deepcopy(entry)
    for whose, size, place, name in _shown(entry):
        log = logs[whose]
        if callable(size):
            place[name] = size(log)
        elif not signed:
            place[name] = log.checkpoint(size) if whose == "broker" else None
        else:
            place[name] = log.embedded(size, None if size < len(log.roots) else bytes(32))
    return entry


def test_logs_that_agree_have_no_finding(tmp_path: Path) -> None:
    broker, agencies = Sides().write(tmp_path)
    found = reconcile(broker, agencies)
    assert found.ok
    assert (found.searches, found.agreed, found.failed, found.under_way) == (5, 10, 0, 0)
    assert found.held == 20
    assert found.not_compared == ()


def test_logs_of_earlier_versions_that_hold_no_signature_agree_too(tmp_path: Path) -> None:
    broker, agencies = Sides().write(tmp_path, signed=False)
    found = reconcile(broker, agencies)
    assert found.ok
    assert (found.agreed, found.held) == (10, 0)


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
    sides.agency["passport"][2]["broker_checkpoint"] = lambda log: log.embedded(5, b"\xab" * 32)


def another_history_unsigned(sides: Sides) -> None:
    root = {"origin": "broker.example/search", "size": 5, "root": "ab" * 32}
    sides.agency["passport"][2]["broker_checkpoint"] = lambda _: root


def another_history_after_the_search(sides: Sides) -> None:
    """What followed a search was shown a checkpoint too."""
    later = report(2, "passport", 5, type="release.requested")
    later["broker_checkpoint"] = lambda log: log.embedded(5, b"\xab" * 32)
    sides.agency["passport"].append(later)


def another_key(log: MadeLog, size: int) -> dict[str, Any]:
    """A checkpoint in a log's name by a key that is not the log's."""
    return MadeLog(log.folder, log.origin).embedded(size, bytes(32))


def made_up(sides: Sides) -> None:
    """The agency puts its own signature where the broker's belongs."""
    sides.agency["passport"][2]["broker_checkpoint"] = lambda log: another_key(log, 5)


def result_with(sides: Sides, checkpoint: Any) -> None:
    sides.broker[5] = result(
        2, outcome(2, "custody"), outcome(2, "passport") | {"checkpoint": checkpoint}
    )


def agency_history(sides: Sides) -> None:
    result_with(sides, lambda log: log.embedded(3, b"\xab" * 32))


def agency_made_up(sides: Sides) -> None:
    result_with(sides, lambda log: another_key(log, 3))


def not_covered(sides: Sides) -> None:
    result_with(sides, 2)


def agency_cut(sides: Sides) -> None:
    """The last report is gone, and the broker never had it; but what came after it was shown."""
    sides.broker[7]["outcomes"][1]["checkpoint"] = 9


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
    (another_history_unsigned, Fault.ANOTHER_HISTORY, None, 2),
    (another_history_after_the_search, Fault.ANOTHER_HISTORY, None, 5),
    (made_up, Fault.CHECKPOINT_FORGED, None, 2),
    (cut, Fault.BROKER_LOG_SHORTER, None, None),
    (agency_history, Fault.AGENCY_HISTORY, 5, None),
    (agency_made_up, Fault.CHECKPOINT_FORGED, 5, None),
    (agency_cut, Fault.AGENCY_LOG_SHORTER, 7, None),
    (not_covered, Fault.REPORT_NOT_COVERED, 5, 2),
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
