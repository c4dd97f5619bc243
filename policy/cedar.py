"""An agreement as Cedar policies, and a request as a Cedar context: a second reading of the rules.

The decision itself never comes here. This is an export for whoever analyses agreements with Cedar's
tools, and the other side of a differential test: it shares the models with ``policy.decision`` and
none of its code, so a fault would have to be made twice to go unseen.

1. One agreement is one policy set, for Cedar's ``forbid`` is global: in one set, two agreements
   between the same parties would veto each other.
2. A permit for the two parties, and for each clause one ``forbid ... unless`` with the clause's id.
3. Cedar skips a policy that errors, so a ``forbid`` that reads a missing attribute would be no bar.
   Every attribute that may be missing is read behind ``has``, the schema makes Cedar's validator
   insist on it, and an answer with any error is a denial (``permits``).
4. Instants are microseconds since 1970 and days are their first instant, both whole numbers: Cedar's
   own datetime stops at milliseconds.
5. Nothing personal is in a context: of a personal fact it says only that it was given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from policy.agreements import Agreement, AnsweredFirst, Quota
from policy.clause_model import DECIDED_AT, Clause, Moment, Scalar, items_of, moment
from policy.facts import ATTRIBUTES, CODED, Attribute, Facts, Kind, Operator
from policy.standing import COUNTERS, SwitchKind

PERMIT_ID: Final = "(permit)"
"""The id of the base permit; no clause can have it."""
ACTION: Final = 'Action::"search"'

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
DAY: Final = timedelta(days=1) // _MICROSECOND
_LONG: Final = 2**62
"""Bounds are kept within this: far beyond any fact, and what Cedar can hold."""
AT: Final = f"context.{DECIDED_AT}"
_GIVEN: Final = "given"
_TYPES: Final = {
    Kind.CODE: "String",
    Kind.CODES: "Set<String>",
    Kind.TEXT: "String",
    Kind.BOOLEAN: "Bool",
    Kind.NUMBER: "Long",
    Kind.DATE: "Long",
    Kind.INSTANT: "Long",
}


@dataclass(frozen=True, slots=True)
class CedarAgreement:
    """One agreement's policy set and schema, as text; ``answering`` are the agencies it asks for.

    ``clause_ids`` are the ids of its ``forbid`` policies, in their order.
    """

    policies: str
    schema: str
    agency: str
    answering: tuple[str, ...]
    clause_ids: tuple[str, ...]

    def request(self, facts: Facts, at: datetime) -> dict[str, Any]:
        """Return the Cedar request that asks whether a search is permitted at ``at``, aware."""
        return {
            "principal": {"type": "Force", "id": facts.force or ""},
            "action": {"type": "Action", "id": "search"},
            "resource": {"type": "Agency", "id": self.agency},
            "context": self.context(facts, at),
        }

    def context(self, facts: Facts, at: datetime) -> dict[str, Any]:
        """Return what is known of a request as JSON values; what is missing is left out (5)."""
        context: dict[str, Any] = {DECIDED_AT: micros(at)}
        for name, value in facts.values.items():
            if value is not None:
                context[name] = _GIVEN if ATTRIBUTES[name].personal else _encoded(value)
        standing = facts.standing
        if standing is None:
            return context
        context["earlier"] = dict(standing.earlier_searches.get(self.agency, {}))
        if self.answering:
            context["answered"] = {
                agency: micros(standing.answered[agency])
                for agency in self.answering
                if agency in standing.answered
            }
        if standing.unconfirmed_urgent is not None:
            context["unconfirmed_urgent"] = standing.unconfirmed_urgent
        if standing.switched_off is not None:
            off = [switch.split(":", 1) for switch in sorted(standing.switched_off)]
            context["off"] = {kind: [n for k, n in off if k == kind] for kind in SwitchKind}
        return context


def permits(decision: str, errors: Sequence[str]) -> bool:
    """Whether Cedar's answer is a permission: an ``Allow`` that came without any error (3)."""
    return decision == "Allow" and not errors


def to_cedar(
    agreement: Agreement, forces: Iterable[str], not_before: datetime, not_after: datetime
) -> CedarAgreement:
    """Return an agreement that binds ``forces``, in a bundle with this window, as Cedar."""
    answering = sorted({name for rule in agreement.answered_first for name in rule.agencies})
    route = agreement.urgent
    waived = set(route.waives) if route else set()
    clauses = [
        *_core(agreement, not_before, not_after),
        *[(clause.id, _clause(clause)) for clause in agreement.clauses],
        *[(quota.id, _quota(quota)) for quota in agreement.quotas],
        *[(rule.id, _answered(rule)) for rule in agreement.answered_first],
    ]
    bound = [f"Force::{text(force)}" for force in sorted(forces)]
    policies = [
        f"@id({text(PERMIT_ID)})\n"
        f"permit (principal, action == {ACTION}, resource == Agency::{text(agreement.agency)})\n"
        f"when {{ {f'[{", ".join(bound)}].contains(principal)' if bound else 'false'} }};\n"
    ]
    for clause_id, holds in clauses:
        unless = f"({guarded('urgent', 'context.urgent')}) || ({holds})"
        policies.append(
            f"@id({text(clause_id)})\nforbid (principal, action, resource)\n"
            f"unless {{ {unless if clause_id in waived else holds} }};\n"
        )
    return CedarAgreement(
        policies="\n".join(policies),
        schema=_schema(answering),
        agency=agreement.agency,
        answering=tuple(answering),
        clause_ids=tuple(clause_id for clause_id, _ in clauses),
    )


