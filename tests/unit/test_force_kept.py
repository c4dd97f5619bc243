"""What a force keeps goes when its time has come, and what was only begun goes before."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from force_client.second_step.kept import UNFINISHED_KEPT, Kept
from tests.killed import CONTENT, killed_writing

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
