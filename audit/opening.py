"""Finding entries, and opening the personal values that they only commit to.

1. What is public of an entry can be searched by anybody who has the log's folder.
2. Values are read only where the organisation keeps them, and whoever does so has put the read and
   its purpose on the admin log before (``reading_facts``; DPA 2018 s.62(4)).
3. A value is shown only if it is the one its entry committed to.
4. A value that is gone is shown as erased: when, by which entry, on whose authority.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from audit.kinds import ERASED, EVERY_FIELD
from audit.leaves import COMMITMENTS, SALT_BYTES, JsonValue, commitment
from audit.reader import LogReader
from trust.errors import ProbegateError, Reason

if TYPE_CHECKING:
    from sqlalchemy import Connection

PURPOSES: Final = (
    "lawfulness",
    "self_monitoring",
    "integrity_and_security",
    "criminal_proceedings",
)
"""What a log may be read for: DPA 2018 s.62(4)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; what is not said does not matter.

    Attributes:
        entry: this index.
        kind: the entry's type.
        search_id: its search, or the beginning of its id.
        searches: one of these searches.
        force: who asked.
        agency: an agency that it decides about or tells the outcome of.
        state: an agency's outcome or report.
        clause: a clause that failed.
        denied: an agency was denied.
        since: from this instant.
        until: before this instant.
        officer: the officer's id, a value (2).
        case: the case reference, a value (2).
    """

    entry: int | None = None
    kind: str = ""
    search_id: str = ""
    searches: frozenset[str] = frozenset()
    force: str = ""
    agency: str = ""
    state: str = ""
    clause: str = ""
    denied: bool = False
    since: datetime | None = None
    until: datetime | None = None
    officer: str = ""
    case: str = ""

    @property
    def asks_values(self) -> bool:
        """Whether values decide."""
        return bool(self.officer or self.case)

    def admits(self, index: int, said: Mapping[str, Any]) -> bool:
        """Whether an entry's public facts are as wanted (1)."""
        parts = [one for name in ("decisions", "outcomes") for one in _maps(said.get(name))]
        parts = [one for one in parts if not self.agency or one.get("agency") == self.agency]
        own = self.agency in {"", said.get("agency")} or bool(parts)
        states = {said.get("state"), *(one.get("state") for one in parts)}
        clauses = {clause for one in parts for clause in one.get("failed", ())}
        return (
            self.entry in {None, index}
            and self.kind in {"", said.get("type")}
            and str(said.get("search_id", "")).startswith(self.search_id)
            and (not self.searches or said.get("search_id") in self.searches)
            and self.force in {"", said.get("force")}
            and own
            and (not self.state or self.state in states)
            and (not self.clause or self.clause in clauses)
            and (not self.denied or any(one.get("permitted") is False for one in parts))
            and self._in_time(said.get("at"))
        )

    def opens(self, opened: Mapping[str, Any]) -> bool:
        """Whether an entry's values are as wanted."""
        officer = opened.get("officer")
        name = officer.get("id") if isinstance(officer, dict) else None
        return self.officer in {"", name} and self.case in {"", opened.get("case_reference")}

    def _in_time(self, at: Any) -> bool:
        if self.since is None and self.until is None:
            return True
        try:
            when = datetime.fromisoformat(str(at))
        except ValueError:
            return False
        after = self.since is None or when >= self.since
        return after and (self.until is None or when < self.until)


