"""Getting a million templates into a database in reasonable time."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from agency_adapters.galleries.templates import Templates


def copied_to_postgres(socket: str, templates: Templates, at_once: int) -> Any:
    """Copy templates into a table, unlogged and uncompressed, and return a connection.

    The rows are PostgreSQL's binary COPY format: a field count, then for each field its length and
    its bytes; a vector is its dimensions as two 16-bit numbers and big-endian float32.
    """
    import pg8000.dbapi

    connection = pg8000.dbapi.connect("postgres", unix_sock=socket, database="postgres")
    connection.autocommit = True
    cursor = connection.cursor()
    dims, cores = templates.shape[1], os.cpu_count() or 1
    for statement in (
        "CREATE EXTENSION IF NOT EXISTS vector",
        f"CREATE UNLOGGED TABLE templates (id bigint, template vector({dims}) STORAGE PLAIN)",
        f"ALTER TABLE templates SET (parallel_workers = {cores})",
        f"SET max_parallel_workers_per_gather = {cores}",
        "SET min_parallel_table_scan_size = 0",
    ):
        cursor.execute(statement)
    row = np.dtype(
        [
            ("fields", ">i2"),
            ("id_length", ">i4"),
            ("id", ">i8"),
            ("length", ">i4"),
            ("dims", ">i2"),
            ("unused", ">i2"),
            ("values", ">f4", (dims,)),
        ]
    )
    for start in range(0, len(templates), at_once):
        part = templates[start : start + at_once]
        rows = np.zeros(len(part), dtype=row)
        rows["fields"], rows["id_length"], rows["length"] = 2, 8, 4 + 4 * dims
        rows["id"] = np.arange(start, start + len(part))
        rows["dims"], rows["values"] = dims, part
        data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"
        cursor.execute("COPY templates FROM STDIN WITH (FORMAT binary)", stream=io.BytesIO(data))
    cursor.execute("VACUUM ANALYZE templates")
    return connection


def inserted_into_milvus(path: Path, templates: Templates, at_once: int) -> Any:
    """Insert templates into a collection with a FLAT index, and return a client."""
    from pymilvus import DataType, MilvusClient

    client = MilvusClient(str(path))
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("template", DataType.FLOAT_VECTOR, dim=templates.shape[1])
    index = client.prepare_index_params()
    index.add_index("template", index_type="FLAT", metric_type="IP")
    client.create_collection("templates", schema=schema, index_params=index)
    for start in range(0, len(templates), at_once):
        part = templates[start : start + at_once]
        rows = [{"id": start + n, "template": one} for n, one in enumerate(part.tolist())]
        client.insert("templates", rows)
    client.flush("templates")
    client.load_collection("templates")
    return client
