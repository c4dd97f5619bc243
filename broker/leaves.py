"""What the broker's search log says of a search, without anything personal.

``search.order`` goes in before any agency is asked and names every decision, denials included;
``search.result`` goes in before the force is answered and names every outcome, and again each time
an answer that was held or late comes after all. A search on the
urgent route is followed by ``search.confirmed``, and by ``search.unconfirmed`` if that is late.
Facts about people and the case travel as salted commitments whose values lie beside the log
(``docs/log-entries.md``); together they are all that the decisions were made on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from audit import kinds
from audit.embedded import embed
from audit.evidence import CONFIRMED_ENTRY, ORDER_ENTRY
from audit.leaves import JsonValue, stamp
from broker.models import AdmittedOrder, AgencyAnswer, AgencyDecision, Replaced, Ruling
from policy.ledger import UNCONFIRMED_ENTRY, UrgentUse
from policy.standing import Standing
from trust.errors import ProbegateError
from trust.messages import UrgentConfirmation

RESULT_ENTRY = kinds.RESULT


def order_leaf(
    search_id: str, admitted: AdmittedOrder, ruling: Ruling, directory_version: int
) -> dict[str, JsonValue]:
    """State that this order was decided, and how, before anything was sent."""
    leaf: dict[str, JsonValue] = {
        "v": 1,
        "type": ORDER_ENTRY,
        "search_id": search_id,
        "force": admitted.order.force,
        "order_sha256": admitted.sha256.hex(),
        "policy_sha256": ruling.policy_sha256.hex(),
        "directory_version": directory_version,
        "at": stamp(admitted.admitted_at),
        "decisions": [_decision(decision) for decision in ruling.decisions],
    }
    if ruling.warnings:
        leaf["warnings"] = list(ruling.warnings)
    return leaf


def _decision(decision: AgencyDecision) -> dict[str, JsonValue]:
    said: dict[str, JsonValue] = {
        "agency": decision.agency,
        "permitted": decision.permitted,
        "code": decision.code,
        "agreement_sha256": decision.agreement_sha256.hex(),
        "failed": list(decision.failed_clauses),
    }
    if decision.confirm_by is not None:
        said["waived"] = list(decision.waived)
        said["confirm_by"] = stamp(decision.confirm_by)
    return said


def private_facts(admitted: AdmittedOrder, standing: Standing) -> dict[str, JsonValue]:
    """Return the facts that are committed to and kept beside the log.

    ``broker.recorded`` turns them back into what was decided on.
    """
    order = admitted.order
    why, probe, officer = order.justification, order.probe, order.officer
    return {
        "officer": {
            "id": officer.id,
            "role": officer.role,
            "rank": officer.rank,
            "accreditation": officer.accreditation,
            "accreditation_expires": (
                officer.accreditation_expires.isoformat() if officer.accreditation_expires else ""
            ),
        },
        "authoriser": {
            "id": order.authoriser.id,
            "rank": order.authoriser.rank,
            "authorised_at": stamp(order.authorised_at),
        },
        "case_reference": why.case_reference,
        "justification": {
            "purpose": why.purpose,
            "legal_basis": why.legal_basis,
            "schedule8_condition": why.schedule8_condition,
            "aim": why.aim,
            "subject_category": why.subject_category,
            "offence": why.offence.code,
            "seriousness": why.offence.seriousness,
            "necessity": why.necessity,
            "proportionality": why.proportionality,
            "tried_first": list(why.tried_first),
            "urgent": why.urgent,
        },
        # The commitment is constant for one template of one force: a repeated probe shows.
        "probe": {
            "commitment": probe.commitment.hex(),
            "source": probe.source,
            "quality": probe.quality,
            "edits": list(probe.edits),
            "model": probe.model,
            "captured_at": stamp(probe.captured_at) if probe.captured_at else "",
        },
        "standing": {
            "earlier_searches": {
                agency: dict(counters) for agency, counters in standing.earlier_searches.items()
            },
            "answered": {agency: stamp(at) for agency, at in standing.answered.items()},
            "unconfirmed_urgent": standing.unconfirmed_urgent,
            "switched_off": sorted(standing.switched_off or ()),
            "reasons_reused": standing.reasons_reused,
        },
    }


def confirmed_leaf(
    confirmation: UrgentConfirmation, payload: bytes, at: datetime, *, late: bool
) -> dict[str, JsonValue]:
    """State that an urgent search was confirmed in writing."""
    return {
        "v": 1,
        "type": CONFIRMED_ENTRY,
        "search_id": confirmation.search_id,
        "order_sha256": confirmation.order_sha256.hex(),
        "confirmation_sha256": sha256(payload).hex(),
        "at": stamp(at),
        "late": late,
    }


def confirmer_facts(confirmation: UrgentConfirmation) -> dict[str, JsonValue]:
    """Return what of a confirmation is committed to and kept beside the log."""
    who = confirmation.confirmer
    return {"confirmer": {"id": who.id, "rank": who.rank}, "reasons": confirmation.reasons}


def unconfirmed_leaf(use: UrgentUse, at: datetime) -> dict[str, JsonValue]:
    """State that an urgent search is past its deadline without confirmation."""
    return {
        "v": 1,
        "type": UNCONFIRMED_ENTRY,
        "search_id": use.ref,
        "agency": use.agency,
        "deadline": stamp(use.deadline),
        "at": stamp(at),
    }


def result_leaf(
    search_id: str,
    order_sha256: bytes,
    result_payload: bytes,
    answers: Sequence[AgencyAnswer],
    finished_at: datetime,
    replaces: Replaced | None = None,
) -> dict[str, JsonValue]:
    """State how the search ended, with each agency's report and its own log's checkpoint.

    An end that replaces an earlier one, because an answer came after it or was erased, names it and
    says of each such answer when that was.
    """
    leaf: dict[str, JsonValue] = {
        "v": 1,
        "type": RESULT_ENTRY,
        "search_id": search_id,
        "order_sha256": order_sha256.hex(),
        "result_sha256": hashlib.sha256(result_payload).hexdigest(),
        "at": stamp(finished_at),
        "outcomes": [_outcome(answer) for answer in answers],
    }
    if replaces is not None:
        leaf["revision"] = replaces.revision + 1
        leaf["replaces_sha256"] = replaces.result_sha256.hex()
    return leaf


def _outcome(answer: AgencyAnswer) -> dict[str, JsonValue]:
    outcome, note = answer.outcome, answer.agency_checkpoint
    said: dict[str, JsonValue] = {
        "agency": outcome.agency,
        "state": outcome.state.value,
        "reason": outcome.reason,
        "report_sha256": outcome.report_sha256.hex(),
        "checkpoint_sha256": hashlib.sha256(note).hexdigest() if note else "",
    }
    if outcome.late_at is not None:
        said["late_at"] = stamp(outcome.late_at)
    if outcome.erased_at is not None:
        said["erased_at"] = stamp(outcome.erased_at)
    if note:
        # An answer that an earlier version kept may have come with a note that cannot be embedded.
        with suppress(ProbegateError):
            said["checkpoint"] = embed(note)
    return said


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of exact bytes."""
    return hashlib.sha256(data).digest()
