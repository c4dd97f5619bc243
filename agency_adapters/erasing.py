"""Erasing records from a gallery, with a certificate (DPA 2018 s.47).

1. That it is about to happen is on the admin log first, with the authority but without record ids:
   the log outlives what it is about.
2. The gallery is changed as ``galleries.editing`` says: when it is done no file of the gallery
   holds a template or a record of anybody who was erased. Where an engine holds the gallery, it is
   changed as ``galleries.writing`` says, and what may remain in the engine is on the certificate.
   The records' images in the agency's own store are overwritten and unlinked (``images``).
   Candidates that stand for them are marked before, and details of them that were sealed are
   erased, so that nothing of them is said any more; both again when the gallery has changed
   (``erased``). Then the database's files are scrubbed.
3. The certificate says what was done and is signed by the agency; its digest is on the admin log.
   It names record ids, so it goes to whoever asked for the erasure and is not kept here.

What no program can undo: copies that were taken of the gallery's files before, such as backups, and
blocks that a storage device keeps for itself after they were overwritten.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from agency_adapters.erased import TABLES, mark_erased
from agency_adapters.galleries.editing import editing
from agency_adapters.galleries.manifest import read_manifest
from agency_adapters.galleries.opening import open_writer, scheme_of
from agency_adapters.images import ImageStore
from agency_adapters.operators import Operator
from agency_adapters.registry import kind_named
from audit.erasing import scrub
from trust import dsse, strict_json
from trust.errors import ProbegateError, Reason
from trust.member_folder import MemberFolder
from trust.payload_types import PayloadType


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


async def erase_records(
    operator: Operator, record_ids: Sequence[str], authority: str
) -> tuple[ErasureCertificate, dsse.Envelope]:
    """Erase records and return the certificate, plain and signed.

    Raises:
        ProbegateError: ``USAGE`` without records or authority; ``NOT_FOUND`` if none is held;
            ``FILE_UNWRITABLE`` for an image that cannot be erased; ``STATE_UNAVAILABLE``;
            ``GALLERY_MISSING``, ``GALLERY_CORRUPT`` or ``GALLERY_LOCKED``; ``LOG_UNAVAILABLE``.
    """
    if not record_ids or not authority:
        raise ProbegateError(Reason.USAGE, "name the records and the authority")
    wanted = sorted(set(record_ids))
    await operator.log("records.erasing", authority=authority, count=len(wanted))  # (1)
    settings = operator.settings
    # First, so that a command that failed here can be given again.
    engine = operator.state.engine
    await asyncio.to_thread(mark_erased, engine, wanted, operator.clock())  # (2)
    images = await asyncio.to_thread(ImageStore(settings.images_dir).erase, wanted)  # (2)
    if scheme_of(settings.gallery):
        certificate = await asyncio.to_thread(_erased_in_engine, operator, wanted, authority)
    else:
        certificate = await asyncio.to_thread(_erased_in_files, operator, wanted, authority)
    await asyncio.to_thread(mark_erased, engine, wanted, operator.clock())  # (2)
    remains = await asyncio.to_thread(scrub, engine, TABLES)  # (2)
    certificate = certificate.model_copy(
        update={"images": images, "remains": (*certificate.remains, *remains)}
    )
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
    return certificate, envelope


def _erased_in_files(
    operator: Operator, wanted: Sequence[str], authority: str
) -> ErasureCertificate:
    gallery, at = Path(operator.settings.gallery), operator.clock()
    with editing(gallery) as editor:
        before = editor.generation
        erased = editor.erase(wanted, at)  # (2)
    if not erased:
        raise ProbegateError(Reason.NOT_FOUND)
    after = read_manifest(gallery)
    return ErasureCertificate(
        agency=operator.settings.id,
        kind=after.kind,
        model=after.model,
        authority=authority,
        erased=erased,
        not_held=tuple(one for one in wanted if one not in set(erased)),
        generation_before=before,
        generation_after=after.generation,
        gallery_sha256=after.sha256,
        erased_at=at,
        method="overwritten, flushed and unlinked",
        remains=("copies taken before, such as backups", "blocks a storage device keeps"),
    )


def _erased_in_engine(
    operator: Operator, wanted: Sequence[str], authority: str
) -> ErasureCertificate:
    settings = operator.settings
    writer = open_writer(settings.gallery, kind_named(settings.kind), settings)
    try:
        before = writer.stats.generation
        done = writer.erase(wanted, authority)  # (2)
    finally:
        writer.close()
    if not done.erased:
        raise ProbegateError(Reason.NOT_FOUND)
    return ErasureCertificate(
        agency=settings.id,
        kind=settings.kind,
        model="",
        authority=authority,
        erased=done.erased,
        not_held=done.unknown,
        generation_before=before,
        generation_after=done.generation,
        erased_at=done.at,
        method="deleted by the engine and its store rewritten",
        remains=done.remains,
    )
