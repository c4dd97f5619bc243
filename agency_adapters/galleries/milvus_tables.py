"""The collections of a gallery in Milvus, and how its server is spoken to.

1. One gallery is two collections: versions of records, and one row of facts for each generation.
   A version is in the generations from ``since`` up to and without ``until``. Milvus has no
   transactions, so a write takes effect with the one row of facts it inserts last. That row also
   says which collection of records it is about: an erasure makes a new one.
2. The index is FLAT and the metric is IP: every template is compared. Anything else is refused.
3. What bars a record is a pair of day numbers for each eligibility rule, in the rules' order.
4. Every question is asked at Milvus's strong consistency, so that what was written is seen.
5. A server further away than this machine is spoken to over TLS unless the location says otherwise.
   pymilvus's own log lines, which quote requests, are turned off.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
_OF_ANOTHER: Final = re.compile(r".*_(facts|store[0-9]+)", re.ASCII)
"""Names that a gallery's own collections have, so that no gallery can be taken for another's."""


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
    store: Annotated[int, Field(ge=0)] = 0
    """Which collection of records, as ``Server.records`` counts them."""

    @property
    def agency(self) -> AgencyKind:
        """Whose gallery it is."""
        return kind_named(self.kind)


@dataclass(frozen=True, slots=True)
class Server:
    """A Milvus server and the name of one gallery in it.

    Attributes:
        client: speaks to it.
        name: the gallery's.
        folder: where Milvus Lite has its files; None for a server.
    """

    client: MilvusClient
    name: str
    folder: Path | None

    @property
    def facts(self) -> str:
        """The collection of facts."""
        return f"{self.name}_facts"

    def records(self, store: int) -> str:
        """Return the collection of records that is the gallery's first, second, ..."""
        return f"{self.name}_store{store}" if store else self.name


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
    if _OF_ANOTHER.fullmatch(name):
        raise config_invalid("a collection's name does not end in _facts or _store and a number")
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
    folder = None
    if parts.scheme == "milvus+file":
        if not parts.path.endswith(".db") or parts.netloc:
            raise config_invalid("Milvus Lite's file is milvus+file:///path/name.db")
        folder = Path(unquote(parts.path))
        arguments["uri"] = str(folder)
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
        return Server(MilvusClient(**arguments), name, folder)


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


def require_flat(server: Server, store: int, timeout_s: float) -> None:
    """Refuse a collection whose index could miss a record (2).

    Raises:
        ProbegateError: ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
    """
    with faults():
        index = server.client.describe_index(server.records(store), "template", timeout=timeout_s)
    stated = (index or {}).get("index_type"), (index or {}).get("metric_type")
    if stated != ("FLAT", "IP"):
        raise ProbegateError(Reason.GALLERY_CORRUPT, "the index is not FLAT by inner product")


def query(
    server: Server, collection: str, condition: str, fields: list[str], timeout_s: float
) -> list[dict[str, Any]]:
    """Return every row that meets a condition (4)."""
    return list(stream(server, collection, condition, fields, timeout_s))


def stream(
    server: Server, collection: str, condition: str, fields: list[str], timeout_s: float
) -> Iterator[dict[str, Any]]:
    """Yield every row that meets a condition, some at a time (4)."""
    iterator = server.client.query_iterator(
        collection,
        batch_size=1000,
        filter=condition,
        output_fields=fields,
        consistency_level=STRONG,
        timeout=timeout_s,
    )
    try:
        while batch := iterator.next():
            yield from batch
    finally:
        iterator.close()


def count(server: Server, records: str, condition: str, timeout_s: float) -> int:
    """Return how many versions meet a condition (4)."""
    with faults():
        found = server.client.query(
            records,
            filter=condition,
            output_fields=["count(*)"],
            consistency_level=STRONG,
            timeout=timeout_s,
        )
    return int(found[0]["count(*)"])


def create_records(server: Server, store: int, kind: AgencyKind, dims: int) -> None:
    """Make a gallery's collection of records if it is missing (1) (2) (3)."""
    from pymilvus import DataType

    client, name = server.client, server.records(store)
    with faults():
        if not client.has_collection(name):
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field(
                "version_id", DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES
            )
            schema.add_field("record_id", DataType.VARCHAR, max_length=MAX_ID_BYTES)
            for field in ("since", "until", "superseded_s", *barred_fields(len(kind.eligibility))):
                schema.add_field(field, DataType.INT64)
            schema.add_field("fields", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
            schema.add_field("template", DataType.FLOAT_VECTOR, dim=dims)
            _create(server, name, schema, "template", "IP")


def create_facts(server: Server) -> None:
    """Make a gallery's collection of facts if it is missing (1)."""
    from pymilvus import DataType

    client = server.client
    with faults():
        if not client.has_collection(server.facts):
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("generation", DataType.INT64, is_primary=True)
            schema.add_field("body", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
            schema.add_field("unused", DataType.FLOAT_VECTOR, dim=2)  # Milvus insists on a vector
            _create(server, server.facts, schema, "unused", "L2")


def drop_records(server: Server, store: int, timeout_s: float) -> None:
    """Drop a collection of records if it is there, and see Milvus Lite's files of it gone."""
    name = server.records(store)
    with faults():
        if server.client.has_collection(name, timeout=timeout_s):
            server.client.drop_collection(name, timeout=timeout_s)
        left = server.folder and server.folder / "collections" / name
        if left and left.exists():  # Milvus Lite, cut short while it dropped, forgets the rest
            shutil.rmtree(left)


def _create(server: Server, name: str, schema: Any, vector: str, metric: str) -> None:
    index = server.client.prepare_index_params()
    index.add_index(vector, index_type="FLAT", metric_type=metric)
    server.client.create_collection(
        name, schema=schema, index_params=index, consistency_level=STRONG
    )


def barred_fields(rules: int) -> list[str]:
    """Return the names of the fields that say when a record is barred (3)."""
    return [f"barred_{n}_{end}" for n in range(rules) for end in ("first", "end")]
