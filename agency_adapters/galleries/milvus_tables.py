"""The collections of a gallery in Milvus, and how its server is spoken to.

1. One gallery is two collections: versions of records, and one row of facts for each generation.
   A version is in the generations from ``since`` up to and without ``until``. Milvus has no
   transactions, so a write takes effect with the one row of facts it inserts last.
2. The index is FLAT and the metric is IP: every template is compared. Anything else is refused.
3. What bars a record is a pair of day numbers for each eligibility rule, in the rules' order.
4. Every question is asked at Milvus's strong consistency, so that what was written is seen.
5. A server further away than this machine is spoken to over TLS unless the location says otherwise.
   pymilvus's own log lines, which quote requests, are turned off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, unquote

import grpc
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from agency_adapters.agency import AgencyKind
from agency_adapters.galleries.engines import (
    LOOPBACK,
    EngineSettings,
    config_invalid,
    extra_missing,
    split_location,
)
from agency_adapters.galleries.writing import MODEL_ID
from agency_adapters.registry import kind_named
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_DIMS

if TYPE_CHECKING:
    from pymilvus import MilvusClient

COLLECTION: Final = "probegate_gallery"
"""The collection if the location does not name one (``?collection=``)."""
STRONG: Final = "Strong"
DEFAULT_PORT: Final = 19530
MAX_TEXT_BYTES: Final = 65_535
"""Longest text field in Milvus, bytes."""
MAX_ID_BYTES: Final = 96
"""Longest version id, bytes: a record id, a mark and a generation."""
_OPTIONS: Final = frozenset({"collection", "tls", "cafile"})


class Facts(BaseModel):
    """What one generation says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["probegate-milvus/1"] = "probegate-milvus/1"
    kind: str
    model: Annotated[str, Field(pattern=MODEL_ID)]
    dims: Annotated[int, Field(ge=1, le=MAX_DIMS)]
    generation: Annotated[int, Field(ge=0)]
    oldest: Annotated[int, Field(ge=0)]
    """The oldest generation that can still be read whole."""
    count: Annotated[int, Field(ge=0)]
    changed_at: AwareDatetime
    rules: tuple[str, ...]

    @property
    def agency(self) -> AgencyKind:
        """Whose gallery it is."""
        return kind_named(self.kind)


@dataclass(frozen=True, slots=True)
class Server:
    """A Milvus server and the name of one gallery in it."""

    client: MilvusClient
    records: str

    @property
    def facts(self) -> str:
        """The collection of facts."""
        return f"{self.records}_facts"


def connect(location: str, settings: EngineSettings) -> Server:
    """Connect to Milvus (5).

    Args:
        location: ``milvus://user@host:port/database`` or ``milvus+file:///path/name.db``, with
            ``collection``, ``tls`` (``on`` or ``off``) or ``cafile`` as its query.
        settings: where the password or token is.

    Raises:
        ProbegateError: ``CONFIG_INVALID`` or ``GALLERY_UNAVAILABLE``.
    """
    parts = split_location(location)
    options = dict(parse_qsl(parts.query))
    name = options.get("collection", COLLECTION)
    if not options.keys() <= _OPTIONS or not name.isidentifier() or not name.isascii():
        raise config_invalid(f"known options: {', '.join(sorted(_OPTIONS))}")
    logging.getLogger("pymilvus").disabled = True
    logging.getLogger("milvus_lite").disabled = True
    try:
        from pymilvus import MilvusClient
    except ImportError:
        raise extra_missing("milvus") from None
    for child in list(logging.root.manager.loggerDict):
        if child.startswith(("pymilvus.", "milvus_lite.")):
            logging.getLogger(child).disabled = True
    arguments: dict[str, Any] = {"timeout": settings.engine_timeout_s}
    if parts.scheme == "milvus+file":
        if not parts.path.endswith(".db") or parts.netloc:
            raise config_invalid("Milvus Lite's file is milvus+file:///path/name.db")
        arguments["uri"] = unquote(parts.path)
    else:
        host = parts.hostname or "localhost"
        tls = options.get("tls", "off" if host in LOOPBACK else "on")
        if tls not in {"on", "off"}:
            raise config_invalid("tls is on or off")
        arguments["uri"] = (
            f"{'https' if tls == 'on' else 'http'}://{host}:{parts.port or DEFAULT_PORT}"
        )
        arguments["db_name"] = unquote(parts.path.lstrip("/"))
        secret = settings.secret()
        arguments["token"] = f"{unquote(parts.username)}:{secret}" if parts.username else secret
        if "cafile" in options:
            arguments["server_pem_path"] = options["cafile"]
    with faults():
        return Server(MilvusClient(**arguments), name)


