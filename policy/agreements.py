"""A data-sharing agreement: frozen models of the YAML file that two parties sign.

A file that holds an unknown field, operator, attribute or code does not load, and the error names
file, line and field. What loads is complete: every clause has an operator that makes sense on its
attribute and a value of the right type, so deciding on it cannot fail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from policy.clause_model import CORE_PREFIX, Clause, FrozenModel, Line
from policy.codes import REGISTRY
from policy.standing import Per, Window, counter
from policy.yaml_source import invalid, parse_yaml, read_file
from trust import messages
from trust.messages import (
    MAX_AGENCIES,
    MAX_CANDIDATES,
    MAX_CODES,
    ClauseId,
    Code,
    MemberId,
)

MAX_CLAUSES: Final = 200
"""Most clauses of one agreement."""
MIN_REVIEWERS: Final = 2
"""Fewest people who review a candidate before anybody has a name (promise 4)."""
# Strict, so that a quoted word is not a yes and a number is not a day.
Day = Annotated[date, Field(strict=True)]
YesOrNo = Annotated[bool, Field(strict=True)]

AGREEMENT_SUFFIX: Final = ".yaml"
REMEMBERED: Final = 64
"""Most agreements that are kept as they were read."""
CASES_FILE: Final = "cases.yaml"
"""The case table that lies beside agreements and is not one."""

Prose = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


def _word_of(vocabulary: str) -> Callable[[str], str]:
    def check(code: str) -> str:
        if code not in REGISTRY[vocabulary]:
            raise ValueError(f"not a known {vocabulary} code")
        return code

    return check


Purpose = Annotated[Code, AfterValidator(_word_of("purpose"))]
Gateway = Annotated[Code, AfterValidator(_word_of("legal_basis"))]
Schedule8Condition = Annotated[Code, AfterValidator(_word_of("schedule8_condition"))]
Mode = Annotated[Code, AfterValidator(_word_of("mode"))]
Rank = Annotated[Code, AfterValidator(_word_of("rank"))]
DisclosureField = Annotated[Code, AfterValidator(_word_of("disclosure_field"))]
OnwardTransfer = Annotated[Code, AfterValidator(_word_of("onward_transfer"))]
Images = Annotated[Code, AfterValidator(_word_of("images"))]
NO_IMAGES: Final = "never"
IMAGES_WITH_ANSWER: Final = "with"
"""Images are sent without a reason given for each; every other word but "never" asks for one."""
RELEASE_WITHIN_HOURS: Final = 48
"""How long an owner has to decide about details where its agreement does not say, hours
(Reg. (EU) 2024/982 art. 47(1))."""


class InForce(FrozenModel):
    """The days an agreement is in force, both included, in UTC."""

    from_: Day = Field(alias="from")
    to: Day

    @field_validator("to")
    @classmethod
    def _after_from(cls, to: Day, info: ValidationInfo) -> Day:
        if "from_" in info.data and to < info.data["from_"]:
            raise ValueError("ends before it begins")
        return to


class Document(FrozenModel):
    """A document the agreement stands on, valid from ``date`` to ``expires``, both included."""

    title: Line
    date: Day
    expires: Day

    @field_validator("expires")
    @classmethod
    def _after_date(cls, expires: Day, info: ValidationInfo) -> Day:
        if "date" in info.data and expires < info.data["date"]:
            raise ValueError("expires before its date")
        return expires


class Documents(FrozenModel):
    """The documents the law requires (DPA 2018 s.64 and s.42)."""

    dpia: Document
    appropriate_policy_document: Document


class PurposeGateway(FrozenModel):
    """The gateway in law for one purpose; a purpose without one is not permitted.

    ``code`` is the owner's power to answer. A request to several agencies names one legal basis of
    its own, so an agreement may also list ``requester_bases`` on which it answers for this purpose.
    """

    purpose: Purpose
    code: Gateway
    citation: Line
    requester_bases: Annotated[tuple[Gateway, ...], Field(max_length=MAX_CODES)] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every legal basis that a request for this purpose may rely on."""
        return (self.code, *self.requester_bases)


def _own_id(clause_id: str) -> str:
    if clause_id.startswith(CORE_PREFIX):
        raise ValueError(f"ids that begin with {CORE_PREFIX} are built in")
    return clause_id


OwnClauseId = Annotated[ClauseId, AfterValidator(_own_id)]


class Quota(FrozenModel):
    """The most searches permitted at the agency in a calendar day or month (UTC).

    Broker and agency each count for themselves; a search that either denies is not counted by it.
    """

    id: OwnClauseId
    citation: Line
    per: Per
    window: Window
    most: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]

    @property
    def counter(self) -> str:
        """The counter it reads, such as ``officer.day``."""
        return counter(self.per, self.window)


