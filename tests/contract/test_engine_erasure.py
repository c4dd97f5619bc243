"""An erasure takes the template out of every file of the engine, its old versions included (3)."""

from __future__ import annotations

import io
import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pyarrow.parquet
import pytest
from sqlalchemy import create_engine, text

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries import milvus, milvus_tables, milvus_writing
from agency_adapters.galleries.encoding import encode_rows
from agency_adapters.galleries.milvus_tables import Server
from agency_adapters.galleries.opening import open_writer, scheme_of
from agency_adapters.galleries.pgvector_writing import REMAINS_LOG, PgvectorWriter
from tests.contract.gallery_engines import (
    Bench,
    enrolled,
    erased,
    find,
    fresh,
    names,
    people,
    probe_of,
)
from trust.errors import ProbegateError, Reason

ENGINES = ("files", "pgvector", "milvus")
PIECE_BYTES = 32
"""Long enough to be nobody else's, short enough to be whole between two page headers."""

IMPORTED = {"t.npy", "r.csv", "more.npy", "more.csv"}
"""What the gallery was made from, which is the test's own."""


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    postgres = request.getfixturevalue("postgres") if request.param == "pgvector" else ""
    (tmp_path / "engine").mkdir()
    return fresh(request.param, tmp_path / "engine", postgres)


def store(bench: Bench) -> Path:
    """The folder with every file of the engine."""
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(bench.location).query)
    return Path(query["unix_sock"][0]).parent if "unix_sock" in query else bench.folder


def settle(postgres: str) -> None:
    """Have PostgreSQL write what it holds in memory, as the others do at once.

    The segment of its log is then kept for later use: it has the bytes, and another's name.
    """
    run(postgres, "ANALYZE", "SELECT pg_switch_wal()", "CHECKPOINT")


def run(postgres: str, *statements: str) -> None:
    """Run statements as the server's owner."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def readable(path: Path) -> bytes:
    """A file's bytes, and beside them the values of its columns if those are compressed."""
    raw = path.read_bytes()
    if path.suffix != ".parquet":
        return raw
    table = pyarrow.parquet.read_table(io.BytesIO(raw))
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    return raw + b"".join(
        bytes(buffer) for chunk in chunks for buffer in chunk.buffers() if buffer is not None
    )


def where(bench: Bench, row: npt.NDArray[np.generic]) -> set[str]:
    """The files that hold any piece of a row, whichever end its numbers begin at."""
    pieces = [
        form[at : at + PIECE_BYTES]
        for form in (row.tobytes(), row.byteswap().tobytes())
        for at in range(0, len(form) - PIECE_BYTES + 1, PIECE_BYTES)
    ]
    found = set()
    for path in store(bench).rglob("*"):
        if path.is_file() and path.name not in IMPORTED:
            content = readable(path)
            if any(piece in content for piece in pieces):
                found.add(str(path.relative_to(store(bench))))
    return found


async def test_no_file_of_the_engine_holds_an_erased_template(
    bench: Bench, request: pytest.FixtureRequest
) -> None:
    in_files = not scheme_of(bench.location)
    templates = people(8)
    bench.put(templates[:6], [f"R{n}" for n in range(6)], [True] * 6)
    codes = encode_rows(templates[:6]).codes
    assert bool(where(bench, codes[1])) == in_files, "only files keep codes"
    enrolled(bench, templates[6:], ["R2", "R6"])  # the first template of R2 is now an older version
    if bench.location.startswith("postgresql"):
        settle(request.getfixturevalue("postgres"))
    for row in (1, 4, 6) if in_files else (1, 2, 4, 6):  # files let go of older versions at once
        assert where(bench, templates[row]), "the positive control"
    assert erased(bench, ["R1", "R2"]) == ("R1", "R2")
    for row in (templates[1], templates[2], templates[6], codes[1], codes[2]):
        assert where(bench, row) == set()
    assert where(bench, templates[4]), "what is kept is still found, so there was a search"
    gallery = await bench.open()
    assert gallery.facts.count == 5
    assert await names(gallery, probe_of(templates[4]), 0.9, 5) == ["R4"]
    await gallery.close()


def cut() -> ProbegateError:
    return ProbegateError(Reason.GALLERY_UNAVAILABLE, "cut short")


