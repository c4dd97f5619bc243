"""What the second step keeps on this force's disk, each file its owner's alone (0600).

::

    disclosures/<request id>.request.json   a signed request with its sealed facts
    disclosures/<request id>.json           details as the agency signed them, until delete_by
    corroborations/<id>.json                recorded evidence with the broker's receipt
    stop-use/<recall id>.json               a verified recall: its candidate is used no more
    sittings/<review id>.json               who the letters of a sheet are, and what was signed of
                                            it, until that is recorded

A request is on the disk before it is sent, so that no decision can come to one that is forgotten;
signed reviews are, so that they can be sent again as they were.
A recall is on the disk before anybody is told of it, and stays there. Requests and evidence stay
for ``records_retain_days``, and as long as details are here that stand on them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field, ValidationError

from force_client.second_step.disclosing import PreparedRequest, reopen_request
from force_client.second_step.models import (
    OpenedDisclosure,
    Receipt,
    RecordedCorroboration,
    SealedFacts,
)
from force_client.second_step.reviews import digest_of
from force_client.second_step.sheet import Findings
from trust import files
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import MemberId, Reference, Uuid
from trust.second_step import Corroboration, Disclosure, DisclosureRequest, Recall
from trust.wire import decode

SITTING_KEPT: Final = timedelta(days=30)
"""How long a sheet that was never submitted can still be."""
UNFINISHED_KEPT: Final = timedelta(hours=1)
"""How long a file that has not got its name yet may still be on its way to the disk."""
_REQUEST_END: Final = ".request.json"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _KeptRequest(_File):
    request: str
    key_id: str
    facts: Base64Bytes = Field(repr=False)


class _KeptDetails(_File):
    details: str = Field(repr=False)
    delete_by: AwareDatetime
    asked_for: str


class _KeptEvidence(_File):
    corroboration: str
    proof: Base64Bytes
    leaf: Base64Bytes


class _KeptMark(_File):
    number: int
    recall: str


class KeptSeat(_File):
    """Who one letter of a sheet is."""

    label: str
    agency: MemberId
    reference: Reference
    has_image: bool


class KeptSitting(_File):
    """A sitting that is held on a sheet."""

    review_id: Uuid
    search_id: Uuid
    reviewer: str
    started_at: AwareDatetime
    compares: bool
    """Whether the probe's image is on the sheet."""
    seats: tuple[KeptSeat, ...]
    findings: Findings | None = Field(default=None, repr=False)
    """What was found, once all is; on a sheet it is the sheet's until it is sent."""
    sent: tuple[str, ...] = Field(default=(), repr=False)
    """The signed reviews that state it, once they are to be sent."""

    @property
    def signed(self) -> tuple[Envelope, ...]:
        """What was sent, or was about to be.

        Raises:
            ProbegateError: ``ENVELOPE_INVALID``.
        """
        return tuple(_envelope(one) for one in self.sent)


_Kept = TypeVar("_Kept", bound=_File)


@dataclass(frozen=True, slots=True)
class Mark:
    """A recalled candidate."""

    number: int
    recall: Recall
    recall_sha256: bytes


