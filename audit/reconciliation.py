"""What laying two sides' logs beside each other can find (``audit.reconciling``)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Fault(StrEnum):
    """What can be wrong between two logs."""

    GRANT_WITHOUT_REPORT = "grant_without_report"
    REPORT_WITHOUT_GRANT = "report_without_grant"
    DIGEST_DIFFERS = "digest_differs"
    STATE_DIFFERS = "state_differs"
    SILENCE_AS_ANSWER = "silence_as_answer"
    ENTRY_UNKNOWN_TO_BROKER = "entry_unknown_to_broker"
    ANOTHER_HISTORY = "another_history"
    BROKER_LOG_SHORTER = "broker_log_shorter"
    AGENCY_HISTORY = "agency_history"
    AGENCY_LOG_SHORTER = "agency_log_shorter"
    CHECKPOINT_FORGED = "checkpoint_forged"
    REPORT_NOT_COVERED = "report_not_covered"


class Finding(BaseModel):
    """One disagreement, and where to look.

    Attributes:
        fault: its kind.
        agency: between the broker and whom.
        search_id: of which search, as far as it is known.
        order_sha256: of which order; empty where it is of none.
        broker_entry: the broker's entry, if there is one.
        agency_entry: the agency's entry, if there is one.
        what: in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    agency: str
    search_id: str = ""
    order_sha256: str = ""
    broker_entry: int | None = None
    agency_entry: int | None = None
    what: str


class Reconciliation(BaseModel):
    """What comparing found.

    Attributes:
        ok: whether there is no finding.
        searches: orders in the broker's log.
        agreed: agencies' reports that agree with the broker's outcome.
        failed: permitted agencies of which the broker recorded why no answer came.
        late: of these, those that answered by their own log (7).
        held: signed checkpoints embedded in one log that the other keeps to (5).
        under_way: permitted agencies of searches that have not ended yet (6).
        not_compared: agencies that were asked and whose log was not given.
        counts: findings by kind.
        findings: the first thousand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: bool
    searches: int
    agreed: int
    failed: int
    late: int
    held: int
    under_way: int
    not_compared: tuple[str, ...]
    counts: dict[Fault, int]
    findings: tuple[Finding, ...]
