"""The tables of a gallery in PostgreSQL with pgvector, and how its server is spoken to.

1. One gallery is one schema: a row of facts, and rows of records. A row is in the generations from
   ``since`` up to and without ``until``, so a gallery that is open goes on seeing its generation.
2. A template is stored as pgvector stores it, float32, and goes in and out in pgvector's binary
   form; no decimal digits are between. A check holds its length to 1 within float32's rounding,
   which the certificate rests on, whoever writes to the table.
3. What bars a record is a pair of day numbers for each eligibility rule, in the rules' order.
4. Parameters are bound, never written into a statement, and never shown in an error; a server
   further away than this machine is spoken to over verified TLS unless the location says otherwise.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl, unquote

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

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

SCHEMA: Final = "probegate_gallery"
"""The schema if the location does not name one (``?schema=``)."""
INLINE_DIMS: Final = 1_900
"""Most dimensions whose template is kept in the row itself and not beside the table."""
SLACK_S: Final = 5.0
"""How much longer the socket waits than the server's own statement timeout, seconds."""
UNSAMPLED: Final = ("record_id", "fields", "template")
"""Columns that ANALYZE leaves alone: its samples stay in the catalogue when their rows are gone."""
_SCHEMA_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)
_OPTIONS: Final = frozenset({"schema", "sslmode", "sslrootcert", "unix_sock"})
_MISSING: Final = frozenset({"3F000", "42P01"})
"""SQLSTATE: no such schema, no such table."""
_TIMED_OUT: Final = frozenset({"57014", "55P03"})
"""SQLSTATE: statement timeout, lock timeout."""
_FULL: Final = frozenset({"53100"})


class Facts(BaseModel):
    """The row of facts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["probegate-pgvector/1"]
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
    """A PostgreSQL server and the schema of one gallery in it."""

    engine: Engine
    schema: str
    timeout_s: float

    @property
    def rows(self) -> str:
        """The table of records."""
        return f"{self.schema}.records"

    @property
    def facts(self) -> str:
        """The table of facts."""
        return f"{self.schema}.facts"


def connect(location: str, settings: EngineSettings, timeout_s: float) -> Server:
    """Make the pool of connections; nothing is sent yet (4).

    Args:
        location: ``postgresql://user@host:port/database``, with ``schema``, ``sslmode``
            (``verify-full`` or ``disable``), ``sslrootcert`` or ``unix_sock`` as its query.
        settings: where the password is, and how many connections there may be.
        timeout_s: longest one statement may take, seconds.

    Raises:
        ProbegateError: ``CONFIG_INVALID``.
    """
    parts = split_location(location)
    options = dict(parse_qsl(parts.query))
    schema = options.get("schema", SCHEMA)
    if not options.keys() <= _OPTIONS or not _SCHEMA_NAME.fullmatch(schema):
        raise config_invalid(f"known options: {', '.join(sorted(_OPTIONS))}")
    arguments: dict[str, Any] = {"timeout": timeout_s + SLACK_S}
    if "unix_sock" in options:
        arguments["unix_sock"] = options["unix_sock"]
    else:
        arguments["ssl_context"] = _tls(parts.hostname or "localhost", options)
    url = URL.create(
        "postgresql+pg8000",
        username=unquote(parts.username) if parts.username else None,
        password=settings.secret() or None,
        host=None if "unix_sock" in options else parts.hostname or "localhost",
        port=parts.port,
        database=unquote(parts.path.lstrip("/")) or None,
    )
    try:
        engine = create_engine(
            url,
            connect_args=arguments,
            pool_size=settings.engine_connections,
            max_overflow=0,
            pool_timeout=timeout_s,
            hide_parameters=True,
        )
    except ImportError:
        raise extra_missing("postgres") from None
    event.listen(engine, "checkout", _require_alive)
    return Server(engine, schema, timeout_s)


def _require_alive(connection: Any, _record: object, _proxy: object) -> None:
    """Have a connection that the server gave up replaced before anything is asked over it.

    The pool's own ping would leave a transaction open, whose isolation cannot be set any more.
    """
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        connection.rollback()
    except Exception as error:  # noqa: BLE001 - whatever it is, this connection is of no use
        raise DisconnectionError(type(error).__name__) from None


def _tls(host: str, options: dict[str, str]) -> ssl.SSLContext | None:
    mode = options.get("sslmode", "disable" if host in LOOPBACK else "verify-full")
    if mode == "disable":
        return None
    if mode != "verify-full":
        raise config_invalid("sslmode is verify-full or disable")
    try:
        return ssl.create_default_context(cafile=options.get("sslrootcert"))
    except OSError:
        raise config_invalid("sslrootcert cannot be read") from None


def failure(error: Exception) -> ProbegateError:
    """Return what a fault of the server or of the way to it is reported as."""
    if isinstance(error, PoolTimeout):
        return ProbegateError(Reason.SERVER_BUSY, "every connection to the gallery is in use")
    code = sqlstate(error)
    if code in _MISSING:
        return ProbegateError(Reason.GALLERY_MISSING, "no such schema")
    if code in _TIMED_OUT:
        return ProbegateError(Reason.DEADLINE_PASSED, "the gallery's engine")
    if code in _FULL:
        return ProbegateError(Reason.DISK_FULL, "the gallery's engine")
    detail = f"PostgreSQL {code}" if code else type(error).__name__
    return ProbegateError(Reason.GALLERY_UNAVAILABLE, detail)


def sqlstate(error: Exception) -> str:
    """Return the server's code and nothing of its message, which may quote what was sent."""
    fields = getattr(error, "orig", error).args if isinstance(error, DBAPIError) else error.args
    found = fields[0].get("C", "") if fields and isinstance(fields[0], dict) else ""
    return str(found)