class AnsweredFirst(FrozenModel):
    """Agencies that must have answered the same probe, for the same case and force, before.

    What counts is an entry of the log that proves the answer, not the requester's word
    (``tried_first`` is that).
    """

    id: OwnClauseId
    citation: Line
    agencies: Annotated[tuple[MemberId, ...], Field(min_length=1, max_length=MAX_AGENCIES)]
    within_days: Annotated[int, Field(strict=True, ge=1, le=366)]

    @field_validator("agencies")
    @classmethod
    def _distinct(cls, agencies: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(agencies)) != len(agencies):
            raise ValueError("an agency is repeated")
        return agencies


class UrgentRoute(FrozenModel):
    """What an urgent request need not show at once, and who must confirm it in writing, by when.

    It is open to requests of its ``purposes`` alone. Any other urgent request is asked everything.
    A permission that needed the route lapses into a bar if it is not confirmed in time: later
    searches of the officer are denied until it is.
    """

    citation: Line
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1, max_length=MAX_CODES)]
    waives: Annotated[tuple[ClauseId, ...], Field(min_length=1, max_length=MAX_CODES)]
    confirm_within_hours: Annotated[int, Field(strict=True, ge=1, le=168)]
    confirmer_rank: Rank

    @field_validator("confirmer_rank")
    @classmethod
    def _on_scale(cls, rank: str) -> str:
        if rank not in REGISTRY["rank"].scale:
            raise ValueError("this rank has no place on the scale")
        return rank


class Obligations(FrozenModel):
    """What whoever carries out a permission must do; each field is one obligation.

    ``min_score`` is in the matcher's own scale; ``retention_days`` is kept by the recipient.
    ``target_fpir`` asks for a threshold with at most this false positive identification rate; it
    needs a calibrated matcher, and an enforcer without one denies. ``release_within_hours`` is how
    long the owner's people have to decide about the details of a candidate.
    """

    max_candidates: Annotated[int, Field(strict=True, ge=1, le=MAX_CANDIDATES)]
    min_score: Annotated[float, Field(strict=True)]
    target_fpir: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    mode: Mode
    hit_no_hit: YesOrNo
    release_by_human: YesOrNo
    reviewers: Annotated[int, Field(strict=True, ge=MIN_REVIEWERS, le=10)]
    fields: Annotated[tuple[DisclosureField, ...], Field(max_length=MAX_CODES)]
    retention_days: Annotated[int, Field(strict=True, ge=0, le=3_650)]
    onward_transfer: OnwardTransfer
    caveats: Annotated[tuple[Line, ...], Field(max_length=MAX_CODES)]
    images: Images = NO_IMAGES
    release_within_hours: Annotated[int, Field(strict=True, ge=1, le=720)] = RELEASE_WITHIN_HOURS

    @model_validator(mode="after")
    def _coherent(self) -> Obligations:
        if self.hit_no_hit and self.fields:
            raise ValueError("hit/no-hit discloses no fields")
        if self.hit_no_hit and self.images != NO_IMAGES:
            raise ValueError("hit/no-hit sends no images")
        if len(set(self.fields)) != len(self.fields):
            raise ValueError("a field is repeated")
        return self

    @cached_property
    def binding(self) -> frozenset[str]:
        """The obligations that bind anybody, by field name.

        A yes/no obligation that is ``False``, an empty list of caveats and images that are not
        sent bind nobody.
        """
        idle = {name for name in ("hit_no_hit", "release_by_human") if not getattr(self, name)}
        if not self.caveats:
            idle.add("caveats")
        if self.target_fpir is None:
            idle.add("target_fpir")
        if self.images == NO_IMAGES:
            idle.add("images")
        return frozenset(type(self).model_fields) - idle

    @cached_property
    def for_grant(self) -> messages.Obligations:
        """The part of the obligations that travels in a grant."""
        return messages.Obligations(
            max_candidates=self.max_candidates,
            min_score=self.min_score,
            mode=self.mode,
            hit_no_hit=self.hit_no_hit,
            release_by_human=self.release_by_human,
            retention_days=self.retention_days,
            caveats=self.caveats,
        )


