"""What every kind of agency has in common: a record model, eligibility and order rules, defaults.

Rules of an agency's own, beyond any agreement (promise 3):

* an ``EligibilityRule`` bars one *record* from being searched (a deletion request, a protected
  flag) on some days, which follow from the record alone, so that a gallery of any size knows them
  without reading its records again; barred records are masked out before ranking and do not count
  in the number searched;
* an ``OrderRule`` bars a whole *order* at this kind of agency (no Caldicott decision on it, an
  unknown face at DWP); it fails like a clause of an agreement and is named in the signed denial;
* a ``DutyRule`` bars every order under an *agreement* that asks too little of whoever receives the
  answer (onward transfer of what is the originator's to control);
* a ``ReleaseRule`` holds an answer for a person, because of a *record* in it that somebody else
  must be asked about first. Who must release, and how many of them, is in ``Defaults``.

What may ever be disclosed about a record, once its people release it, is a ``Detail`` each: a code
of the agreements' vocabulary, and the text that a record has for it. An image is none.

Each rule carries the law or guidance it stands on, so that a denial can be explained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from policy.agreements import Obligations
from policy.codes import REGISTRY
from trust import link_tokens
from trust.link_tokens import Identifiers
from trust.messages import SearchOrder
from trust.second_step import MAX_FIELD_CHARS, DisclosedField, Nature

_ISO_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
ADULT_YEARS: Final = 18
"""Age of majority, years."""


def _iso_date(value: object) -> object:
    """Accept a full ISO 8601 calendar date and nothing that merely resembles one."""
    if isinstance(value, date):
        return value
    if isinstance(value, str) and _ISO_DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    if _is_nothing(value):
        raise PydanticCustomError("iso_date_missing", "missing")
    raise PydanticCustomError("iso_date", "not an ISO 8601 date (YYYY-MM-DD)")


def _optional_iso_date(value: object) -> object:
    """Accept what ``_iso_date`` does, or nothing."""
    return None if _is_nothing(value) else _iso_date(value)


def _is_nothing(value: object) -> bool:
    """Whether a column was left empty; a value may be of any kind, lists too."""
    return value is None or (isinstance(value, str) and not value)


def _flag(value: object) -> object:
    """Accept the ways a spreadsheet writes a yes or a no; anything else is an error."""
    if isinstance(value, bool):
        return value
    words = {
        "": False,
        "no": False,
        "false": False,
        "0": False,
        "yes": True,
        "true": True,
        "1": True,
    }
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise PydanticCustomError("flag", "neither yes nor no")


IsoDate = Annotated[date, BeforeValidator(_iso_date)]
OptionalIsoDate = Annotated[date | None, BeforeValidator(_optional_iso_date)]
Flag = Annotated[bool, BeforeValidator(_flag)]
PNC_ID_PATTERN: Final = r"^([0-9A-Z]{2,4}/[0-9]{1,7}[A-Z])?$"
OptionalPncId = Annotated[str, StringConstraints(pattern=PNC_ID_PATTERN)]
RecordId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$")]
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Record(BaseModel):
    """What one agency holds beside one template; ``record_id`` is the agency's own reference.

    The names may be left out. Nothing is decided on them. They leave the agency in link tokens,
    which say nothing without the agencies' own key; and they and the rest leave it as the details
    (``Detail``) that its people released, and not otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    record_id: RecordId
    captured_on: IsoDate
    given_names: Annotated[Text, Field(repr=False)] = ""
    family_name: Annotated[Text, Field(repr=False)] = ""

    @property
    def constants(self) -> tuple[str, ...]:
        """What stays as it is while the record is of one image of one person (``identities``)."""
        return (self.captured_on.isoformat(),)

    def incoherence(self, today: date) -> str | None:
        """Return why the record contradicts itself, or None; such a row is not enrolled."""
        return "captured_on: in the future" if self.captured_on > today else None