FAULTS: Final = (SQLAlchemyError, OSError)
"""What a server or the way to it can fail with."""


def read_facts(connection: Connection, server: Server, *, lock: bool = False) -> Facts:
    """Read the row of facts; with ``lock``, as the only writer.

    Raises:
        ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_CORRUPT``.
    """
    names = ", ".join(Facts.model_fields)
    suffix = " FOR UPDATE" if lock else ""
    row = connection.execute(text(f"SELECT {names} FROM {server.facts}{suffix}")).mappings().first()
    if row is None:
        raise ProbegateError(Reason.GALLERY_MISSING, "nothing was imported")
    try:
        facts = Facts.model_validate(dict(row))
        expected = tuple(rule.name for rule in facts.agency.eligibility)
    except (ValidationError, ProbegateError):
        raise ProbegateError(Reason.GALLERY_CORRUPT, "the row of facts does not parse") from None
    if facts.rules != expected:
        raise ProbegateError(
            Reason.GALLERY_CORRUPT, "imported under other eligibility rules; import it again"
        )
    return facts


def create_tables(
    connection: Connection, server: Server, kind: AgencyKind, model: str, dims: int, now: datetime
) -> None:
    """Make a gallery's tables and its row of facts where they are missing."""
    barred = "".join(
        f", {column} integer NOT NULL" for column in barred_columns(len(kind.eligibility))
    )
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {server.schema}"))
    connection.execute(
        text(f"""
            CREATE TABLE IF NOT EXISTS {server.facts} (
                one boolean PRIMARY KEY CHECK (one), format text NOT NULL, kind text NOT NULL,
                model text NOT NULL, dims integer NOT NULL, generation bigint NOT NULL,
                oldest bigint NOT NULL, count bigint NOT NULL, changed_at timestamptz NOT NULL,
                rules jsonb NOT NULL)
            """)
    )
    connection.execute(
        text(f"""
            CREATE TABLE IF NOT EXISTS {server.rows} (
                row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                record_id text COLLATE "C" NOT NULL, since bigint NOT NULL, until bigint NOT NULL,
                superseded_at timestamptz, fields jsonb NOT NULL, template vector({dims}) NOT NULL
                    CHECK (abs(vector_norm(template) - 1) < 1e-6) {barred},
                UNIQUE (record_id, until))
            """)
    )
    if dims <= INLINE_DIMS:
        connection.execute(
            text(f"ALTER TABLE {server.rows} ALTER COLUMN template SET STORAGE PLAIN")
        )
    leave_unsampled(connection, server.rows)
    connection.execute(
        text(
            f"INSERT INTO {server.facts} VALUES (true, 'probegate-pgvector/1', :kind, :model,"
            " :dims, 0, 0, 0, :now, CAST(:rules AS jsonb)) ON CONFLICT DO NOTHING"
        ),
        {"kind": kind.name, "model": model, "dims": dims, "now": now, "rules": _rules(kind)},
    )


def leave_unsampled(connection: Connection, table: str) -> None:
    """Keep what is in a table's rows out of the planner's statistics."""
    alterations = ", ".join(f"ALTER COLUMN {name} SET STATISTICS 0" for name in UNSAMPLED)
    connection.execute(text(f"ALTER TABLE {table} {alterations}"))


def barred_columns(rules: int) -> list[str]:
    """Return the names of the columns that say when a record is barred (3)."""
    return [f"barred_{n}_{end}" for n in range(rules) for end in ("first", "end")]


def _rules(kind: AgencyKind) -> str:
    names = ", ".join(f'"{rule.name}"' for rule in kind.eligibility)
    return f"[{names}]"