@pytest.mark.parametrize("bench", ["milvus"], indirect=True)
async def test_an_erasure_cut_short_before_its_row_of_facts_has_not_happened(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = people(4)
    bench.put(templates[:3], ["R0", "R1", "R2"], [True] * 3)
    with monkeypatch.context() as patch:
        patch.setattr(milvus_writing, "_insert_facts", Mock(side_effect=cut()))
        with pytest.raises(ProbegateError):
            erased(bench, ["R1"])
    gallery = await bench.open()
    assert gallery.facts.count == 3
    assert await names(gallery, probe_of(templates[1]), 0.9, 5) == ["R1"]
    enrolled(bench, templates[3:], ["R3"])
    assert erased(bench, ["R1"]) == ("R1",)
    assert where(bench, templates[1]) == set()
    newer = await gallery.newer()
    assert newer is not None
    assert newer.facts.count == 3
    for row in (0, 2, 3):
        assert await names(newer, probe_of(templates[row]), 0.9, 5) == [f"R{row}"]
    await gallery.close()
    await newer.close()


@pytest.mark.parametrize("bench", ["milvus"], indirect=True)
async def test_the_next_write_finishes_an_erasure_cut_short_after_its_row_of_facts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = people(3)
    bench.put(templates[:2], ["R0", "R1"], [True] * 2)
    drop = milvus_tables.drop_records

    def half(server: Server, store: int, timeout_s: float) -> None:
        if store == 0:
            next(bench.folder.glob(f"*.db/collections/{server.name}/schema.json")).unlink()
            raise cut()
        drop(server, store, timeout_s)

    with monkeypatch.context() as patch:
        patch.setattr(milvus_writing, "drop_records", half)
        with pytest.raises(ProbegateError):
            erased(bench, ["R1"])
    assert where(bench, templates[1]), "the positive control"
    enrolled(bench, templates[2:], ["R2"])
    assert where(bench, templates[1]) == set()
    gallery = await bench.open()
    assert gallery.facts.count == 2
    for row, found in enumerate((["R0"], [], ["R2"])):
        assert await names(gallery, probe_of(templates[row]), 0.9, 5) == found
    await gallery.close()


@pytest.mark.parametrize("bench", ["milvus"], indirect=True)
async def test_a_search_during_an_erasure_is_made_again_where_the_records_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = people(3)
    bench.put(templates, ["R0", "R1", "R2"], [True] * 3)
    gallery = await bench.open()
    count, calls = milvus_tables.count, 0

    def counted(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        found = count(*arguments)
        if calls == 1:
            erased(bench, ["R1"])
        return found

    monkeypatch.setattr(milvus, "count", counted)
    found = await find(gallery, probe_of(templates[0]), limit=3)
    assert {one.record_id for one in found.candidates} == {"R0", "R2"}
    assert (found.eligible, calls) == (2, 2)
    await gallery.close()


@pytest.mark.parametrize("bench", ["pgvector"], indirect=True)
def test_another_erasure_finishes_one_cut_short(
    bench: Bench, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = people(2)
    bench.put(templates, ["R0", "R1"], [True] * 2)
    settle(postgres)
    with monkeypatch.context() as patch:
        patch.setattr(PgvectorWriter, "_rewrite", Mock(side_effect=cut()))
        with pytest.raises(ProbegateError):
            erased(bench, ["R1"])
    assert where(bench, templates[1]), "the positive control"
    assert erased(bench, ["R1"]) == ()
    assert where(bench, templates[1]) == set()
    assert where(bench, templates[0])


@pytest.mark.parametrize("bench", ["pgvector"], indirect=True)
def test_a_role_without_the_rights_to_clear_the_log_says_that_it_remains(
    bench: Bench, postgres: str
) -> None:
    run(postgres, "CREATE EXTENSION IF NOT EXISTS vector", "CREATE ROLE plain LOGIN")
    run(postgres, "GRANT CREATE ON DATABASE postgres TO plain")
    plain = replace(bench, location=bench.location.replace("//postgres@", "//plain@"))
    templates = people(2)
    plain.put(templates, ["R0", "R1"], [True] * 2)
    settle(postgres)
    writer = open_writer(plain.location, CUSTODY)
    done = writer.erase(["R1"], "Request 2026/17")
    assert REMAINS_LOG in done.remains
    assert {name.split("/")[0] for name in where(bench, templates[1])} == {"pg_wal"}
    run(
        postgres,
        "GRANT pg_checkpoint, pg_monitor TO plain",
        "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO plain",
    )
    done = writer.erase(["R1"], "Request 2026/17")
    writer.close()
    assert REMAINS_LOG not in done.remains
    assert where(bench, templates[1]) == set()