class PersonRecord(Record):
    """A record of a person whose date of birth the agency cannot do without."""

    date_of_birth: IsoDate

    @property
    def constants(self) -> tuple[str, ...]:
        """The day of capture, and the date of birth."""
        return (*super().constants, self.date_of_birth.isoformat())

    def incoherence(self, today: date) -> str | None:
        """A face is not captured before its owner is born: one of the two dates is wrong."""
        if self.captured_on < self.date_of_birth:
            return "captured_on: before date_of_birth"
        return super().incoherence(today)

    @property
    def was_minor(self) -> bool:
        """Whether the person was under 18 when captured."""
        return age_on(self.date_of_birth, self.captured_on) < ADULT_YEARS

    @property
    def name_born(self) -> Identifiers:
        """The name with the date of birth, if the name is kept."""
        return link_tokens.name_born(self.given_names, self.family_name, self.date_of_birth)


def age_on(born: date, day: date) -> int:
    """Return the age in whole years on ``day``."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def birthday(born: date, years: int) -> date:
    """Return the first day on which somebody is ``years`` old (29 February: 1 March if need be)."""
    try:
        return born.replace(year=born.year + years)
    except ValueError:
        return date(born.year + years, 3, 1)


@dataclass(frozen=True, slots=True)
class Days:
    """Days in a row, as ordinals of the calendar: from ``first`` up to and without ``end``.

    The day that is asked about is UTC's, on every machine the same and without a table of time
    zones, which not every system has. During British Summer Time it ends at one in the morning.
    """

    first: int
    end: int

    def hold(self, day: date) -> bool:
        """Whether ``day`` is one of them."""
        return self.first <= day.toordinal() < self.end


NO_DAY: Final = Days(0, 0)
EVERY_DAY: Final = Days(0, 2**31 - 1)


def every_day_if(condition: bool) -> Days:  # noqa: FBT001 - reads as a sentence where it is used
    """Return every day where the condition holds, and no day otherwise."""
    return EVERY_DAY if condition else NO_DAY


def days_before(day: date) -> Days:
    """Return every day before ``day``."""
    return Days(0, day.toordinal())


def days_after(day: date | None) -> Days:
    """Return every day after ``day``; no day if there is none."""
    return NO_DAY if day is None else Days(day.toordinal() + 1, EVERY_DAY.end)


@dataclass(frozen=True, slots=True)
class EligibilityRule:
    """Bars records.

    Attributes:
        name: stable identifier, such as ``custody.deletion-requested``.
        citation: what it stands on.
        barred: the days on which a record is barred.
        switch: the operator's switch that turns it on; empty if it always applies. A switched rule
            that is off still counts the records it would bar.
    """

    name: str
    citation: str
    barred: Callable[[Any], Days]
    switch: str = ""


@dataclass(frozen=True, slots=True)
class OwnerDecision:
    """A decision the agency's own people recorded on one request, before it came.

    Attributes:
        authority: what sort it is, such as ``caldicott`` or ``data_controller``.
        reference: the agency's reference of it.
    """

    authority: str
    reference: str


@dataclass(frozen=True, slots=True)
class OrderRule:
    """Bars orders; ``permits`` sees the order and the owner's decision on it, if any."""

    name: str
    citation: str
    permits: Callable[[SearchOrder, OwnerDecision | None], bool]


@dataclass(frozen=True, slots=True)
class DutyRule:
    """Bars agreements; ``met`` sees what the agreement in force asks of the recipient."""

    name: str
    citation: str
    met: Callable[[Obligations], bool]


@dataclass(frozen=True, slots=True)
class ReleaseRule:
    """Holds answers; ``ask`` returns who must be asked about a record, or an empty text.

    That such an answer is held says that such a record is in it. It is what the rule itself says
    to whoever asks; where even that must not be said, the kind holds every answer (``Defaults``).
    """

    name: str
    citation: str
    ask: Callable[[Any], str]


