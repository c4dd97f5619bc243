"""The broker's decisions as its search log and its side store hold them, to be made again.

A decision reads an order's facts and what was on the broker's records. Both are kept beside the
log, committed to by its entries; what was erased cannot be decided again and is counted as that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from audit.evidence import ORDER_ENTRY
from audit.leaves import PrivateValue, verify_commitment
from audit.organisation import SEARCH
from audit.reader import LogReader
from audit.values import read_values
from policy.facts import Facts
from policy.simulate import RecordedDecision

NEEDED: Final = (
    "officer",
    "authoriser",
    "case_reference",
    "justification",
    "probe",
    "standing",
)
"""The committed fields that a decision was made on."""


@dataclass(slots=True)
class RecordedDecisions:
    """Reads decisions one by one, in the log's order; iterate it once.

    Attributes:
        logs_dir: the broker's folder of logs.
        engine: its database.
        since: from when, if said.
        until: until when, not included, if said.
        erased: how many orders so far could not be decided again because values are gone.
    """

    logs_dir: Path
    engine: Engine
    since: datetime | None = None
    until: datetime | None = None
    erased: int = 0

    def __iter__(self) -> Iterator[RecordedDecision]:
        """Yield every decision of the period.

        Raises:
            ProbegateError: ``FILE_MISSING``, ``LOG_CORRUPT``, or ``LOG_PROOF_INVALID`` for a value
                that is not the one its entry committed to.
        """
        reader = LogReader(self.logs_dir / SEARCH)
        with self.engine.connect() as connection:
            for index, leaf in reader.leaves():
                said = json.loads(leaf)
                if said["type"] != ORDER_ENTRY:
                    continue
                at = datetime.fromisoformat(said["at"])
                if (self.since and at < self.since) or (self.until and at >= self.until):
                    continue
                kept = read_values(connection, SEARCH, index)
                if any(field not in kept for field in NEEDED):
                    self.erased += 1
                    continue
                facts = facts_of_entry(leaf, said["force"], kept)
                for one in said["decisions"]:
                    yield RecordedDecision(
                        search_id=said["search_id"],
                        agency=one["agency"],
                        facts=facts,
                        at=at,
                        permitted=one["permitted"],
                        code=one["code"],
                        failed=tuple(one["failed"]),
                        agreement_sha256=bytes.fromhex(one["agreement_sha256"]),
                        policy_sha256=bytes.fromhex(said["policy_sha256"]),
                    )


def facts_of_entry(leaf: bytes, force: str, kept: Mapping[str, PrivateValue]) -> Facts:
    """Return what an order was decided on, from its entry's committed values.

    Raises:
        ProbegateError: ``LOG_PROOF_INVALID`` for a value that is not the one committed to.
    """
    opened: dict[str, Any] = {}
    for field in NEEDED:
        value = json.loads(kept[field].value)
        verify_commitment(leaf, field, kept[field].salt, value)
        opened[field] = value
    officer, authoriser = opened["officer"], opened["authoriser"]
    why, probe = opened["justification"], opened["probe"]
    return Facts.model_validate(
        {
            "purpose": why["purpose"],
            "legal_basis": why["legal_basis"],
            "schedule8_condition": why["schedule8_condition"],
            "aim": why["aim"],
            "subject_category": why["subject_category"],
            "offence_code": why["offence"],
            "offence_seriousness": why["seriousness"],
            "case_reference": opened["case_reference"],
            "necessity": why["necessity"],
            "proportionality": why["proportionality"],
            "officer_id": officer["id"],
            "officer_role": officer["role"],
            "officer_rank": officer["rank"],
            "officer_accreditation": officer["accreditation"],
            "officer_accreditation_expires": officer["accreditation_expires"] or None,
            "authoriser_id": authoriser["id"],
            "authoriser_rank": authoriser["rank"],
            "tried_first": why["tried_first"],
            "probe_source": probe["source"],
            "probe_quality": probe["quality"],
            "probe_edits": probe["edits"],
            "probe_model": probe["model"],
            "probe_captured_at": probe["captured_at"] or None,
            "sealed": True,
            "authorised_at": authoriser["authorised_at"],
            "urgent": why["urgent"],
            "force": force,
            "standing": opened["standing"],
        }
    )
