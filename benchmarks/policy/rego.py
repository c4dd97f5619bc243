"""An agreement as a Rego module over the context that ``policy.cedar`` makes, for comparison only.

Each clause is a rule, and ``failed`` holds the ids of the clauses whose rule is not true; a missing
attribute makes a rule undefined, which is not true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from policy.agreements import Agreement
from policy.cedar_terms import DAY, micros
from policy.clause_model import Clause, Moment, items_of, moment
from policy.facts import ATTRIBUTES, CODED, Attribute, Kind, Operator

ENTRY: Final = "data.probegate.failed"
_AT: Final = "input.decided_at"
_HEAD: Final = """\
package probegate
import rego.v1
off_force if { count(input.off.force) == 0 }
off_force if { input.force != null; not input.force in input.off.force }
off_matcher if { count(input.off.matcher) == 0 }
off_matcher if { input.probe_model != null; not input.probe_model in input.off.matcher }
off_purpose if { count(input.off.purpose) == 0 }
off_purpose if { input.purpose != null; not input.purpose in input.off.purpose }
"""


def to_rego(agreement: Agreement, not_before: datetime, not_after: datetime) -> str:
    """Return the module; the force is not checked, for only its own agreements are asked."""
    route = agreement.urgent
    waived = set(route.waives) if route else set()
    hurried = f"input.urgent == true; input.purpose in {_set(route.purposes)}" if route else ""
    parts = [_HEAD]
    for number, (clause_id, bodies) in enumerate(_clauses(agreement, not_before, not_after)):
        parts.append(f"failed contains {json.dumps(clause_id)} if not c{number}\n")
        ways = [*bodies, hurried] if clause_id in waived else bodies
        parts += [f"c{number} if {{ {body} }}\n" for body in ways]
    return "".join(parts)


def _clauses(
    agreement: Agreement, not_before: datetime, not_after: datetime
) -> Iterator[tuple[str, list[str]]]:
    """Yield each clause's id and the bodies of which one must be true."""
    documents = (agreement.documents.dpia, agreement.documents.appropriate_policy_document)
    yield "core.in-force", [_days(agreement.in_force.from_, agreement.in_force.to)]
    yield "core.bundle-current", [f"{_AT} >= {micros(not_before)}; {_AT} <= {micros(not_after)}"]
    yield "core.documents-current", ["; ".join(_days(one.date, one.expires) for one in documents)]
    yield (
        "core.gateway-for-purpose",
        [
            f"input.purpose == {json.dumps(one.purpose)}; input.legal_basis in {_set(one.accepted)}"
            for one in agreement.gateways
        ],
    )
    conditions = _set(agreement.schedule8_conditions)
    yield "core.schedule8-condition", [f"input.schedule8_condition in {conditions}"]
    agency = json.dumps(agreement.agency)
    switches = f"not {agency} in input.off.agency; off_force; off_matcher; off_purpose"
    yield "core.not-switched-off", [f"input.off != null; {switches}"]
    yield "core.known-codes", ["; ".join(_known(attribute) for attribute in CODED)]
    yield "core.case-reference", ["input.case_reference != null"]
    yield "core.strictly-necessary", ["input.necessity != null"]
    yield "core.proportionate", ["input.proportionality != null"]
    yield "core.authoriser-independent", ["input.authoriser_independent == true"]
    yield "core.accredited", ["input.officer_accreditation != null"]
    expires = f"input.officer_accreditation_expires + {DAY} > {_AT}"
    yield "core.accreditation-current", [expires]
    yield "core.order-in-time", [f"input.authorised_at <= {_AT}"]
    yield "core.sealed", ["input.sealed == true"]
    yield "core.urgent-confirmed", ["input.unconfirmed_urgent == 0"]
    for clause in agreement.clauses:
        yield clause.id, [_holds(clause)]
    for quota in agreement.quotas:
        yield quota.id, [f"input.earlier[{json.dumps(quota.counter)}] < {quota.most}"]
    for rule in agreement.answered_first:
        since = f"{_AT} - {rule.within_days * DAY}"
        then = [f"input.answered[{json.dumps(agency)}]" for agency in rule.agencies]
        yield rule.id, ["; ".join(f"{one} >= {since}; {one} <= {_AT}" for one in then)]


def _days(first: Any, last: Any) -> str:
    return f"{_AT} >= {micros(first)}; {_AT} < {micros(last) + DAY}"


def _set(items: Iterable[Any]) -> str:
    return "{" + ", ".join(json.dumps(item) for item in items) + "}"


def _only(actual: str, allowed: Iterable[Any]) -> str:
    return f"{actual} != null; every x in {actual} {{ x in {_set(allowed)} }}"


def _known(attribute: Attribute) -> str:
    words = attribute.vocabulary.codes if attribute.vocabulary else ()
    actual = f"input.{attribute.name}"
    return _only(actual, words) if attribute.kind is Kind.CODES else f"{actual} in {_set(words)}"


def _holds(clause: Clause) -> str:
    attribute = ATTRIBUTES[clause.attribute]
    actual = f"input.{attribute.name}"
    items = items_of(clause.value)
    words = tuple(attribute.vocabulary.codes) if attribute.vocabulary else ()
    if clause.operator is Operator.PRESENT:
        given = f"{actual} != null"
        return given if clause.value is True else f"{given}; {_every(items, actual)}"
    if attribute.kind is Kind.CODES:
        barred = items if clause.operator is Operator.NOT_IN else ()
        return _only(actual, [word for word in words if word not in barred] if barred else items)
    if clause.operator in {Operator.IN, Operator.NOT_IN}:
        given = _known(attribute) if words else f"{actual} != null"
        negated = "" if clause.operator is Operator.IN else "not "
        return f"{given}; {negated}{actual} in {_set(items)}"
    return _in_order(clause, attribute, actual)


def _every(items: Iterable[Any], actual: str) -> str:
    return f"every x in {_set(items)} {{ x in {actual} }}"


def _in_order(clause: Clause, attribute: Attribute, actual: str) -> str:
    """Return a comparison, of the kinds that the examples use."""
    (value,) = items_of(clause.value)
    match clause.operator:
        case Operator.GE if attribute.vocabulary is not None:
            scale = attribute.vocabulary.scale
            enough = [word for word in scale if scale[word] >= scale[str(value)]]
            return f"{actual} in {_set(enough)}"
        case Operator.GE if isinstance(value, int | float):
            return f"{actual} >= {math.ceil(value)}"
        case Operator.LE if isinstance(value, int | float):
            return f"{actual} <= {math.floor(value)}"
        case Operator.AFTER if attribute.kind is Kind.INSTANT:
            return f"{actual} > {_moment(moment(value))}"
        case _:
            raise NotImplementedError(f"{clause.operator} over {attribute.name}")


def _moment(one: Moment) -> str:
    if one.day is not None:
        return str(micros(one.day) + DAY - 1)
    return f"{_AT} + {one.offset // timedelta(microseconds=1)}"