class Kept:
    """The second step's files in one force's state folder; every method waits for the disk.

    Args:
        folder: the state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._details = folder / "disclosures"
        self._evidence = folder / "corroborations"
        self._marks = folder / "stop-use"
        self._sittings = folder / "sittings"

    # --- requests and details -----------------------------------------------------------------

    def keep_request(self, prepared: PreparedRequest, *, replace: bool = False) -> None:
        """Keep a request before it is sent; ``FILE_EXISTS`` if its id was used.

        Args:
            prepared: the request.
            replace: whether it takes the place of one that did not arrive.
        """
        kept = _KeptRequest(
            request=_text(prepared.envelope),
            key_id=prepared.facts.key_id,
            facts=base64.b64encode(prepared.facts.ciphertext),
        )
        _write(self._request(prepared.request.request_id), kept, replace=replace)

    def request(self, request_id: str) -> PreparedRequest | None:
        """Return a request of this force, None if it is not kept here."""
        return _prepared(self._request(request_id))

    def request_about(
        self, search_id: str, agency: str, reference: str
    ) -> DisclosureRequest | None:
        """Return a request of this force for one candidate's details, None if none is kept here."""
        for path in _listed(self._details):
            kept = _prepared(path) if path.name.endswith(_REQUEST_END) else None
            if kept is not None and _about(kept.request) == (search_id, agency, reference):
                return kept.request
        return None

    def keep_details(self, opened: OpenedDisclosure) -> None:
        """Keep opened details until they are to be deleted."""
        kept = _KeptDetails(
            details=_text(opened.signed),
            delete_by=opened.details.delete_by,
            asked_for=opened.asked_for,
        )
        _write(self._opened(opened.request_id), kept, replace=True)

    def details(self, request_id: str) -> OpenedDisclosure | None:
        """Return details that were opened here and not deleted since."""
        kept = _found(self._opened(request_id), _KeptDetails)
        if kept is None:
            return None
        signed = _envelope(kept.details)
        return OpenedDisclosure(
            request_id, decode(Disclosure, signed.payload), signed, kept.asked_for
        )

    def forget_expired(self, now: datetime) -> int:
        """Delete details whose time has come, and sheets nobody submitted; return how many.

        With them goes what a client that was killed had begun to write: it holds the same.
        """
        begun = now - UNFINISHED_KEPT
        forgotten = sum(files.sweep_folder(one, begun) for one in (self._details, self._sittings))
        for path in self._details_here():
            details = _found(path, _KeptDetails)
            forgotten += _forget(path, details is not None and now >= details.delete_by)
        for path in _listed(self._sittings):
            sitting = _found(path, KeptSitting)
            due = sitting is not None and now >= sitting.started_at + SITTING_KEPT
            forgotten += _forget(path, due)
        return forgotten

    def forget_records(self, before: datetime) -> int:
        """Delete requests and evidence made before an instant; return how many.

        What details that are still here stand on stays with them.
        """
        in_use = {self._request(path.stem) for path in self._details_here()}
        forgotten = files.sweep_folder(self._evidence, before)
        for path in files.older(self._details, f"*{_REQUEST_END}", before):
            kept = _prepared(path)
            due = kept is not None and path not in in_use and kept.request.created_at < before
            forgotten += _forget(path, due)
        old = files.older(self._evidence, "*.json", before)
        requests = [_prepared(path) for path in in_use] if old else []
        about = {_about(one.request) for one in requests if one is not None}
        for path in old:
            evidence = _found(path, _KeptEvidence)
            said = None if evidence is None else _evidence(evidence)
            due = said is not None and _about(said) not in about and said.recorded_at < before
            forgotten += _forget(path, due)
        return forgotten

    def _details_here(self) -> list[Path]:
        return [one for one in _listed(self._details) if not one.name.endswith(_REQUEST_END)]

    # --- evidence -----------------------------------------------------------------------------

    def keep_corroboration(self, signed: Envelope, receipt: Receipt) -> None:
        """Keep evidence that the broker has recorded."""
        kept = _KeptEvidence(
            corroboration=_text(signed),
            proof=base64.b64encode(receipt.proof),
            leaf=base64.b64encode(receipt.leaf),
        )
        said = decode(Corroboration, signed.payload)
        _write(self._evidence / _name(said.corroboration_id), kept, replace=True)

    def corroborations(
        self, search_id: str, agency: str, reference: str
    ) -> tuple[RecordedCorroboration, ...]:
        """Return the evidence recorded for one candidate."""
        found = []
        for path in _listed(self._evidence):
            kept = _found(path, _KeptEvidence)
            if kept is None:
                continue
            said = _evidence(kept)
            if _about(said) == (search_id, agency, reference):
                found.append(RecordedCorroboration(said, Receipt(kept.proof, kept.leaf)))
        return tuple(sorted(found, key=lambda one: one.corroboration.recorded_at))

    # --- recalls ------------------------------------------------------------------------------

    def mark(self, number: int, recall: Envelope) -> None:
        """Mark a recalled candidate; the mark stays."""
        said = decode(Recall, recall.payload)
        kept = _KeptMark(number=number, recall=_text(recall))
        _write(self._marks / _name(said.recall_id), kept, replace=True)

    def marks(self) -> Iterator[Mark]:
        """Yield every mark."""
        for path in _listed(self._marks):
            kept = _read(path, _KeptMark)
            signed = _envelope(kept.recall)
            yield Mark(kept.number, decode(Recall, signed.payload), digest_of(signed))

    def marked(self, search_id: str) -> frozenset[tuple[str, str]]:
        """Return agency and reference of a search's recalled candidates."""
        return frozenset(
            (one.recall.agency, one.recall.reference)
            for one in self.marks()
            if one.recall.search_id == search_id
        )

    def require_usable(self, search_id: str, agency: str, reference: str) -> None:
        """Refuse a candidate that was recalled.

        Raises:
            ProbegateError: ``STOP_USE``.
        """
        if (agency, reference) in self.marked(search_id):
            raise ProbegateError(Reason.STOP_USE, agency=agency, reference=reference)

    # --- sheets -------------------------------------------------------------------------------

    def keep_sitting(self, sitting: KeptSitting) -> None:
        """Keep who the letters of a sheet are."""
        _write(self._sittings / _name(sitting.review_id), sitting)

    def keep_sent(
        self, sitting: KeptSitting, findings: Findings, signed: Sequence[Envelope]
    ) -> None:
        """Keep with a sitting what is about to be sent of it."""
        changes = {"findings": findings, "sent": tuple(map(_text, signed))}
        sent = sitting.model_copy(update=changes)
        _write(self._sittings / _name(sitting.review_id), sent, replace=True)

    def sitting(self, review_id: str) -> KeptSitting:
        """Return a kept sitting.

        Raises:
            ProbegateError: ``FILE_MISSING`` if there is none.
        """
        return _read(self._sittings / _name(review_id), KeptSitting)

    def end_sitting(self, review_id: str) -> None:
        """Forget a sitting whose findings are recorded."""
        (self._sittings / _name(review_id)).unlink(missing_ok=True)

    def _request(self, request_id: str) -> Path:
        return self._details / _name(request_id, _REQUEST_END)

    def _opened(self, request_id: str) -> Path:
        return self._details / _name(request_id)


