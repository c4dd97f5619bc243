"""What the decider's own records say of a request: the facts that no requester can assert.

Broker and agency each keep records of their own (``policy.ledger``) and each fill this in for
themselves, so a decision that depends on history is still a pure function and can be made again
later from what was written down. What is not known is missing, and what is missing is never
assumed: a clause that reads it is indeterminate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from trust.messages import MAX_AGENCIES, MemberId


class Per(StrEnum):
    """Whose searches a quota counts."""

    FORCE = "force"
    OFFICER = "officer"
    CASE = "case"


class Window(StrEnum):
    """The calendar day or month, in UTC, that a quota counts over."""

    DAY = "day"
    MONTH = "month"


class SwitchKind(StrEnum):
    """What a kill switch turns off."""

    AGENCY = "agency"
    FORCE = "force"
    MATCHER = "matcher"
    PURPOSE = "purpose"


MAX_SWITCHES: Final = 1_000
"""Most kill switches that can be off at once."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
CounterName = Annotated[str, StringConstraints(pattern=r"^(force|officer|case)\.(day|month)$")]
SWITCH_PATTERN: Final = r"^(agency|force|matcher|purpose):[a-z0-9][a-z0-9_./-]{0,63}$"
Switch = Annotated[str, StringConstraints(pattern=SWITCH_PATTERN)]


def switches_of(
    agency: str, force: str | None, purpose: str | None, matcher: str | None
) -> tuple[str, ...]:
    """Return the kill switches that would stop a request at an agency."""
    named = (
        (SwitchKind.AGENCY, agency),
        (SwitchKind.FORCE, force),
        (SwitchKind.MATCHER, matcher),
        (SwitchKind.PURPOSE, purpose),
    )
    return tuple(f"{kind.value}:{name}" for kind, name in named if name is not None)


def counter(per: Per, window: Window) -> str:
    """Return the name of a counter, such as ``officer.day``."""
    return f"{per.value}.{window.value}"


COUNTERS: Final = tuple(counter(per, window) for per in Per for window in Window)
"""Every counter's name."""


class Standing(BaseModel):
    """What is on record about a request at the instant of its decision.

    Attributes:
        earlier_searches: agency to counter to how many searches were permitted there before this
            one, in the window the decision falls in; a counter that is not there is unknown.
        answered: agency to when it last answered a search with this probe, for this case and
            force, as proved by an entry of the log; an agency that is not there is not proved.
        unconfirmed_urgent: how many urgent searches of this officer are past their deadline
            without written confirmation.
        switched_off: every kill switch that is off, as ``kind:name``.
        reasons_reused: in how many other cases of this force the same reasons were given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    earlier_searches: Annotated[
        Mapping[MemberId, Mapping[CounterName, Count]], Field(max_length=MAX_AGENCIES)
    ] = Field(default_factory=dict)
    answered: Annotated[Mapping[MemberId, AwareDatetime], Field(max_length=MAX_AGENCIES)] = Field(
        default_factory=dict
    )
    unconfirmed_urgent: Count | None = None
    switched_off: Annotated[frozenset[Switch], Field(max_length=MAX_SWITCHES)] | None = None
    reasons_reused: Count | None = None

    def earlier(self, agency: str, name: str) -> int | None:
        """Return a counter, or None if it is not known."""
        counters = self.earlier_searches.get(agency)
        return None if counters is None else counters.get(name)


def assume_nothing_on_record(agencies: Iterable[str]) -> Standing:
    """Return the standing of a request with no history at all; never decide a search on it.

    For drafts and case tables, where there are no records to read: no search was counted, nobody
    answered before, nothing awaits confirmation and nothing is switched off.
    """
    return Standing(
        earlier_searches={agency: dict.fromkeys(COUNTERS, 0) for agency in agencies},
        unconfirmed_urgent=0,
        switched_off=frozenset(),
        reasons_reused=0,
    )