class Agreement(FrozenModel):
    """One agreement between an agency and one or more forces."""

    id: ClauseId
    version: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    title: Line
    notice: Prose
    """What the reader must know first, such as that this is an example."""
    agency: MemberId
    forces: Literal["all"] | Annotated[tuple[MemberId, ...], Field(min_length=1, max_length=200)]
    in_force: InForce
    review_date: Day
    documents: Documents
    gateways: Annotated[tuple[PurposeGateway, ...], Field(min_length=1, max_length=MAX_CODES)]
    schedule8_conditions: Annotated[
        tuple[Schedule8Condition, ...], Field(min_length=1, max_length=MAX_CODES)
    ]
    strictly_necessary: Prose
    """Why sensitive processing is strictly necessary (DPA 2018 s.35(5))."""
    clauses: Annotated[tuple[Clause, ...], Field(min_length=1, max_length=MAX_CLAUSES)]
    quotas: Annotated[tuple[Quota, ...], Field(max_length=MAX_CODES)] = ()
    answered_first: Annotated[tuple[AnsweredFirst, ...], Field(max_length=MAX_CODES)] = ()
    urgent: UrgentRoute | None = None
    obligations: Obligations

    @field_validator("gateways")
    @classmethod
    def _one_per_purpose(cls, gateways: tuple[PurposeGateway, ...]) -> tuple[PurposeGateway, ...]:
        if len({gateway.purpose for gateway in gateways}) != len(gateways):
            raise ValueError("a purpose has two gateways")
        return gateways

    @field_validator("clauses")
    @classmethod
    def _distinct(cls, clauses: tuple[Clause, ...]) -> tuple[Clause, ...]:
        if len({clause.id for clause in clauses}) != len(clauses):
            raise ValueError("a clause id is repeated")
        return clauses

    @field_validator("quotas", "answered_first")
    @classmethod
    def _ids_once(
        cls, found: tuple[Quota | AnsweredFirst, ...], info: ValidationInfo
    ) -> tuple[Quota | AnsweredFirst, ...]:
        seen = _ids_so_far(info)
        for one in found:
            if one.id in seen:
                raise ValueError(f"the clause id {one.id} is repeated")
            seen.add(one.id)
        return found

    @field_validator("urgent")
    @classmethod
    def _waives_own(cls, route: UrgentRoute | None, info: ValidationInfo) -> UrgentRoute | None:
        if route is None:
            return None
        for waived in route.waives:
            if waived not in _ids_so_far(info):
                raise ValueError(f"it waives {waived}, which is no clause of this agreement")
        gateways = {gateway.purpose for gateway in info.data.get("gateways", ())}
        for purpose in route.purposes:
            if purpose not in gateways:
                raise ValueError(f"it is for {purpose}, which has no gateway here")
        return route


def _ids_so_far(info: ValidationInfo) -> set[str]:
    """Return the clause ids of the fields validated before this one."""
    parts = ("clauses", "quotas", "answered_first")
    return {one.id for part in parts for one in info.data.get(part, ())}


@dataclass(frozen=True, slots=True)
class AgreementFile:
    """An agreement, the exact bytes it was read from, and their digest."""

    name: str
    raw: bytes
    agreement: Agreement

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the exact bytes, which is what the parties sign."""
        return hashlib.sha256(self.raw).digest()


@lru_cache(maxsize=REMEMBERED)
def parse_agreement(raw: bytes, name: str) -> AgreementFile:
    """Return the agreement in ``raw``; ``name`` is the file name errors give.

    The same bytes are the same agreement, and a bundle is opened by everyone who looks at it.

    Raises:
        ProbegateError: BUNDLE_INVALID naming file, line and field.
    """
    return AgreementFile(name, raw, parse_yaml(raw, name).validated(Agreement))


def read_folder(folder: Path) -> tuple[AgreementFile, ...]:
    """Return every agreement under ``folder``, by relative name; case tables are left out.

    Raises:
        ProbegateError: BUNDLE_INVALID if one is invalid, none is there, or an id occurs twice;
            FILE_MISSING if ``folder`` is not a folder.
    """
    paths = sorted(p for p in folder.rglob(f"*{AGREEMENT_SUFFIX}") if p.name != CASES_FILE)
    if not folder.is_dir():
        read_file(folder)  # raises FILE_MISSING with the system's own reason
    if not paths:
        raise invalid("no agreements in this folder", file=folder.name)
    return distinct(
        parse_agreement(read_file(path), path.relative_to(folder).as_posix()) for path in paths
    )


def distinct(files: Iterable[AgreementFile]) -> tuple[AgreementFile, ...]:
    """Return ``files`` if every agreement id is used once.

    Raises:
        ProbegateError: BUNDLE_INVALID naming the second file of a pair.
    """
    kept: dict[str, AgreementFile] = {}
    for file in files:
        if file.agreement.id in kept:
            first = kept[file.agreement.id].name
            raise invalid(f"the id is also used in {first}", file=file.name, at=("id",))
        kept[file.agreement.id] = file
    return tuple(kept.values())