@dataclass(frozen=True, slots=True)
class Erasure:
    """When and on whose authority a value was erased.

    Attributes:
        at: when, as the entry says it.
        authority: the organisation's reference.
        entry: the admin log's entry.
    """

    at: str
    authority: str
    entry: int


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry as it is shown.

    Attributes:
        index: its index.
        said: what it says.
        values: what it only commits to, as far as it is there and was asked for.
        erased: the fields that are gone; None if no entry says why.
    """

    index: int
    said: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    erased: Mapping[str, Erasure | None] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        gone = {
            name: None
            if one is None
            else {"at": one.at, "authority": one.authority, "entry": one.entry}
            for name, one in self.erased.items()
        }
        return {"index": self.index, "entry": self.said, "values": self.values, "erased": gone}


def find(
    reader: LogReader,
    wanted: Wanted,
    *,
    connection: Connection | None = None,
    log: str = "",
    erasures: Mapping[tuple[int, str], Erasure] | None = None,
) -> Iterator[Opened]:
    """Yield the entries that are wanted, in the log's order.

    Args:
        reader: the log.
        wanted: which entries.
        connection: to the organisation's database, if values are to be opened (2).
        log: the log's name in it.
        erasures: what ``read_erasures`` found.

    Raises:
        ProbegateError: LOG_CORRUPT, FILE_MISSING, or LOG_PROOF_INVALID for a value that is not the
            one its entry committed to (3).
    """
    start = wanted.entry or 0
    stop = None if wanted.entry is None else wanted.entry + 1
    for index, leaf in reader.leaves(start, stop):
        said = json.loads(leaf)
        if not wanted.admits(index, said):
            continue
        if connection is None:
            yield Opened(index, said)
            continue
        found = _opened(connection, log, index, said, erasures or {})
        if wanted.opens(found.values):
            yield found


def read_erasures(admin: Path, log: str) -> dict[tuple[int, str], Erasure]:
    """Return what the admin log says was erased of a log, by entry and field (4).

    Args:
        admin: the admin log's folder.
        log: the name of the log that lost values.
    """
    found: dict[tuple[int, str], Erasure] = {}
    for index, said in LogReader(admin).facts():
        if said.get("type") != ERASED or said.get("log") != log:
            continue
        one = Erasure(str(said.get("at")), str(said.get("authority")), index)
        for entry in _list(said.get("entries")):
            for name in _list(said.get("fields")):
                found.setdefault((entry, name), one)
    return found


def reading_facts(reader: str, log: str, size: int, purpose: str) -> dict[str, JsonValue]:
    """Return what the admin log says of a read of values (2)."""
    return {"reader": reader, "log": log, "start": 0, "end": size, "purpose": purpose}


def day(text: str) -> datetime:
    """Return the instant a day begins, UTC, or the instant itself if the text says one.

    Raises:
        ValueError: for anything else.
    """
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def open_values(
    connection: Connection, log: str, index: int, said: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the values of one entry that are there.

    Raises:
        ProbegateError: LOG_PROOF_INVALID for one that is not what its entry committed to (3).
    """
    from audit.values import read_values  # an auditor's machine does without the database

    committed, opened = said.get(COMMITMENTS, {}), {}
    for name, kept in read_values(connection, log, index).items():
        made = commitment(name, kept.salt, kept.value)
        if len(kept.salt) != SALT_BYTES or committed.get(name) != made:
            detail = f"entry {index}: the value is not the one committed"
            raise ProbegateError(Reason.LOG_PROOF_INVALID, detail=detail)
        opened[name] = json.loads(kept.value)
    return opened


def checked_purpose(purpose: str) -> str:
    """Return a purpose a log may be read for (2).

    Raises:
        ProbegateError: ``READ_PURPOSE_MISSING``.
    """
    if purpose not in PURPOSES:
        raise ProbegateError(Reason.READ_PURPOSE_MISSING, f"one of {', '.join(PURPOSES)}")
    return purpose


def _opened(
    connection: Connection,
    log: str,
    index: int,
    said: Mapping[str, Any],
    erasures: Mapping[tuple[int, str], Erasure],
) -> Opened:
    opened = open_values(connection, log, index, said)
    erased = {
        name: erasures.get((index, name)) or erasures.get((index, EVERY_FIELD))
        for name in said.get(COMMITMENTS, {})
        if name not in opened
    }
    return Opened(index, said, opened, erased)


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
