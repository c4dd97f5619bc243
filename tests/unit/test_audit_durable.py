"""Facts that are stated once: how SQLite is opened, and what a log may be read for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from probegate.audit.v1 import audit_service_pb2 as pb
from sqlalchemy import Engine

from agency_adapters.tables import open_engine as open_agency
from audit import wire
from audit.cosigner_memory import open_memory
from audit.opening import PURPOSES
from benchmarks.audit.made import open_engine as open_measured
from broker.tables import open_engine as open_broker

OPENED: dict[str, Callable[[Path], Engine]] = {
    "agency": open_agency,
    "broker": lambda folder: open_broker(folder, ""),
    "witness": open_memory,
    "benchmark": lambda folder: open_measured(folder / "state.db"),
}


@pytest.mark.parametrize("side", OPENED)
def test_every_side_keeps_its_commits_and_leaves_no_erased_bytes(side: str, tmp_path: Path) -> None:
    engine = OPENED[side](tmp_path)
    said = {}
    with engine.connect() as connection:
        for name in ("journal_mode", "synchronous", "secure_delete", "busy_timeout"):
            said[name] = connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
    engine.dispose()
    full = 2
    assert said == {
        "journal_mode": "wal",
        "synchronous": full,
        "secure_delete": 1,
        "busy_timeout": 30_000,
    }


def test_the_wires_purposes_are_the_logs() -> None:
    sent = set(pb.ReadPurpose.values()) - {pb.READ_PURPOSE_UNSPECIFIED}
    assert set(wire.PURPOSES) == sent
    assert set(wire.PURPOSES.values()) == set(PURPOSES)
