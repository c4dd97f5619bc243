"""A gallery that Probegate did not make, brought in as a new user would, over real processes.

Every bad row is reported by number and reason, checked here by rules of this file's own; every
mate comes first at its probe's quality; nobody comes for a probe without a mate.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pytest

from agency_adapters.galleries.importing import ImportReport, import_gallery
from agency_adapters.registry import kind_named
from audit.notes import VerifierKey
from audit.verify import VerifyReport, verify_folder
from deploy.local.comparing import COLUMNS, Compared, compare, read_truth
from deploy.local.joining import add_agency
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from deploy.local.setting_up import set_up
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState

ROOT: Final = Path(__file__).resolve().parents[2]
OUTSIDE: Final = ROOT / "tests" / "data" / "outside"
AGREEMENT: Final = ROOT / "docs" / "examples" / "own-gallery" / "agreement.yaml"
AGENCY: Final = "harbour"
MODEL: Final = "outside-model-1"
ROWS: Final = 150
"""Invented records in each of the other galleries; they are not what is tested."""
MIN_SCORE: Final = 0.45
"""The agreement's."""
PUBLISHED_WITHIN_S: Final = 20
"""How long a log's files may follow behind the log, seconds."""
BAD_ROWS: Final = {
    18: "template: not finite",
    51: "captured_on: not an ISO 8601 date (YYYY-MM-DD)",
    52: "record_id: duplicate of row 51",
    78: "date_of_birth: missing",
    301: "disposal: unknown code, expected 'convicted', 'acquitted', 'no_further_action' "
    "or 'pending'",
    302: "captured_on: in the future",
    405: "template: zero vector",
    1201: "template: not of unit length",
    2223: "template: not finite",
}
"""Rows that are dirty by themselves, counted from 1."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImportReport]:
    """The outside gallery, imported once."""
    out = tmp_path_factory.mktemp("outside") / "gallery"
    report = import_gallery(
        kind=kind_named("custody"),
        templates=OUTSIDE / "gallery.npz",
        records=OUTSIDE / "records.csv",
        model=MODEL,
        out=out,
        now=datetime.now(UTC),
    )
    return out, report


@pytest.fixture(scope="module")
def harbour(
    tmp_path_factory: pytest.TempPathFactory, imported: tuple[Path, ImportReport]
) -> Iterator[Place]:
    """A federation of its own, up, which the outside gallery's agency has joined while it ran."""
    place = Place(tmp_path_factory.mktemp("harbour") / "demo")
    set_up(place, rows=ROWS, say=lambda _what: None)
    servers = Processes(place)
    servers.start()
    try:
        add_agency(
            place,
            servers,
            AGENCY,
            kind="custody",
            gallery=imported[0],
            agreement=AGREEMENT,
            say=lambda _what: None,
        )
        yield place
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def compared(harbour: Place) -> tuple[Compared, ...]:
    """All 80 probes, searched end to end and resolved by the agency."""
    return compare(
        harbour,
        AGENCY,
        probes=OUTSIDE / "probes.npz",
        truth=OUTSIDE / "truth.csv",
        model=MODEL,
    )


