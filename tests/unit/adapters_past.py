"""What a broker shows an adapter of its log, honest or forged, and the agreements it is for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from audit.evidence import ConfirmedSearch, EarlierSearch, Evidence, LoggedEntry
from audit.writer import NewEntry
from tests.unit.adapters_kit import BrokerSide, Papers
from trust import dsse
from trust.keys import Signer
from trust.messages import AnswerStatement, Person, UrgentConfirmation
from trust.payload_types import PayloadType
from trust.wire import decode_order, encode_confirmation, encode_statement

QUOTA = "test.officer-day"
PND_FIRST = "test.pnd-first"
SENIORITY = "test.seniority"
FRESH_REASONS = "test.fresh-reasons"
SUPERINTENDENT = Person(
    id="superintendent-0012", role="investigating_officer", rank="superintendent"
)


def quota_of(most: int) -> Any:
    """Return a change to an agreement: an officer's searches in a day."""

    def change(agreement: dict[str, Any]) -> None:
        agreement["quotas"] = [
            {"id": QUOTA, "citation": "-", "per": "officer", "window": "day", "most": most}
        ]

    return change


def pnd_first(agreement: dict[str, Any]) -> None:
    """Change an agreement: the PND must have answered within a week."""
    agreement["answered_first"] = [
        {"id": PND_FIRST, "citation": "-", "agencies": ["pnd"], "within_days": 7}
    ]


def urgent_route(agreement: dict[str, Any]) -> None:
    """Change an agreement: a superintendent authorises, or confirms within the hour."""
    agreement["clauses"].append(
        {
            "id": SENIORITY,
            "citation": "-",
            "attribute": "authoriser_rank",
            "operator": "ge",
            "value": "superintendent",
        }
    )
    agreement["urgent"] = {
        "citation": "-",
        "purposes": ["crime_investigation"],
        "waives": [SENIORITY],
        "confirm_within_hours": 1,
        "confirmer_rank": "superintendent",
    }


def fresh_reasons(agreement: dict[str, Any]) -> None:
    """Change an agreement: reasons of another case will not do."""
    agreement["clauses"].append(
        {
            "id": FRESH_REASONS,
            "citation": "-",
            "attribute": "reasons_reused",
            "operator": "le",
            "value": 0,
        }
    )


def until_noon() -> timedelta:
    """Return how far a clock must be turned for a test not to meet the end of a day."""
    now = datetime.now(UTC)
    tomorrow = now.date() + timedelta(days=1)
    return datetime.combine(tomorrow, time(12), UTC) - now


def logged(broker: BrokerSide, index: int, size: int) -> LoggedEntry:
    """Return an entry of the broker's log with its proof."""
    log = broker.logs.search
    return LoggedEntry(log.leaf(index), index, log.inclusion(index, size))


def told(
    broker: BrokerSide,
    past: Papers,
    *,
    agency: str = "pnd",
    at: datetime | None = None,
    signer: Signer | None = None,
    payload_type: str = PayloadType.ANSWER_STATEMENT,
    **changes: Any,
) -> dsse.Envelope:
    """Return an agency's statement that it answered an earlier search, or a lie about it."""
    values: dict[str, Any] = {
        "search_id": past.search_id,
        "agency": agency,
        "order_sha256": past.order_sha256,
        "answered_at": at or datetime.now(UTC),
        "matter_sha256": decode_order(past.dossier.order.payload).matter_sha256,
    }
    statement = AnswerStatement(**(values | changes))
    signer = signer or broker.world.folder(agency).signer()
    return dsse.sign(payload_type, encode_statement(statement), signer)


def earlier(
    broker: BrokerSide, past: Papers, now: Papers, *statements: dsse.Envelope
) -> EarlierSearch:
    """Return an earlier search as it is shown with a later one."""
    index = past.dossier.leaf_index
    return EarlierSearch(logged(broker, index, now.size), statements)


def showing(papers: Papers, *searches: EarlierSearch) -> Papers:
    """Return papers that show earlier searches."""
    papers.evidence = Evidence(earlier=searches)
    return papers


async def confirm(
    broker: BrokerSide,
    urgent: Papers,
    at: datetime,
    *,
    confirmer: Person = SUPERINTENDENT,
    signer: Signer | None = None,
    leaf_changes: Mapping[str, Any] | None = None,
    **changes: Any,
) -> tuple[int, dsse.Envelope]:
    """Record a force's confirmation of an urgent search, or a lie about it; return where."""
    values: dict[str, Any] = {
        "search_id": urgent.search_id,
        "order_sha256": urgent.order_sha256,
        "force": "northshire",
        "confirmer": confirmer,
        "confirmed_at": at,
        "reasons": "The man was armed and no superintendent could be reached.",
    }
    said = UrgentConfirmation(**(values | changes))
    signer = signer or broker.world.folder("northshire").signer()
    envelope = dsse.sign(PayloadType.URGENT_CONFIRMATION, encode_confirmation(said), signer)
    leaf: dict[str, Any] = {
        "v": 1,
        "type": "search.confirmed",
        "search_id": said.search_id,
        "order_sha256": said.order_sha256.hex(),
        "confirmation_sha256": hashlib.sha256(envelope.payload).hexdigest(),
        "at": at.isoformat(timespec="microseconds"),
        "late": True,
    } | dict(leaf_changes or {})
    appended = await broker.logs.search.append(NewEntry(leaf=leaf))
    return appended.index, envelope


def showing_confirmed(
    broker: BrokerSide, papers: Papers, *confirmed: tuple[int, dsse.Envelope]
) -> Papers:
    """Return papers that show confirmations."""
    shown = [
        ConfirmedSearch(logged(broker, index, papers.size), envelope)
        for index, envelope in confirmed
    ]
    papers.evidence = Evidence(confirmed=tuple(shown))
    return papers
