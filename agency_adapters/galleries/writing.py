"""Writing to a gallery that an engine holds: enrol, update and erase, one protocol for all.

1. A write takes effect as a whole, as one new generation, or not at all. Galleries that are open
   keep the generation before it, but for what is erased, which is gone for them as well.
2. A record id that is there already is an update: its record and its template are replaced.
3. Erasure removes the template's bytes, older versions' too, from every file that the engine lets
   us reach before it returns: PostgreSQL's tables, statistics and log, Milvus Lite's folder. What
   an engine lets go of in its own time (a Milvus server's object storage, PostgreSQL's log for a
   role that may not clear it), and what cannot be reached from here, the report states.
4. One writer at a time; a second one waits or is refused, it never mixes with the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from agency_adapters.agency import AgencyKind, Days, Record, RecordId
from agency_adapters.galleries.rejecting import Losing, anybody
from agency_adapters.galleries.segment_content import NewRecord
from agency_adapters.galleries.templates import template_faults
from trust.errors import ProbegateError, Reason

NEVER: Final = 2**62
"""The generation that ends what has not ended."""
MAX_ERASED: Final = 1_000
"""Most records in one erasure."""
MODEL_ID: Final = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
_RECORD_ID: Final[TypeAdapter[str]] = TypeAdapter(RecordId)
UNIT_ROUNDING: Final = 1e-6
"""How far a stored template's length may be from 1, by float32's rounding alone."""


@dataclass(frozen=True, slots=True)
class EnrolReport:
    """What an enrolment did: the generation it made, how many records are new, changed, gone."""

    generation: int
    enrolled: int
    updated: int
    removed: int


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure did.

    Attributes:
        generation: the generation it made; the one before if it made none.
        at: when the bytes were gone.
        authority: on whose word.
        erased: the records that were erased.
        unknown: the ids that were not there.
        remains: what may still hold the bytes and has to be dealt with by its own means.
    """

    generation: int
    at: datetime
    authority: str
    erased: tuple[str, ...]
    unknown: tuple[str, ...]
    remains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GalleryStats:
    """What a gallery's engine holds.

    Attributes:
        generation: the newest generation.
        records: how many records are in it.
        superseded: older versions of updated records, kept for galleries that are still open.
        store_bytes: what it takes up on the engine's disk, bytes; 0 if the engine cannot tell.
    """

    generation: int
    records: int
    superseded: int
    store_bytes: int


class GalleryWriter(Protocol):
    """Writes to one gallery; its methods block."""

    def enrol(
        self, records: Iterable[NewRecord], *, replace: bool = False, losing: Losing = anybody
    ) -> EnrolReport:
        """Enrol and update records (1) (2); with ``replace``, erase every other record.

        Args:
            records: each is taken once.
            replace: whether this is all that is to be held.
            losing: told, when all were taken, whose records ``replace`` erases; nothing has
                happened if it raises.

        Raises:
            ProbegateError: what ``losing`` raises, and what taking the records does;
                ``IMPORT_INVALID`` for a template that cannot be stored;
                ``GALLERY_UNAVAILABLE`` or ``SERVER_BUSY``.
        """

    def erase(self, record_ids: Sequence[str], authority: str) -> ErasureReport:
        """Erase records (3).

        Raises:
            ProbegateError: ``USAGE`` for more than ``MAX_ERASED`` at once;
                ``GALLERY_UNAVAILABLE`` or ``SERVER_BUSY``.
        """

    @property
    def stats(self) -> GalleryStats:
        """What the engine holds now."""

    def close(self) -> None:
        """Let go of the engine."""


def barred_days(kind: AgencyKind, record: Record) -> list[Days]:
    """Return the days on which each of the kind's rules bars a record, in the rules' order."""
    return [rule.barred(record) for rule in kind.eligibility]


def require_storable(one: NewRecord, kind: AgencyKind, dims: int) -> None:
    """Refuse what must not be stored, whoever made it.

    Raises:
        ProbegateError: ``IMPORT_INVALID``; it names the record's fault, not the record.
    """
    template: npt.NDArray[Any] = one.template
    if template.dtype != np.float32 or template.shape != (dims,):
        raise ProbegateError(Reason.IMPORT_INVALID, f"a template is not float32 of {dims}")
    fault = template_faults(template[np.newaxis], UNIT_ROUNDING)[0]
    if fault or not isinstance(one.record, kind.record):
        raise ProbegateError(Reason.IMPORT_INVALID, fault or "a record of another kind")


def require_erasable(record_ids: Sequence[str]) -> list[str]:
    """Return the ids of an erasure, each once, in order.

    Raises:
        ProbegateError: ``USAGE`` for more than ``MAX_ERASED``, or what cannot be a record's id.
    """
    ids = sorted(set(record_ids))
    if len(ids) > MAX_ERASED:
        raise ProbegateError(Reason.USAGE, f"at most {MAX_ERASED} records in one erasure")
    if not all(map(is_record_id, ids)):
        raise ProbegateError(Reason.USAGE, "not a record id")
    return ids


def is_record_id(text: str) -> bool:
    """Whether a text can be a record's id, and so has nothing that a query language reads."""
    try:
        _RECORD_ID.validate_python(text)
    except ValidationError:
        return False
    return True


def require_fitting(kind: AgencyKind, model: str, dims: int, held: tuple[str, str, int]) -> None:
    """Refuse to write to a gallery of another kind, model or number of dimensions.

    Args:
        kind: whose records are to be written.
        model: the template model's id, empty if the gallery's own is meant.
        dims: the number of dimensions, 0 if the gallery's own is meant.
        held: the gallery's own kind, model and dimensions.

    Raises:
        ProbegateError: ``IMPORT_INVALID``.
    """
    if (kind.name, model or held[1], dims or held[2]) != held:
        is_one = f"it is a gallery of kind {held[0]}, {held[1]}, {held[2]} dimensions"
        raise ProbegateError(Reason.IMPORT_INVALID, is_one)


def require_model(model: str) -> None:
    """Refuse what cannot be a template model's id.

    Raises:
        ProbegateError: ``IMPORT_INVALID``.
    """
    if not re.fullmatch(MODEL_ID, model, re.ASCII):
        raise ProbegateError(Reason.IMPORT_INVALID, "not a template model's id", field="model")