def _rows() -> list[dict[str, str]]:
    with (OUTSIDE / "records.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _captured_before_birth() -> set[int]:
    """Rows whose image is older than the person: one of the two dates is wrong."""
    return {
        number
        for number, row in enumerate(_rows(), start=1)
        if (captured := _day(row["captured_on"]))
        and (born := _day(row["date_of_birth"]))
        and captured < born
    }


def test_every_bad_row_is_reported_by_number_and_reason(
    imported: tuple[Path, ImportReport],
) -> None:
    _, report = imported
    expected = dict.fromkeys(_captured_before_birth(), "captured_on: before date_of_birth")
    expected |= BAD_ROWS
    assert {row.row: "; ".join(row.reasons) for row in report.rejected} == expected
    ids = [row["record_id"] for row in _rows()]
    assert all(row.record_id == ids[row.row - 1] for row in report.rejected)


def test_every_other_row_is_enrolled(imported: tuple[Path, ImportReport]) -> None:
    _, report = imported
    assert report.rows == len(_rows()) == 3000
    assert report.enrolled == report.rows - len(report.rejected)


def test_no_mate_is_among_the_bad_rows(imported: tuple[Path, ImportReport]) -> None:
    bad = {row.record_id for row in imported[1].rejected}
    assert not bad & {expected.mate for expected in read_truth(OUTSIDE / "truth.csv")}


def test_the_truth_lists_every_probe(compared: tuple[Compared, ...]) -> None:
    assert [one.expected.row for one in compared] == list(range(80))
    assert sum(bool(one.expected.mate) for one in compared) == 60


def test_every_mate_comes_first(compared: tuple[Compared, ...]) -> None:
    for one in compared:
        if one.expected.mate:
            assert one.state is OutcomeState.CANDIDATES, one
            assert one.found[0][0] == one.expected.mate, one
            assert one.found[0][1] >= MIN_SCORE


def test_nobody_comes_for_a_probe_without_a_mate(compared: tuple[Compared, ...]) -> None:
    for one in compared:
        if not one.expected.mate:
            assert one.state is OutcomeState.NO_CANDIDATE, one
            assert one.found == ()


def test_every_search_and_every_look_is_on_the_record(
    harbour: Place, compared: tuple[Compared, ...]
) -> None:
    mated = sum(bool(one.expected.mate) for one in compared)
    for member, log, least in (
        (BROKER, "search", 2 * len(compared)),
        (AGENCY, "search", len(compared)),
        (AGENCY, "admin", mated),
    ):
        report = _published(harbour, member, log, least)
        assert report.ok, report.problems
        assert report.pinned
        assert report.entries >= least


def test_a_probe_of_another_model_finds_nothing(harbour: Place, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(f"{','.join(COLUMNS)}\n0,good,R110500\n")
    (one,) = compare(
        harbour, AGENCY, probes=OUTSIDE / "probes.npz", truth=truth, model="invented-face-1"
    )
    assert one.state is OutcomeState.DENIED
    assert not one.as_it_should_be


def test_the_command_says_which_probe_did_not_come_out(harbour: Place, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(f"{','.join(COLUMNS)}\n0,good,R100000\n1,good,R113181\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cli.main", "demo", "compare", AGENCY),
            *("--probes", str(OUTSIDE / "probes.npz"), "--truth", str(truth)),
            *("--model", MODEL, "--place", str(harbour.root)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert done.returncode == 1, done.stderr
    assert "probe 0: R100000, not R110500" in done.stdout
    assert "probe 1" not in done.stdout


def test_an_agency_joins_once(harbour: Place, imported: tuple[Path, ImportReport]) -> None:
    with pytest.raises(ProbegateError) as refused:
        _join(harbour, imported[0], AGENCY, AGREEMENT)
    assert refused.value.reason is Reason.FILE_EXISTS


def test_what_is_another_agencys_is_refused_before_anything_is_made(
    harbour: Place, imported: tuple[Path, ImportReport], tmp_path: Path
) -> None:
    members = sorted((harbour.scheme / "members").iterdir())
    with pytest.raises(ProbegateError) as refused:
        _join(harbour, imported[0], "quay", AGREEMENT)  # the agreement is harbour's
    assert refused.value.reason is Reason.CONFIG_INVALID
    agreement = tmp_path / "agreement.yaml"
    agreement.write_text(AGREEMENT.read_text().replace("agency: harbour", "agency: quay"))
    with pytest.raises(ProbegateError) as refused:
        _join(harbour, harbour.gallery("nhs"), "quay", agreement)  # the gallery is the NHS's
    assert refused.value.reason is Reason.CONFIG_INVALID
    assert sorted((harbour.scheme / "members").iterdir()) == members


@pytest.mark.parametrize("text", ["probe,mate\n0,\n", "probe,quality_band,mate\nx,good,\n"])
def test_a_file_of_truth_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(text)
    with pytest.raises(ProbegateError) as refused:
        read_truth(truth)
    assert refused.value.reason is Reason.IMPORT_INVALID


def test_the_newcomer_is_listed_with_the_others(harbour: Place) -> None:
    manifest = json.loads((harbour.scheme / "members" / AGENCY / "card.json").read_text())
    assert manifest["role"] == "agency"
    assert AGENCY in Processes(harbour).servers


def _join(place: Place, gallery: Path, agency: str, agreement: Path) -> None:
    add_agency(
        place,
        Processes(place),
        agency,
        kind="custody",
        gallery=gallery,
        agreement=agreement,
        say=lambda _what: None,
    )


def _published(place: Place, member: str, log: str, least: int) -> VerifyReport:
    """Verify a log's files once they hold ``least`` entries; they follow the log by a moment."""
    vkey = VerifierKey.parse(place.vkey(member, log).read_text().strip())
    deadline = time.monotonic() + PUBLISHED_WITHIN_S
    while True:
        report = verify_folder(place.logs(member) / log, vkey)
        if report.entries >= least or time.monotonic() > deadline:
            return report
        time.sleep(0.1)