@contextmanager
def faults() -> Iterator[None]:
    """Report what Milvus or the way to it fails with.

    Raises:
        ProbegateError: ``GALLERY_UNAVAILABLE``; it repeats nothing that was sent.
    """
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, OSError) as error:
        code = getattr(error, "code", "")
        detail = f"Milvus {code}" if isinstance(code, int) else type(error).__name__
        raise ProbegateError(Reason.GALLERY_UNAVAILABLE, detail) from None


def read_facts(server: Server, timeout_s: float) -> Facts:
    """Read the newest generation's facts.

    Raises:
        ProbegateError: ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
    """
    with faults():
        there = server.client.has_collection(server.facts, timeout=timeout_s)
        rows = query(server, server.facts, "generation >= 0", ["body"], timeout_s) if there else []
    if not rows:
        raise ProbegateError(Reason.GALLERY_MISSING, "nothing was imported")
    try:
        facts = max(
            (Facts.model_validate_json(row["body"]) for row in rows), key=lambda one: one.generation
        )
        expected = tuple(rule.name for rule in facts.agency.eligibility)
    except (ValidationError, ProbegateError):
        raise ProbegateError(Reason.GALLERY_CORRUPT, "a row of facts does not parse") from None
    if facts.rules != expected:
        raise ProbegateError(
            Reason.GALLERY_CORRUPT, "imported under other eligibility rules; import it again"
        )
    return facts


def require_flat(server: Server, timeout_s: float) -> None:
    """Refuse a collection whose index could miss a record (2).

    Raises:
        ProbegateError: ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
    """
    with faults():
        index = server.client.describe_index(server.records, "template", timeout=timeout_s)
    stated = (index or {}).get("index_type"), (index or {}).get("metric_type")
    if stated != ("FLAT", "IP"):
        raise ProbegateError(Reason.GALLERY_CORRUPT, "the index is not FLAT by inner product")


def query(
    server: Server, collection: str, condition: str, fields: list[str], timeout_s: float
) -> list[dict[str, Any]]:
    """Return every row that meets a condition (4)."""
    iterator = server.client.query_iterator(
        collection,
        batch_size=1000,
        filter=condition,
        output_fields=fields,
        consistency_level=STRONG,
        timeout=timeout_s,
    )
    rows: list[dict[str, Any]] = []
    try:
        while batch := iterator.next():
            rows += batch
    finally:
        iterator.close()
    return rows


def count(server: Server, condition: str, timeout_s: float) -> int:
    """Return how many versions meet a condition (4)."""
    with faults():
        found = server.client.query(
            server.records,
            filter=condition,
            output_fields=["count(*)"],
            consistency_level=STRONG,
            timeout=timeout_s,
        )
    return int(found[0]["count(*)"])


def create_collections(server: Server, kind: AgencyKind, dims: int) -> None:
    """Make a gallery's collections where they are missing (1) (2) (3)."""
    from pymilvus import DataType

    client = server.client
    with faults():
        if not client.has_collection(server.records):
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field(
                "version_id", DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES
            )
            schema.add_field("record_id", DataType.VARCHAR, max_length=MAX_ID_BYTES)
            for name in ("since", "until", "superseded_s", *barred_fields(len(kind.eligibility))):
                schema.add_field(name, DataType.INT64)
            schema.add_field("fields", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
            schema.add_field("template", DataType.FLOAT_VECTOR, dim=dims)
            _create(server, server.records, schema, "template", "IP")
        if not client.has_collection(server.facts):
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("generation", DataType.INT64, is_primary=True)
            schema.add_field("body", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
            schema.add_field("unused", DataType.FLOAT_VECTOR, dim=2)  # Milvus insists on a vector
            _create(server, server.facts, schema, "unused", "L2")


def _create(server: Server, name: str, schema: Any, vector: str, metric: str) -> None:
    index = server.client.prepare_index_params()
    index.add_index(vector, index_type="FLAT", metric_type=metric)
    server.client.create_collection(
        name, schema=schema, index_params=index, consistency_level=STRONG
    )


def barred_fields(rules: int) -> list[str]:
    """Return the names of the fields that say when a record is barred (3)."""
    return [f"barred_{n}_{end}" for n in range(rules) for end in ("first", "end")]
