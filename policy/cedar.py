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
4. A context holds what the agreement reads and no more, and nothing personal: of a personal fact it
   says only that it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from policy.agreements import Agreement, AnsweredFirst, Quota, UrgentRoute
from policy.cedar_terms import AT, DAY, guarded, holds, known, micros, set_of, text
from policy.clause_model import DECIDED_AT, Clause
from policy.facts import ATTRIBUTES, CODED, Facts, Kind
from policy.standing import COUNTERS, Standing, SwitchKind

PERMIT_ID: Final = "(permit)"
"""The id of the base permit; no clause can have it."""
ACTION: Final = 'Action::"search"'

_GIVEN: Final = "given"
_READ: Final = re.compile(r"context has (\w+)")
"""Finds all that may be missing and is read (3)."""
_SCHEMA: Final = """\
entity Force;
entity Agency;
action search appliesTo {
  principal: Force,
  resource: Agency,
  context: {
    FIELDS
  }
};
"""
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
    """One agreement's policy set and schema, as text.

    ``answering`` are the agencies that it wants to have answered first, ``reads`` the parts of a
    context that it reads, and ``clause_ids`` the ids of its ``forbid`` policies, in their order.
    """

    policies: str
    schema: str
    agency: str
    answering: tuple[str, ...]
    reads: frozenset[str]
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
        """Return what is known of a request as JSON values; what is missing is left out (4)."""
        context: dict[str, Any] = {DECIDED_AT: micros(at)}
        values = facts.values
        asked = self.reads & ATTRIBUTES.keys()
        known = {name: value for name in asked if (value := values[name]) is not None}
        for name, value in known.items():
            context[name] = _GIVEN if ATTRIBUTES[name].personal else _encoded(value)
        if facts.standing is not None:
            context |= self._on_record(facts.standing)
        return context

    def _on_record(self, standing: Standing) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "earlier" in self.reads:
            found["earlier"] = dict(standing.earlier_searches.get(self.agency, {}))
        if self.answering:
            found["answered"] = {
                agency: micros(standing.answered[agency])
                for agency in self.answering
                if agency in standing.answered
            }
        if standing.unconfirmed_urgent is not None:
            found["unconfirmed_urgent"] = standing.unconfirmed_urgent
        if standing.switched_off is not None:
            off = [switch.split(":", 1) for switch in sorted(standing.switched_off)]
            found["off"] = {kind: [n for k, n in off if k == kind] for kind in SwitchKind}
        return found


def permits(decision: str, errors: Sequence[str]) -> bool:
    """Whether Cedar's answer is a permission: an ``Allow`` that came without any error (3)."""
    return decision == "Allow" and not errors


def _urgent(route: UrgentRoute | None) -> str:
    """Return the condition that an urgent route is open."""
    purposes = ", ".join(text(purpose) for purpose in route.purposes) if route else ""
    open_to = guarded("purpose", f"[{purposes}].contains(context.purpose)")
    return f"({guarded('urgent', 'context.urgent')}) && ({open_to})"


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
    parties = f"[{', '.join(bound)}].contains(principal)" if bound else "false"
    policies = [
        _policy(
            PERMIT_ID,
            f"permit (principal, action == {ACTION}, resource == Agency::{text(agreement.agency)})",
            f"when {{ {parties} }}",
        )
    ]
    for clause_id, condition in clauses:
        asked = f"({_urgent(route)}) || ({condition})" if clause_id in waived else condition
        policies.append(
            _policy(clause_id, "forbid (principal, action, resource)", f"unless {{ {asked} }}")
        )
    written = "\n".join(policies)
    return CedarAgreement(
        policies=written,
        schema=_schema(answering),
        agency=agreement.agency,
        answering=tuple(answering),
        reads=frozenset(_READ.findall(written)),
        clause_ids=tuple(clause_id for clause_id, _ in clauses),
    )


def _policy(policy_id: str, effect: str, condition: str) -> str:
    return f"@id({text(policy_id)})\n{effect}\n{condition};\n"


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
    return _SCHEMA.replace("FIELDS", ",\n    ".join(fields))


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
        guarded("purpose", guarded("legal_basis", _gateway(agreement))),
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


def _gateway(agreement: Agreement) -> str:
    each = [
        f"(context.purpose == {text(gateway.purpose)} && "
        f"{set_of((gateway.code, *gateway.requester_bases))}.contains(context.legal_basis))"
        for gateway in agreement.gateways
    ]
    return f"({' || '.join(each)})"


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
        each.append(f"context.answered has {agency} && {then} >= {AT} - {reach} && {then} <= {AT}")
    return guarded("answered", " && ".join(each))


def _clause(clause: Clause) -> str:
    attribute = ATTRIBUTES[clause.attribute]
    return guarded(attribute.name, holds(attribute, clause))


def _encoded(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return micros(value) if isinstance(value, date) else value
