"""What a force keeps goes when its time has come, and what was only begun goes before."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from force_client.second_step.kept import UNFINISHED_KEPT, Kept
from tests.killed import CONTENT, killed_writing
from trust.errors import ProbegateError, Reason

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NAME = "5f1c7f9e-8f3a-4f0c-9a52-1f1d5a8c7b11.json"


@pytest.mark.parametrize("folder", ["disclosures", "sittings"])
def test_details_that_a_killed_client_had_begun_to_write_are_deleted(
    tmp_path: Path, folder: str
) -> None:
    kept = Kept(tmp_path)
    killed_writing(tmp_path / folder / NAME)
    (left,) = (tmp_path / folder).iterdir()
    assert left.read_bytes() == CONTENT
    for age, gone in ((timedelta(minutes=1), 0), (UNFINISHED_KEPT * 2, 1)):
        os.utime(left, ((NOW - age).timestamp(),) * 2)
        assert kept.forget_expired(NOW) == gone
        assert left.exists() == (not gone)


def vanished(path: Path) -> Path:
    """A file that is listed and is gone when it is read: another process was quicker."""
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.parent / "gone")
    return path


@pytest.mark.parametrize(
    "name",
    [
        f"disclosures/{NAME}",
        f"disclosures/{NAME.replace('.json', '.request.json')}",
        f"sittings/{NAME}",
        f"corroborations/{NAME}",
    ],
)
def test_what_another_process_forgets_meanwhile_is_no_error(tmp_path: Path, name: str) -> None:
    kept = Kept(tmp_path)
    vanished(tmp_path / name)
    later = datetime.now(UTC) + timedelta(days=1)
    kept.forget_expired(later)
    kept.forget_records(later)
    assert kept.corroborations("a", "b", "c") == ()
    assert kept.request_about("a", "b", "c") is None
    assert kept.details(NAME.partition(".")[0]) is None
    assert kept.request(NAME.partition(".")[0]) is None


def test_evidence_outlives_a_request_that_is_forgotten_meanwhile(tmp_path: Path) -> None:
    """Of details whose request is gone nobody can say what they stand on."""
    kept = Kept(tmp_path)
    vanished(tmp_path / "disclosures" / NAME)
    vanished(tmp_path / "disclosures" / NAME.replace(".json", ".request.json"))
    vanished(tmp_path / "corroborations" / NAME)
    assert kept.forget_records(datetime.now(UTC) + timedelta(days=1)) == 0


def test_what_is_damaged_is_still_an_error(tmp_path: Path) -> None:
    (tmp_path / "disclosures").mkdir()
    (tmp_path / "disclosures" / NAME).write_bytes(b"{")
    with pytest.raises(ProbegateError) as caught:
        Kept(tmp_path).forget_expired(NOW)
    assert caught.value.reason is Reason.STATE_UNAVAILABLE
