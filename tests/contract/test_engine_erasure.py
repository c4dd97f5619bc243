"""An erasure takes the template out of every file of the engine, its old versions included (3)."""

from __future__ import annotations

import io
import urllib.parse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet
import pytest
from sqlalchemy import create_engine, text

from agency_adapters.galleries.encoding import encode_rows
from agency_adapters.galleries.opening import scheme_of
from tests.contract.gallery_engines import Bench, enrolled, erased, fresh, names, people, probe_of

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
    """Have PostgreSQL write what it holds in memory, as the others do at once."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.execute(text("CHECKPOINT"))
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
