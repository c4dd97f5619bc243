"""A bundle of evidence about some searches, for disclosure in a case or for a regulator.

It stands on its own: with the log's public key from the scheme's directory anybody can check it.

1. Each entry comes with the proof that it is in the log, under one signed checkpoint.
2. Each value comes with its salt, and is the one that its entry commits to. What was erased is
   named.
3. Each signed document (order, report, result) is the one whose digest an entry names as just
   that: of this kind, search and agency.
4. Nothing else is in it: a document that no entry names, or a search that no entry is of, makes the
   bundle invalid, and so does having no entry at all.
5. What a bundle cannot show is said: that nothing was left out, that what is named as erased was
   (the admin log has that), and who signed the documents (the directory has the keys).

The bundle holds personal data in the clear. Who made it, and for what, is on the admin log first.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from audit.folder import LogFolder
from audit.leaves import COMMITMENTS, commitment, parse_leaf
from audit.log_source import node_reader
from audit.merkle import inclusion_proof
from audit.notes import VerifierKey
from audit.opening import Erasure, Opened
from audit.proofs import format_proof, verify_receipt
from audit.reader import LogReader
from audit.values import read_values
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType

EXPORTED: Final = "log.exported"
MAX_BUNDLE_BYTES: Final = 256 * 2**20
"""Longest bundle that is read."""
Kind = Literal["order", "report", "result", "confirmation"]
_Named = tuple[str, Kind, str, str]
"""A document as an entry names it: digest, kind, search and, of a report, agency."""
_TYPES: Final[Mapping[Kind, str]] = {
    "order": PayloadType.SEARCH_ORDER,
    "report": PayloadType.MATCH_REPORT,
    "result": PayloadType.SEARCH_RESULT,
    "confirmation": PayloadType.URGENT_CONFIRMATION,
}
Base64 = Annotated[str, Field(max_length=MAX_BUNDLE_BYTES)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(_Part):
    """A value that an entry commits to: canonical JSON and 32 bytes of salt, base64."""

    value: Base64
    salt: Base64


class Gone(_Part):
    """When, by which entry and on whose authority a value was erased."""

    at: str
    entry: int
    authority: str


class Entry(_Part):
    """An entry with its proof.

    Attributes:
        leaf: its exact bytes, base64.
        proof: its ``.tlog-proof``.
        values: what it commits to.
        erased: the fields that are gone; null where no entry says why.
    """

    leaf: Base64
    proof: str
    values: dict[str, Value] = {}
    erased: dict[str, Gone | None] = {}


class Document(_Part):
    """A signed document as DSSE JSON, and what it is.

    Attributes:
        kind: ``order``, ``report``, ``result``, ``confirmation``.
        search_id: of which search.
        agency: whose report; otherwise empty.
        envelope: DSSE JSON.
    """

    kind: Kind
    search_id: str
    agency: str = ""
    envelope: dict[str, Any]

    @property
    def named(self) -> _Named:
        """How an entry names it.

        Raises:
            ProbegateError: ``EXPORT_INVALID``.
        """
        return self.sha256, self.kind, self.search_id, self.agency

    @property
    def sha256(self) -> str:
        """The digest of its payload.

        Raises:
            ProbegateError: ``EXPORT_INVALID``.
        """
        try:
            payload = base64.b64decode(self.envelope["payload"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise _invalid("a document is not an envelope") from None
        return hashlib.sha256(payload).hexdigest()


class Bundle(_Part):
    """The whole of it."""

    v: Literal[1] = 1
    origin: str
    size: int
    searches: tuple[str, ...]
    entries: tuple[Entry, ...]
    documents: tuple[Document, ...]


class Checked(_Part):
    """What checking a bundle found: counts of what is proved."""

    origin: str
    searches: tuple[str, ...]
    entries: int
    values: int
    erased: int
    documents: int


def make_bundle(
    folder: Path,
    found: Iterable[Opened],
    connection: Connection,
    log: str,
    documents: Sequence[Document],
) -> Bundle:
    """Put a bundle together.

    Args:
        folder: the log's folder.
        found: the entries, as ``audit.opening.find`` gives them.
        connection: to the organisation's database.
        log: the log's name in it.
        documents: what the organisation keeps of these searches; those no entry names are left out.

    Raises:
        ProbegateError: what reading raises.
    """
    reader = LogReader(folder)
    read = node_reader(LogFolder(folder), reader.size)
    entries, searches, named = [], dict[str, None](), set[_Named]()
    for one in found:
        leaf = reader.leaf(one.index)
        proof = format_proof(
            one.index, inclusion_proof(read, one.index, reader.size), reader.checkpoint.note
        )
        kept = read_values(connection, log, one.index)
        entries.append(
            Entry(
                leaf=_text(leaf),
                proof=proof,
                values={
                    name: Value(value=_text(value.value), salt=_text(value.salt))
                    for name, value in kept.items()
                },
                erased={name: _gone(erasure) for name, erasure in one.erased.items()},
            )
        )
        searches[str(one.said.get("search_id", ""))] = None
        named |= _documents(one.said)
    return Bundle(
        origin=reader.checkpoint.checkpoint.origin,
        size=reader.size,
        searches=tuple(searches),
        entries=tuple(entries),
        documents=tuple(one for one in documents if one.named in named),
    )


def check_bundle(raw: bytes, vkey: VerifierKey) -> Checked:
    """Check a bundle with nothing but the log's key.

    Raises:
        ProbegateError: ``EXPORT_INVALID``, and what a proof or a checkpoint raises.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise _invalid("longer than any bundle")
    try:
        bundle = Bundle.model_validate_json(raw)
    except ValidationError:
        raise _invalid("not a bundle") from None
    entries = [_checked(entry, bundle, vkey) for entry in bundle.entries]  # (1) (2)
    searches = {str(said.get("search_id", "")) for said in entries}
    if not entries or set(bundle.searches) != searches:  # (4)
        raise _invalid("its searches are not those of its entries")
    named = {one for said in entries for one in _documents(said)}
    for document in bundle.documents:  # (3) (4)
        typed = document.envelope.get("payloadType") == _TYPES[document.kind]
        if document.named not in named or not typed:
            raise _invalid("a document is in it that no entry names as that")
    return Checked(
        origin=bundle.origin,
        searches=bundle.searches,
        entries=len(entries),
        values=sum(len(one.values) for one in bundle.entries),
        erased=sum(len(one.erased) for one in bundle.entries),
        documents=len(bundle.documents),
    )


