"""What is lawful to load but wants a second look, found without any request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from policy.agreements import Agreement, AgreementFile
from policy.codes import REGISTRY
from policy.facts import ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark on one agreement."""

    file: str
    agreement_id: str
    text: str


def findings(file: AgreementFile, today: date) -> list[Finding]:
    """Return what ``today`` gives reason to look at again in an agreement."""
    agreement = file.agreement
    remarks = (*_dates(agreement, today), *_law(agreement), *_clauses(agreement))
    return [Finding(file.name, agreement.id, remark) for remark in remarks]


def _dates(agreement: Agreement, today: date) -> Iterator[str]:
    if today > agreement.in_force.to:
        yield f"lapsed on {agreement.in_force.to}"
    if today < agreement.in_force.from_:
        yield f"not in force until {agreement.in_force.from_}"
    if today > agreement.review_date:
        yield f"its review was due on {agreement.review_date}"
    for name in ("dpia", "appropriate_policy_document"):
        document = getattr(agreement.documents, name)
        if today > document.expires:
            yield f"{name} expired on {document.expires}, so every request is denied"


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
