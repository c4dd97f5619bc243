"""Erasing records from a gallery, with a certificate (DPA 2018 s.47).

1. That it is about to happen is on the admin log first, with the authority but without record ids:
   the log outlives what it is about.
2. What cannot be erased from here, and what is not there, is refused before anything is destroyed.
   Then what will be is written (``erasures``), and candidates that stand for the records are
   marked and details of them that were sealed erased, so that nothing of them is said any more
   (``erased``). Their images in the agency's own store are overwritten and unlinked (``images``).
   The gallery is changed as ``galleries.editing`` says: when it is done no file of the gallery
   holds a template or a record of anybody who was erased. Where an engine holds the gallery, it is
   changed as ``galleries.writing`` says. Candidates are marked once more, the database's files are
   scrubbed, and what may remain anywhere is on the certificate.
3. The certificate says what was done and is signed by the agency; its digest is on the admin log.
4. It names record ids, so it goes to whoever asked for the erasure and is kept here only until it
   is handed over. The same asked for again finishes what was cut short, and returns the certificate
   that could not be written.

What no program can undo: copies that were taken of the gallery's files before, such as backups, and
blocks that a storage device keeps for itself after they were overwritten, or that files gave back
when an enrolment, an import or a compaction replaced them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Engine

from agency_adapters.erased import TABLES, mark_erased
from agency_adapters.erasures import Begun, begin, forget, keep_certificate, key_of
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.engines import config_invalid
from agency_adapters.galleries.manifest import read_manifest
from agency_adapters.galleries.opening import OSIA, open_gallery, open_writer, scheme_of
from agency_adapters.galleries.writing import require_erasable
from agency_adapters.images import ImageStore
from agency_adapters.operators import Operator
from agency_adapters.registry import kind_named
from agency_adapters.tables import erasures
from audit.scrubbing import scrub
from trust import dsse, strict_json
from trust.errors import ProbegateError, Reason
from trust.member_folder import MemberFolder
from trust.payload_types import PayloadType

REMAINS_FILES: Final = (
    "copies taken before, such as backups",
    "blocks a storage device keeps",
    "blocks that files of the gallery's earlier generations gave back",
)
"""What no erasure from a gallery in files reaches."""


class ErasureCertificate(BaseModel):
    """What an agency signs about an erasure (3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    agency: str
    kind: str
    model: str
    authority: str
    """The agency's reference of the request or decision."""
    erased: tuple[str, ...]
    """The record ids that were held and are no more."""
    not_held: tuple[str, ...]
    """Those that were asked for and not held."""
    generation_before: Annotated[int, Field(ge=1)]
    generation_after: Annotated[int, Field(ge=1)]
    gallery_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """The digest of the gallery's manifest afterwards; empty where an engine holds it."""
    erased_at: AwareDatetime
    images: Annotated[int, Field(ge=0)] = 0
    """How many image files of theirs were overwritten, flushed and unlinked."""
    method: str
    """What was done to the bytes."""
    remains: tuple[str, ...] = ()
    """What may still hold them, and has to be dealt with by its own means."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """A gallery that was changed: what was begun, and what its certificate says of it."""

    begun: Begun
    kind: str
    model: str
    generation: int
    sha256: str
    at: datetime
    method: str
    remains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Erasure:
    """One erasure of some records, each once and in order, on some authority."""

    operator: Operator
    wanted: tuple[str, ...]
    authority: str

    @classmethod
    def of(cls, operator: Operator, record_ids: Sequence[str], authority: str) -> Self:
        """Return the erasure of some records, named in any order."""
        return cls(operator, tuple(sorted(set(record_ids))), authority)

    @property
    def engine(self) -> Engine:
        """The adapter's database."""
        return self.operator.state.engine

    @property
    def key(self) -> bytes:
        """What it is known by."""
        return key_of(self.wanted, self.authority)

    def begin(self, held: Sequence[str], generation: int) -> Begun:
        """Write what is to be destroyed, and then destroy all but the gallery's own (2).

        Raises:
            ProbegateError: ``NOT_FOUND`` if there is nothing, and nothing is destroyed;
                ``STATE_UNAVAILABLE``, ``DISK_FULL`` or ``FILE_UNWRITABLE``.
        """
        now, images = self.operator.clock(), ImageStore(self.operator.settings.images_dir)
        there = Begun(self.key, tuple(held), images.names(self.wanted), generation)
        begun = begin(self.engine, there, now)
        if begun is None and mark_erased(self.engine, self.wanted, now):
            # An import had dropped the record; what was found of it could still be told.
            begun = begin(self.engine, there, now, said=True)
        if begun is None:
            raise ProbegateError(Reason.NOT_FOUND)
        if begun.certificate is None:
            mark_erased(self.engine, self.wanted, now)
            images.erase(self.wanted)
        return begun

    def in_files(self) -> _Changed:
        """Erase from a gallery in files, all of it under the gallery's lock."""
        gallery, at = Path(self.operator.settings.gallery), self.operator.clock()
        with editing(gallery) as editor:
            begun = self.begin(editor.held(self.wanted), editor.generation)
            editor.erase(self.wanted, at)
            after = read_manifest(gallery)
        return _Changed(
            begun=begun,
            kind=after.kind,
            model=after.model,
            generation=after.generation,
            sha256=after.sha256,
            at=at,
            method="overwritten, flushed and unlinked",
            remains=REMAINS_FILES,
        )

    def in_engine(self, held: Sequence[str]) -> _Changed:
        """Erase from a gallery in an engine, which is known to hold some of the records."""
        settings = self.operator.settings
        writer = open_writer(settings.gallery, kind_named(settings.kind), settings)
        try:
            try:
                begun = self.begin(held, writer.stats.generation)
            except ProbegateError as error:
                if error.reason is Reason.NOT_FOUND:  # what went before may be in its files yet
                    writer.erase(self.wanted, self.authority)
                raise
            done = writer.erase(self.wanted, self.authority)
        finally:
            writer.close()
        return _Changed(
            begun=replace(begun, erased=tuple(sorted({*begun.erased, *done.erased}))),
            kind=settings.kind,
            model="",
            generation=done.generation,
            sha256="",
            at=done.at,
            method="deleted by the engine and its store rewritten",
            remains=done.remains,
        )

    async def held(self) -> tuple[str, ...]:
        """Return which of the records an engine holds.

        Raises:
            ProbegateError: ``GALLERY_MISSING`` or ``GALLERY_UNAVAILABLE``.
        """
        settings = self.operator.settings
        gallery = await open_gallery(settings.gallery, kind_named(settings.kind), engines=settings)
        try:
            return tuple([one for one in self.wanted if await gallery.record(one) is not None])
        finally:
            await gallery.close()

    def certified(self, changed: _Changed, remains: Sequence[str]) -> ErasureCertificate:
        """Return what the certificate says (3)."""
        begun = changed.begun
        return ErasureCertificate(
            agency=self.operator.settings.id,
            kind=changed.kind,
            model=changed.model,
            authority=self.authority,
            erased=begun.erased,
            not_held=tuple(one for one in self.wanted if one not in set(begun.erased)),
            generation_before=begun.generation,
            generation_after=changed.generation,
            gallery_sha256=changed.sha256,
            erased_at=changed.at,
            images=len(begun.images),
            method=changed.method,
            remains=(*changed.remains, *remains),
        )


async def erase_records(
    operator: Operator, record_ids: Sequence[str], authority: str
) -> tuple[ErasureCertificate, dsse.Envelope]:
    """Erase records and return the certificate, plain and signed; given again, the same (4).

    Raises:
        ProbegateError: ``USAGE`` without records or authority, or for more or others than an engine
            takes; ``CONFIG_INVALID`` where a matcher is not written to from here; ``NOT_FOUND`` if
            nothing is held; ``FILE_UNWRITABLE`` for an image or a file of the gallery that cannot
            be erased; ``STATE_UNAVAILABLE`` or ``DISK_FULL``; ``GALLERY_MISSING``,
            ``GALLERY_CORRUPT``, ``GALLERY_LOCKED`` or ``GALLERY_UNAVAILABLE``; ``LOG_UNAVAILABLE``.
    """
    if not record_ids or not authority:
        raise ProbegateError(Reason.USAGE, "name the records and the authority")
    settings = operator.settings
    erasure = _Erasure.of(operator, record_ids, authority)
    in_engine = bool(scheme_of(settings.gallery))
    if in_engine:
        require_erasable(erasure.wanted)
        if scheme_of(settings.gallery) in OSIA:
            raise config_invalid("a matcher's gallery is not written to from here")
    await operator.log("records.erasing", authority=authority, count=len(erasure.wanted))  # (1)
    if in_engine:
        changed = await asyncio.to_thread(erasure.in_engine, await erasure.held())
    else:
        changed = await asyncio.to_thread(erasure.in_files)
    kept = changed.begun.certificate
    if kept is not None:  # (4)
        return ErasureCertificate.model_validate_json(kept.payload), kept
    await asyncio.to_thread(mark_erased, erasure.engine, erasure.wanted, operator.clock())  # (2)
    remains = await asyncio.to_thread(scrub, erasure.engine, TABLES)  # (2)
    certificate = erasure.certified(changed, remains)
    payload = strict_json.canonical(certificate.model_dump(mode="json"))
    signer = MemberFolder(settings.member_folder).signer()
    envelope = dsse.sign(PayloadType.ERASURE_CERTIFICATE, payload, signer)
    await operator.log(  # (3)
        "records.erased",
        authority=authority,
        count=len(certificate.erased),
        generation=certificate.generation_after,
        certificate_sha256=hashlib.sha256(payload).hexdigest(),
    )
    keep_certificate(erasure.engine, erasure.key, envelope, operator.clock())  # (4)
    return certificate, envelope


async def handed_over(operator: Operator, record_ids: Sequence[str], authority: str) -> None:
    """Forget an erasure whose certificate is where it belongs (4).

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    erasure = _Erasure.of(operator, record_ids, authority)
    forget(erasure.engine, erasure.key)
    await asyncio.to_thread(scrub, erasure.engine, (erasures.name,))
