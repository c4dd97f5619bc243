"""The closed table of what a decision may read, and the facts of one request.

``ATTRIBUTES`` is the whole vocabulary of an agreement's clauses. Each attribute has a type, which
fixes the operators that make sense on it, and says whether its value is personal: a personal value
is never shown in an explanation and never written into an agreement.

A fact that is missing is ``None``: never a default. What reads it is then indeterminate, and
indeterminate is not satisfied.

Some facts are derived from stated ones, and some come from the decider's own records
(``policy.standing``); neither can be asserted by whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Final, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from policy import reasons
from policy.codes import REGISTRY, Vocabulary
from policy.standing import Standing
from trust.messages import MAX_CODES, MAX_REASON_CHARS, Code, Label, MemberId, SearchOrder
from trust.people import same_person


class Kind(StrEnum):
    """What type of value an attribute has."""

    CODE = "code"
    CODES = "codes"
    TEXT = "text"
    BOOLEAN = "boolean"
    NUMBER = "number"
    DATE = "date"
    INSTANT = "instant"


class Operator(StrEnum):
    """The closed set of operators; each is total over its attribute's kind."""

    IN = "in"
    NOT_IN = "not_in"
    GE = "ge"
    LE = "le"
    BETWEEN = "between"
    SUBSET = "subset"
    BEFORE = "before"
    AFTER = "after"
    PRESENT = "present"