def _about(said: DisclosureRequest | Corroboration) -> tuple[str, str, str]:
    return said.search_id, said.agency, said.reference


def _prepared(path: Path) -> PreparedRequest | None:
    kept = _found(path, _KeptRequest)
    if kept is None:
        return None
    return reopen_request(_envelope(kept.request), SealedFacts(kept.key_id, kept.facts))


def _evidence(kept: _KeptEvidence) -> Corroboration:
    return decode(Corroboration, _envelope(kept.corroboration).payload)


def _name(given: str, end: str = ".json") -> str:
    try:
        return f"{UUID(given)}{end}"  # text from afar never becomes a path
    except ValueError:
        raise ProbegateError(Reason.FILE_MISSING, "not a UUID", field="id") from None


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _write(path: Path, kept: _File, *, replace: bool = False) -> None:
    files.write_private(path, kept.model_dump_json().encode(), replace=replace)


def _read(path: Path, kind: type[_Kept]) -> _Kept:
    try:
        return kind.model_validate_json(files.read(path))
    except ValidationError:
        raise ProbegateError(
            Reason.STATE_UNAVAILABLE, f"{path} is damaged", file=path.name
        ) from None


def _found(path: Path, kind: type[_Kept]) -> _Kept | None:
    """Return a file that may have been forgotten since it was listed, None if it was.

    Several processes of one force share the folder, and each forgets.
    """
    try:
        return _read(path, kind)
    except ProbegateError as error:
        if error.reason is Reason.FILE_MISSING and not path.exists():
            return None
        raise


def _forget(path: Path, due: bool) -> int:  # noqa: FBT001 - reads as a sentence where it is called
    if due:
        path.unlink(missing_ok=True)
    return int(due)


def _text(envelope: Envelope) -> str:
    return envelope.to_json().decode()


def _envelope(text: str) -> Envelope:
    return Envelope.from_json(text.encode())