def _schema(answering: Iterable[str]) -> str:
    """Return the schema: everything but the instant of the decision may be missing (3)."""
    fields = [f"{DECIDED_AT}: Long"]
    fields += [f"{a.name}?: {_TYPES[a.kind]}" for a in ATTRIBUTES.values()]
    fields.append(f"earlier?: {{{', '.join(f'{text(name)}?: Long' for name in COUNTERS)}}}")
    agencies = ", ".join(f"{text(agency)}?: Long" for agency in answering)
    if agencies:
        fields.append(f"answered?: {{{agencies}}}")
    fields.append("unconfirmed_urgent?: Long")
    fields.append(f"off?: {{{', '.join(f'{kind}: Set<String>' for kind in SwitchKind)}}}")
    return (
        "entity Force;\nentity Agency;\naction search appliesTo {\n"
        "  principal: Force,\n  resource: Agency,\n"
        f"  context: {{\n    {',\n    '.join(fields)}\n  }}\n}};\n"
    )


def _core(
    agreement: Agreement, not_before: datetime, not_after: datetime
) -> Iterator[tuple[str, str]]:
    """Yield the built-in clauses by id (``policy.core_clauses`` has what each is for)."""
    yield "core.in-force", _days(agreement.in_force.from_, agreement.in_force.to)
    yield (
        "core.bundle-current",
        f"{AT} >= {micros(not_before)} && {AT} <= {micros(not_after)}",
    )
    documents = (agreement.documents.dpia, agreement.documents.appropriate_policy_document)
    yield (
        "core.documents-current",
        " && ".join(_days(document.date, document.expires) for document in documents),
    )
    yield (
        "core.gateway-for-purpose",
        guarded(
            "purpose",
            "context has legal_basis && ("
            + " || ".join(
                f"(context.purpose == {text(gateway.purpose)}"
                f" && {set_of((gateway.code, *gateway.requester_bases))}.contains(context.legal_basis))"
                for gateway in agreement.gateways
            )
            + ")",
        ),
    )
    conditions = set_of(agreement.schedule8_conditions)
    yield (
        "core.schedule8-condition",
        guarded("schedule8_condition", f"{conditions}.contains(context.schedule8_condition)"),
    )
    yield "core.not-switched-off", guarded("off", " && ".join(_on(agreement)))
    yield "core.known-codes", " && ".join(known(attribute) for attribute in CODED)
    for name, attribute in (
        ("case-reference", "case_reference"),
        ("strictly-necessary", "necessity"),
        ("proportionate", "proportionality"),
        ("accredited", "officer_accreditation"),
    ):
        yield f"core.{name}", f"context has {attribute}"
    yield (
        "core.authoriser-independent",
        guarded("authoriser_independent", "context.authoriser_independent"),
    )
    expires = "officer_accreditation_expires"
    yield "core.accreditation-current", guarded(expires, f"context.{expires} + {DAY} > {AT}")
    yield "core.order-in-time", guarded("authorised_at", f"context.authorised_at <= {AT}")
    yield "core.sealed", guarded("sealed", "context.sealed")
    yield "core.urgent-confirmed", guarded("unconfirmed_urgent", "context.unconfirmed_urgent == 0")


def _days(first: date, last: date) -> str:
    return f"{AT} >= {micros(first)} && {AT} < {micros(last) + DAY}"


def _on(agreement: Agreement) -> Iterator[str]:
    """Yield, for each kind of kill switch, that none applies; a missing fact might be switched."""
    yield f"!context.off.agency.contains({text(agreement.agency)})"
    for kind, name in (("force", "force"), ("matcher", "probe_model"), ("purpose", "purpose")):
        on = guarded(name, f"!context.off.{kind}.contains(context.{name})")
        yield f"(context.off.{kind}.isEmpty() || ({on}))"


def _quota(quota: Quota) -> str:
    name = text(quota.counter)
    return guarded(
        "earlier", f"context.earlier has {name} && context.earlier[{name}] < {quota.most}"
    )


def _answered(rule: AnsweredFirst) -> str:
    reach = rule.within_days * DAY
    each = []
    for agency in map(text, rule.agencies):
        then = f"context.answered[{agency}]"
        each.append(
            f"context.answered has {agency} && {then} >= {AT} - {reach} && {then} <= {AT}"
        )
    return guarded("answered", " && ".join(each))


def _clause(clause: Clause) -> str:
    attribute = ATTRIBUTES[clause.attribute]
    return guarded(attribute.name, holds(attribute, clause))


def _encoded(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return micros(value) if isinstance(value, date) else value