MAX_PROBE_QUALITY: Final = 100
"""Highest unified quality score (ISO/IEC 29794-1)."""
_ORDERING: Final = frozenset({Operator.GE, Operator.LE, Operator.BETWEEN})
_OPERATORS: Final[Mapping[Kind, frozenset[Operator]]] = MappingProxyType(
    {
        Kind.CODE: frozenset({Operator.IN, Operator.NOT_IN, Operator.PRESENT}),
        Kind.CODES: frozenset({Operator.SUBSET, Operator.NOT_IN, Operator.PRESENT}),
        Kind.TEXT: frozenset({Operator.IN, Operator.NOT_IN, Operator.PRESENT}),
        Kind.BOOLEAN: frozenset({Operator.IN, Operator.PRESENT}),
        Kind.NUMBER: _ORDERING | {Operator.PRESENT},
        Kind.DATE: frozenset({Operator.BEFORE, Operator.AFTER, Operator.BETWEEN, Operator.PRESENT}),
        Kind.INSTANT: frozenset(
            {Operator.BEFORE, Operator.AFTER, Operator.BETWEEN, Operator.PRESENT}
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing a clause may ask about.

    ``carried`` is false for a fact that no request can carry yet; a clause on it is always
    indeterminate, so an agreement can demand it and deny by name until it exists.
    """

    name: str
    kind: Kind
    personal: bool = False
    vocabulary: Vocabulary | None = None
    carried: bool = True

    @property
    def operators(self) -> frozenset[Operator]:
        """The operators an agreement may use on it."""
        if self.personal:
            # Any other operator would write somebody's name into an agreement.
            return frozenset({Operator.PRESENT})
        ordered = self.vocabulary is not None and self.vocabulary.ordered
        return _OPERATORS[self.kind] | (_ORDERING if ordered else frozenset())


def _code(name: str, vocabulary: str = "") -> Attribute:
    return Attribute(name, Kind.CODE, vocabulary=REGISTRY[vocabulary or name])


def _codes(name: str) -> Attribute:
    return Attribute(name, Kind.CODES, vocabulary=REGISTRY[name])


ATTRIBUTES: Final[Mapping[str, Attribute]] = MappingProxyType(
    {
        attribute.name: attribute
        for attribute in (
            _code("purpose"),
            _code("legal_basis"),
            _code("schedule8_condition"),
            _code("aim"),
            _code("subject_category"),
            Attribute("offence_code", Kind.TEXT),
            _code("offence_seriousness"),
            Attribute("case_reference", Kind.TEXT, personal=True),
            # Free text is personal: an officer explaining necessity names people.
            Attribute("necessity", Kind.TEXT, personal=True),
            Attribute("proportionality", Kind.TEXT, personal=True),
            Attribute("necessity_words", Kind.NUMBER),
            Attribute("proportionality_words", Kind.NUMBER),
            Attribute("reasons_reused", Kind.NUMBER),
            Attribute("officer_id", Kind.TEXT, personal=True),
            _code("officer_role"),
            _code("officer_rank", "rank"),
            Attribute("officer_accreditation", Kind.TEXT),
            Attribute("officer_accreditation_expires", Kind.DATE),
            Attribute("authoriser_id", Kind.TEXT, personal=True),
            _code("authoriser_rank", "rank"),
            Attribute("authoriser_independent", Kind.BOOLEAN),
            _codes("tried_first"),
            _code("probe_source"),
            Attribute("probe_quality", Kind.NUMBER),
            _codes("probe_edits"),
            Attribute("probe_model", Kind.TEXT),
            Attribute("probe_captured_at", Kind.INSTANT),
            Attribute("sealed", Kind.BOOLEAN),
            Attribute("authorised_at", Kind.INSTANT),
            Attribute("urgent", Kind.BOOLEAN),
            Attribute("force", Kind.TEXT),
            Attribute("owner_decision", Kind.TEXT, carried=False),
        )
    }
)
"""Every attribute by name."""

CODED: Final = tuple(a for a in ATTRIBUTES.values() if a.vocabulary is not None)
"""The attributes whose values are words of a vocabulary."""


def _blank_is_missing(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


_Missing = BeforeValidator(_blank_is_missing)
MaybeCode = Annotated[Code | None, _Missing]
MaybeLabel = Annotated[Label | None, _Missing]
MaybeText = Annotated[
    Annotated[str, StringConstraints(max_length=MAX_REASON_CHARS)] | None,
    _Missing,
    Field(repr=False),
]
MaybeCodes = Annotated[frozenset[Code], Field(max_length=MAX_CODES)] | None


class Facts(BaseModel):
    """What is known of one request; every fact may be missing (``None``).

    Codes are checked here for their form only: that a word is unknown is the decision's to say
    (``core.known-codes``), so that the requester learns which.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    purpose: MaybeCode = None
    legal_basis: MaybeCode = None
    schedule8_condition: MaybeCode = None
    aim: MaybeCode = None
    subject_category: MaybeCode = None
    offence_code: MaybeLabel = None
    offence_seriousness: MaybeCode = None
    case_reference: MaybeText = None
    necessity: MaybeText = None
    proportionality: MaybeText = None
    officer_id: MaybeText = None
    officer_role: MaybeCode = None
    officer_rank: MaybeCode = None
    officer_accreditation: MaybeLabel = None
    officer_accreditation_expires: date | None = None
    authoriser_id: MaybeText = None
    authoriser_rank: MaybeCode = None
    tried_first: MaybeCodes = None
    probe_source: MaybeCode = None
    probe_quality: Annotated[int, Field(ge=0, le=MAX_PROBE_QUALITY)] | None = None
    probe_edits: MaybeCodes = None
    probe_model: MaybeLabel = None
    probe_captured_at: AwareDatetime | None = None
    sealed: bool | None = None
    authorised_at: AwareDatetime | None = None
    urgent: bool | None = None
    force: Annotated[MemberId | None, _Missing] = None
    standing: Standing | None = None
    """What the decider's own records say; ``None`` where there are none to read."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return the facts with some replaced, checked anew.

        Pydantic's own copy would carry the cached values along and decide on the old facts.

        Raises:
            pydantic.ValidationError: a replacement is not valid.
        """
        del deep  # every value is immutable
        stated = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(stated | dict(update or {}))

    @property
    def authoriser_independent(self) -> bool | None:
        """Whether officer and authoriser are two people; derived, so nobody can assert it."""
        if self.officer_id is None or self.authoriser_id is None:
            return None
        return not same_person(self.officer_id, self.authoriser_id)

    @cached_property
    def necessity_words(self) -> int | None:
        """How many different words the necessity has."""
        return reasons.distinct_words(self.necessity)

    @cached_property
    def proportionality_words(self) -> int | None:
        """How many different words the proportionality has."""
        return reasons.distinct_words(self.proportionality)

    @property
    def reasons_reused(self) -> int | None:
        """In how many other cases of the force the same reasons were given, if that is known."""
        return None if self.standing is None else self.standing.reasons_reused

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """The signs that the reasons are boilerplate, by name (``policy.reasons``)."""
        return reasons.warnings(
            self.necessity_words, self.proportionality_words, self.reasons_reused
        )

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """Every attribute's value by name; missing ones are ``None``."""
        stated = self.__dict__  # on the path of every search; an attribute each would take twice
        return _Values(self, {name: stated[name] for name in _STATED} | _NOT_CARRIED)

    @cached_property
    def unknown_words(self) -> tuple[str, ...]:
        """The coded attributes that hold a word outside their vocabulary."""
        values = self.values
        return tuple(
            [
                name
                for name, known in _KNOWN_WORDS
                if (value := values[name]) is not None
                and not (value <= known if type(value) is frozenset else value in known)
            ]
        )

    @cached_property
    def missing_words(self) -> tuple[str, ...]:
        """The coded attributes that are not given."""
        values = self.values
        return tuple([name for name, _ in _KNOWN_WORDS if values[name] is None])


class _Values(dict[str, Any]):
    """A request's facts by name; what is derived is worked out when a clause asks for it."""

    __slots__ = ("_facts",)

    def __init__(self, facts: Facts, stated: Mapping[str, Any]) -> None:
        super().__init__(stated)
        self._facts = facts

    def __missing__(self, name: str) -> Any:
        if name not in _DERIVED:
            raise KeyError(name)
        value = self[name] = getattr(self._facts, name)
        return value


_STATED: Final = tuple(name for name in ATTRIBUTES if name in Facts.model_fields)
_DERIVED: Final = frozenset(
    a.name for a in ATTRIBUTES.values() if a.carried and a.name not in _STATED
)
_NOT_CARRIED: Final = {a.name: None for a in ATTRIBUTES.values() if not a.carried}
_KNOWN_WORDS: Final = tuple(
    (a.name, frozenset(a.vocabulary.codes)) for a in CODED if a.vocabulary is not None
)


def facts_of_order(order: SearchOrder, *, sealed: bool, standing: Standing | None = None) -> Facts:
    """Return the facts a signed order states; broker and agency both decide on these.

    Args:
        order: the verified order.
        sealed: whether the probe came sealed to the agency's key, as the caller itself saw.
        standing: what the caller's own records say.

    Raises:
        pydantic.ValidationError: never, for an order that passed its own validation.
    """
    reasons, officer, probe = order.justification, order.officer, order.probe
    return Facts(
        purpose=reasons.purpose,
        legal_basis=reasons.legal_basis,
        schedule8_condition=reasons.schedule8_condition,
        aim=reasons.aim,
        subject_category=reasons.subject_category,
        offence_code=reasons.offence.code,
        offence_seriousness=reasons.offence.seriousness,
        case_reference=reasons.case_reference,
        necessity=reasons.necessity,
        proportionality=reasons.proportionality,
        officer_id=officer.id,
        officer_role=officer.role,
        officer_rank=officer.rank,
        officer_accreditation=officer.accreditation,
        officer_accreditation_expires=officer.accreditation_expires,
        authoriser_id=order.authoriser.id,
        authoriser_rank=order.authoriser.rank,
        tried_first=frozenset(reasons.tried_first),
        probe_source=probe.source,
        probe_quality=probe.quality,
        probe_edits=frozenset(probe.edits),
        probe_model=probe.model,
        probe_captured_at=probe.captured_at,
        sealed=sealed,
        authorised_at=order.authorised_at,
        urgent=reasons.urgent,
        force=order.force,
        standing=standing,
    )