def _checked(entry: Entry, bundle: Bundle, vkey: VerifierKey) -> Mapping[str, Any]:
    """Return what an entry says, once it and its values are as the log has them (1) (2)."""
    leaf = _bytes(entry.leaf)
    checkpoint = verify_receipt(entry.proof, [vkey], leaf, bundle.origin).checkpoint
    if checkpoint.size != bundle.size:
        raise _invalid("entries are proved under different checkpoints")
    said = parse_leaf(leaf)
    committed: Any = said.get(COMMITMENTS, {})
    if set(committed) != entry.values.keys() | entry.erased.keys():
        raise _invalid("a value is missing, or is of no field of its entry")
    for name, one in entry.values.items():
        if commitment(name, _bytes(one.salt), _bytes(one.value)) != committed[name]:
            raise _invalid("a value is not the one that its entry commits to")
    return said


def document_of(kind: str, search_id: str, envelope: bytes, agency: str = "") -> Document:
    """Return a document from its DSSE JSON."""
    return Document.model_validate(
        {
            "kind": kind,
            "search_id": search_id,
            "agency": agency,
            "envelope": json.loads(envelope),
        }
    )


def _documents(said: Mapping[str, Any]) -> set[_Named]:
    """Return every document that an entry names: digest, kind, search and agency (3)."""
    search_id = str(said.get("search_id", ""))
    kinds: tuple[Kind, ...] = ("order", "result", "confirmation")
    found: set[_Named] = {
        (str(said.get(f"{kind}_sha256", "")), kind, search_id, "") for kind in kinds
    }
    for one in said.get("outcomes", []):
        found.add(
            (str(one.get("report_sha256", "")), "report", search_id, str(one.get("agency", "")))
        )
    return found


def _gone(erasure: Erasure | None) -> Gone | None:
    if erasure is None:
        return None
    return Gone(at=erasure.at, entry=erasure.entry, authority=erasure.authority)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _invalid("not base64") from None


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.EXPORT_INVALID, why)
