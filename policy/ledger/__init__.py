"""A decider's own records, in the database its log commits to: what ``Standing`` is filled from.

Broker and agency each keep one. It holds no name and no case reference: people, cases and probes
are keyed digests under a key of this database, enough to recognise and not to read.

Rules:

1. A search is on the ledger if and only if its entry is on the log: writes run in the log's
   transaction (``audit.entry.NewEntry.also``).
2. A quota is exact under concurrency and over restarts (``tallies``).
3. Urgent searches await a confirmation that is on the log, whoever asks meanwhile (``urgent``).
4. What cannot be read is an error, not a zero.
5. A kill switch is turned in memory as soon as its log entry is durable, and read from the table at
   the start.

6. What no decision can ask for any more is taken out (``Ledger.prune``).

Importing this needs SQLAlchemy, which a force's and an auditor's machine do without.
"""

from __future__ import annotations

from policy.ledger.book import EarlierAnswer, Ledger
from policy.ledger.subjects import Subjects
from policy.ledger.switching import SWITCHED_OFF, SWITCHED_ON, SwitchClerk, checked_switch
from policy.ledger.tallies import Reservation
from policy.ledger.urgent import UNCONFIRMED_ENTRY, UrgentUse

__all__ = [
    "SWITCHED_OFF",
    "SWITCHED_ON",
    "UNCONFIRMED_ENTRY",
    "EarlierAnswer",
    "Ledger",
    "Reservation",
    "Subjects",
    "SwitchClerk",
    "UrgentUse",
    "checked_switch",
]
