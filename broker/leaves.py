"""What the broker's search log says of a search: two entries, without anything personal.

``search.order`` goes in before any agency is asked and names every decision, denials included;
``search.result`` goes in before the force is answered and names every outcome. Facts about people
and the case travel as salted commitments whose values lie beside the log (``docs/log-entries.md``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from audit.leaves import JsonValue
from broker.models import AdmittedOrder, AgencyAnswer, AgencyDecision

ORDER_ENTRY = "search.order"
RESULT_ENTRY = "search.result"


def order_leaf(
    search_id: str,
    admitted: AdmittedOrder,
    decisions: Sequence[AgencyDecision],
    policy_sha256: bytes,
    directory_version: int,
) -> dict[str, JsonValue]:
    """State that this order was decided, and how, before anything was sent."""
    return {
        "v": 1,
        "type": ORDER_ENTRY,
        "search_id": search_id,
        "force": admitted.order.force,
        "order_sha256": admitted.sha256.hex(),
        "policy_sha256": policy_sha256.hex(),
        "directory_version": directory_version,
        "at": stamp(admitted.admitted_at),
        "decisions": [
            {
                "agency": decision.agency,
                "permitted": decision.permitted,
                "code": decision.code,
                "agreement_sha256": decision.agreement_sha256.hex(),
                "failed": list(decision.failed_clauses),
            }
            for decision in decisions
        ],
    }


def private_facts(admitted: AdmittedOrder) -> dict[str, JsonValue]:
    """Return the facts that are committed to and kept beside the log."""
    order = admitted.order
    why = order.justification
    return {
        "officer": {"id": order.officer.id, "role": order.officer.role, "rank": order.officer.rank},
        "authoriser": {"id": order.authoriser.id, "rank": order.authoriser.rank},
        "case_reference": why.case_reference,
        "justification": {
            "purpose": why.purpose,
            "legal_basis": why.legal_basis,
            "aim": why.aim,
            "subject_category": why.subject_category,
            "offence": why.offence.code,
            "seriousness": why.offence.seriousness,
            "necessity": why.necessity,
            "proportionality": why.proportionality,
            "urgent": why.urgent,
        },
        # The commitment is constant for one template of one force: a repeated probe shows.
        "probe": {
            "commitment": order.probe.commitment.hex(),
            "source": order.probe.source,
            "quality": order.probe.quality,
        },
    }


def result_leaf(
    search_id: str,
    order_sha256: bytes,
    result_payload: bytes,
    answers: Sequence[AgencyAnswer],
    finished_at: datetime,
) -> dict[str, JsonValue]:
    """State how the search ended, with each agency's report and its own log's checkpoint."""
    return {
        "v": 1,
        "type": RESULT_ENTRY,
        "search_id": search_id,
        "order_sha256": order_sha256.hex(),
        "result_sha256": hashlib.sha256(result_payload).hexdigest(),
        "at": stamp(finished_at),
        "outcomes": [
            {
                "agency": answer.outcome.agency,
                "state": answer.outcome.state.value,
                "reason": answer.outcome.reason,
                "report_sha256": answer.outcome.report_sha256.hex(),
                "checkpoint_sha256": (
                    hashlib.sha256(answer.agency_checkpoint).hexdigest()
                    if answer.agency_checkpoint
                    else ""
                ),
            }
            for answer in answers
        ],
    }


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of exact bytes."""
    return hashlib.sha256(data).digest()


def stamp(moment: datetime) -> str:
    """Render an instant as ISO 8601 with microseconds."""
    return moment.isoformat(timespec="microseconds")
