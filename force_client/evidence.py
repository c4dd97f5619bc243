"""A search's evidence as files, so that it can be verified again anywhere without the broker.

A folder holds::

    search.json                    ids, state and the broker's decisions
    order.dsse.json                the order as this force signed it
    result.dsse.json               the result as the broker signed it
    report-<agency>.dsse.json      each agency's report as that agency signed it
    receipt.tlog-proof             the result's place in the broker's log (C2SP tlog-proof)
    receipt.leaf.json              the log entry that the receipt proves, exact bytes

The order names people and gives reasons: the folder is its owner's alone.
"""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from force_client.models import (
    AgencyDecision,
    ReceivedAnswer,
    ReceivedSearch,
    SearchState,
    SearchView,
)
from force_client.orders import SignedOrder, reopen_order
from force_client.verify import Witness, verify_search
from trust import files, strict_json
from trust.directory import Directory
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.messages import ClauseId, Label, MemberId, ReasonCode, Uuid
from trust.wire import decode_result

SEARCH: Final = "search.json"
ORDER: Final = "order.dsse.json"
RESULT: Final = "result.dsse.json"
RECEIPT: Final = "receipt.tlog-proof"
LEAF: Final = "receipt.leaf.json"
_ALWAYS: Final = (SEARCH, ORDER, RESULT, RECEIPT, LEAF)
"""The files that every evidence has."""


class _Saved(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Decision(_Saved):
    agency: MemberId
    permitted: bool
    code: ReasonCode
    failed_clauses: tuple[ClauseId, ...]
    agreement: Label


class _Search(_Saved):
    search_id: Uuid
    request_id: Uuid
    state: SearchState
    created_at: datetime
    decisions: tuple[_Decision, ...]


def require_saveable(folder: Path) -> None:
    """Refuse a folder that evidence cannot be saved into; nothing is written that stays.

    Whoever means to save asks first: a search cannot be taken back once there is no room for it.

    Raises:
        ProbegateError: ``FILE_EXISTS`` where evidence is there already, or no folder is;
            ``FILE_UNWRITABLE``.
    """
    try:
        taken = folder.exists() and not folder.is_dir()
        if taken or any((folder / one).exists() for one in _ALWAYS):
            raise ProbegateError(Reason.FILE_EXISTS, str(folder), file=folder.name)
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise ProbegateError(
            Reason.FILE_UNWRITABLE, f"{folder}: {error.strerror}", file=folder.name
        ) from None


def save_evidence(folder: Path, view: SearchView, order: SignedOrder) -> None:
    """Write the evidence of an ended search into a folder, which must not hold any yet.

    Raises:
        ProbegateError: ``RESULT_INVALID`` for a search that was not verified; ``FILE_EXISTS``,
            ``FILE_UNWRITABLE`` or ``DISK_FULL``.
    """
    received = view.received
    if not view.verified or received.result is None:
        raise ProbegateError(Reason.RESULT_INVALID, "the search has not ended", check="state")
    search = _Search(
        search_id=received.search_id,
        request_id=received.request_id,
        state=received.state,
        created_at=received.created_at,
        decisions=tuple(
            _Decision(
                agency=one.agency,
                permitted=one.permitted,
                code=one.code,
                failed_clauses=one.failed_clauses,
                agreement=one.agreement,
            )
            for one in received.decisions
        ),
    )
    contents = {
        SEARCH: strict_json.canonical(search.model_dump(mode="json")),
        ORDER: order.envelope.to_json(),
        RESULT: received.result.to_json(),
        RECEIPT: received.receipt,
        LEAF: received.receipt_leaf,
    } | {
        _report_name(one.outcome.agency): one.report.to_json()
        for one in received.answers
        if one.report is not None
    }
    for name, content in contents.items():
        files.write_private(folder / name, content)


def load_evidence(folder: Path) -> tuple[ReceivedSearch, SignedOrder]:
    """Read a folder of evidence; nothing is verified yet.

    Raises:
        ProbegateError: ``FILE_MISSING``, ``ENVELOPE_INVALID`` or ``RESULT_INVALID``.
    """
    try:
        search = _Search.model_validate_json(files.read(folder / SEARCH))
    except ValidationError:
        raise ProbegateError(Reason.RESULT_INVALID, f"{folder / SEARCH}", check="search") from None
    result = _envelope(folder / RESULT)
    outcomes = decode_result(result.payload).outcomes
    received = ReceivedSearch(
        search_id=search.search_id,
        request_id=search.request_id,
        state=search.state,
        created_at=search.created_at,
        decisions=tuple(AgencyDecision(**dict(one)) for one in search.decisions),
        answers=tuple(
            ReceivedAnswer(
                one, _envelope(folder / _report_name(one.agency)) if one.report_sha256 else None
            )
            for one in outcomes
        ),
        result=result,
        receipt=files.read(folder / RECEIPT),
        receipt_leaf=files.read(folder / LEAF),
    )
    return received, reopen_order(_envelope(folder / ORDER))


def verify_evidence(folder: Path, directory: Directory, broker: str, now: datetime) -> SearchView:
    """Verify a folder of evidence with nothing but a directory.

    Raises:
        ProbegateError: ``RESULT_INVALID`` or what ``load_evidence`` raises.
    """
    received, order = load_evidence(folder)
    return verify_search(received, Witness(order, directory, broker, now))


def _envelope(path: Path) -> Envelope:
    return Envelope.from_json(files.read(path))


def _report_name(agency: str) -> str:
    return f"report-{agency}.dsse.json"