def onward_at_most(*words: str) -> Callable[[Obligations], bool]:
    """Return whether an agreement lets the recipient pass answers on no further than ``words``."""
    return lambda obligations: obligations.onward_transfer in words


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a kind of agency insists on whatever an agreement allows; the stricter value stands.

    Attributes:
        max_candidates: the most candidates.
        hit_no_hit: whether only "something is held" may be said.
        release_by_human: whether a person at the agency must release the answer.
        owner_reviewers: how many different people of the owner's must release what is held.
    """

    max_candidates: int = 100
    hit_no_hit: bool = False
    release_by_human: bool = False
    owner_reviewers: int = 1


@dataclass(frozen=True, slots=True)
class Detail:
    """Something that may be disclosed about a record.

    Attributes:
        code: of the vocabulary ``disclosure_field``; never ``image``, which is no text.
        of: returns what a record says of it, as text; empty where it says nothing.
        nature: whether that is a fact or somebody's assessment (DPA 2018 s.38(2)).
    """

    code: str
    of: Callable[[Any], str]
    nature: Nature = Nature.FACT

    def __post_init__(self) -> None:
        if self.code not in REGISTRY["disclosure_field"] or self.code == "image":
            raise ValueError(f"no detail can be disclosed as {self.code!r}")


def detail(code: str, column: str = "", nature: Nature = Nature.FACT) -> Detail:
    """Return the detail that is one column of the record, named as the code if not said."""
    name = column or code
    return Detail(code, lambda record: _as_text(getattr(record, name)), nature)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, date) else str(value)


NAMES: Final = (detail("family_name"), detail("given_names"))
"""The details of a person's name, for every kind that keeps it."""


def no_category(_record: Any) -> str:
    """Return nothing: this kind of agency's records do not say what category a person is of."""
    return ""


def no_identifiers(_record: Any) -> Identifiers:
    """Return nothing: this kind of agency says of nobody that others hold them too."""
    return ()


@dataclass(frozen=True, slots=True)
class AgencyKind:
    """One kind of agency: everything about it that is not common to all.

    Attributes:
        name: the word for it in settings and manifests.
        title: its name for people.
        record: the record model; its fields are the import's columns.
        eligibility: rules on records.
        orders: rules on orders.
        duties: rules on agreements.
        release: rules on what is held for a person, beyond ``defaults``.
        details: what may ever be disclosed about a record.
        category: returns the code of the data subject's category where a record says it, of the
            vocabulary ``subject_category`` (DPA 2018 s.38(3)); empty where it does not.
        defaults: what it insists on.
        authorities: the owner's decisions that its people can record.
        identifiers: returns what of a record other agencies may hold too, for link tokens.
    """

    name: str
    title: str
    record: type[Record]
    eligibility: tuple[EligibilityRule, ...] = ()
    orders: tuple[OrderRule, ...] = ()
    duties: tuple[DutyRule, ...] = ()
    release: tuple[ReleaseRule, ...] = ()
    details: tuple[Detail, ...] = ()
    category: Callable[[Any], str] = no_category
    defaults: Defaults = Defaults()
    authorities: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    identifiers: Callable[[Any], Identifiers] = no_identifiers

    def failed_rules(self, order: SearchOrder, decision: OwnerDecision | None) -> tuple[str, ...]:
        """Return the names of the order rules that bar ``order``, all of them."""
        return tuple(rule.name for rule in self.orders if not rule.permits(order, decision))

    def unmet_duties(self, obligations: Obligations) -> tuple[str, ...]:
        """Return the names of the duty rules that an agreement's obligations do not meet."""
        return tuple(rule.name for rule in self.duties if not rule.met(obligations))

    def to_ask(self, record: Record) -> tuple[str, ...]:
        """Return who must be asked before a record is released."""
        return tuple(name for rule in self.release if (name := rule.ask(record)))

    def disclosed(self, record: Record, codes: Container[str]) -> tuple[DisclosedField, ...]:
        """Return what a record says of these details; what it says nothing of is left out."""
        return tuple(
            DisclosedField(name=one.code, value=value[:MAX_FIELD_CHARS], nature=one.nature)
            for one in self.details
            if one.code in codes and (value := one.of(record))
        )

    def bars(self, record: Record, day: date, switches: frozenset[str]) -> bool:
        """Whether a record may not be searched on a day, with these switches on."""
        return any(
            rule.barred(record).hold(day)
            for rule in self.eligibility
            if not rule.switch or rule.switch in switches
        )
