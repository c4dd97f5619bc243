"""What a broker shows an agency of its log, besides the search at hand: entries with their place.

All of it is proved under the one checkpoint of the dossier it comes with. Nothing here is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trust.dsse import Envelope


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry, exact bytes, with its index and its inclusion proof."""

    leaf: bytes
    index: int
    inclusion: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class EarlierSearch:
    """An earlier search of the same probe for the same case, and who says they answered it.

    Attributes:
        order: the entry that recorded its order.
        statements: an ``AnswerStatement`` signed by each agency that answered, which says of which
            probe and case it is.
    """

    order: LoggedEntry
    statements: tuple[Envelope, ...]


@dataclass(frozen=True, slots=True)
class ConfirmedSearch:
    """An urgent search that was confirmed in writing.

    Attributes:
        entry: the entry that recorded the confirmation.
        confirmation: the ``UrgentConfirmation`` that the force signed.
    """

    entry: LoggedEntry
    confirmation: Envelope


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything of the kind that one agency is shown with one search."""

    earlier: tuple[EarlierSearch, ...] = ()
    confirmed: tuple[ConfirmedSearch, ...] = ()


NO_EVIDENCE: Final = Evidence()
"""Nothing to show."""
