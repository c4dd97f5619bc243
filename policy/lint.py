"""What is lawful to load but wants a second look, found without any request.

``findings`` looks at one agreement by itself: its dates, the law it rests on, clauses that no
request can satisfy, duties nobody can carry out yet, what its urgent route gives up.
``findings_together`` adds what only shows beside the others: agreements that can never be chosen,
that add nothing, or that permit the same request with other duties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

from policy import lint_regions
from policy.agreements import Agreement, AgreementFile, Document
from policy.codes import REGISTRY
from policy.facts import ATTRIBUTES

NOT_YET_ENFORCED: Final = frozenset({"target_fpir"})
"""Obligations that no enforcer knows yet, so that one is a denial."""
SAFEGUARDS: Final = frozenset(
    {
        "purpose",
        "legal_basis",
        "schedule8_condition",
        "subject_category",
        "officer_accreditation",
        "officer_accreditation_expires",
        "probe_source",
        "probe_edits",
        "sealed",
        "owner_decision",
    }
)
"""What urgency is no reason to go without: it changes neither the law nor what the probe is."""


class About(StrEnum):
    """What a finding is about."""

    DATES = "dates"
    LAW = "law"
    CLAUSE = "clause"
    UNSATISFIABLE = "unsatisfiable"
    OBLIGATION = "obligation"
    URGENT = "urgent"
    SHADOWED = "shadowed"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark on one agreement; ``request`` is one that shows it, where there is one."""

    file: str
    agreement_id: str
    text: str
    about: About
    request: Mapping[str, Any] | None = None


def findings(file: AgreementFile, today: date) -> list[Finding]:
    """Return what ``today`` gives reason to look at again in an agreement by itself."""
    agreement = file.agreement
    parts: dict[About, Iterator[str]] = {
        About.DATES: _dates(agreement, today),
        About.LAW: _law(agreement),
        About.CLAUSE: _clauses(agreement),
        About.UNSATISFIABLE: lint_regions.unsatisfiable(file, today),
        About.OBLIGATION: _obligations(agreement),
        About.URGENT: _urgent(agreement),
    }
    return [
        Finding(file.name, agreement.id, remark, about)
        for about, remarks in parts.items()
        for remark in remarks
    ]


def findings_together(files: Sequence[AgreementFile], today: date) -> list[Finding]:
    """Return the findings of every agreement, and those that show only beside the others."""
    found: list[Finding] = [finding for file in files for finding in findings(file, today)]
    names = {file.agreement.id: file.name for file in files}
    beside = {
        About.SHADOWED: lint_regions.never_chosen(files, today),
        About.CONFLICT: lint_regions.conflicts(files, today),
    }
    found += [
        Finding(names[one.agreement_id], one.agreement_id, one.text, about, one.request)
        for about, remarks in beside.items()
        for one in remarks
    ]
    places = {file.name: place for place, file in enumerate(files)}
    return sorted(found, key=lambda finding: places[finding.file])


def as_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON values."""
    return {
        "file": finding.file,
        "agreement_id": finding.agreement_id,
        "about": finding.about.value,
        "text": finding.text,
        "request": None if finding.request is None else dict(finding.request),
    }


def _dates(agreement: Agreement, today: date) -> Iterator[str]:
    if today > agreement.in_force.to:
        yield f"lapsed on {agreement.in_force.to}"
    if today < agreement.in_force.from_:
        yield f"not in force until {agreement.in_force.from_}"
    if today > agreement.review_date:
        yield f"its review was due on {agreement.review_date}"
    documents: dict[str, Document] = dict(agreement.documents)
    for name, document in documents.items():
        if today > document.expires:
            yield f"{name} expired on {document.expires}, so every request is denied"
        if today < document.date:
            yield f"{name} is not valid until {document.date}, so every request is denied"
    opens = max(agreement.in_force.from_, *(one.date for one in documents.values()))
    closes = min(agreement.in_force.to, *(one.expires for one in documents.values()))
    if opens > closes:
        yield "on no day are it in force and its documents current, so every request is denied"
    elif today <= closes < agreement.in_force.to:
        yield f"its documents expire on {closes}, before it does on {agreement.in_force.to}"


def _law(agreement: Agreement) -> Iterator[str]:
    relied_on = [
        ("legal_basis", [code for gateway in agreement.gateways for code in gateway.accepted]),
        ("schedule8_condition", list(agreement.schedule8_conditions)),
    ]
    for vocabulary, codes in relied_on:
        for code in dict.fromkeys(codes):
            entry = REGISTRY[vocabulary].codes[code]
            if not entry.verified:
                yield f"rests on {code}, whose citation was not verified ({entry.citation})"


def _clauses(agreement: Agreement) -> Iterator[str]:
    purposes = {gateway.purpose for gateway in agreement.gateways}
    for clause in agreement.clauses:
        if not ATTRIBUTES[clause.attribute].carried:
            yield f"{clause.id} asks for {clause.attribute}, which no request carries"
        if clause.attribute == "purpose" and clause.operator.value == "in":
            named = set(clause.value) if isinstance(clause.value, tuple) else set()
            for purpose in sorted(map(str, named - purposes)):
                yield f"{clause.id} allows {purpose}, which has no gateway"


def _obligations(agreement: Agreement) -> Iterator[str]:
    for name in sorted(agreement.obligations.binding & NOT_YET_ENFORCED):
        yield f"obliges to {name}, which nobody can enforce yet, so what it permits is denied"


def _urgent(agreement: Agreement) -> Iterator[str]:
    waived = frozenset(agreement.urgent.waives if agreement.urgent else ())
    for quota in agreement.quotas:
        if quota.id in waived:
            yield f"its urgent route waives the quota {quota.id}, so nothing bounds its use"
    for clause in agreement.clauses:
        if clause.id in waived and clause.attribute in SAFEGUARDS:
            yield f"its urgent route waives {clause.id}, a safeguard: {clause.attribute}"
