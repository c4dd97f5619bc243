"""Random requests near the edges of what an agreement permits; seeded and fast.

A request begins as one that the agreement should permit and has a few facts moved: over an edge,
onto it, to another word, to an unknown one, or away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any, Final

from policy.agreements import Agreement
from policy.clause_model import Clause, items_of, moment
from policy.clauses import compile_clause
from policy.facts import ATTRIBUTES, Attribute, Facts, Kind, Operator
from policy.standing import COUNTERS, Standing

AT: Final = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)
NOT_BEFORE: Final = datetime(2026, 1, 1, tzinfo=UTC)
NOT_AFTER: Final = datetime(2027, 1, 1, tzinfo=UTC)
AGENCIES: Final = ("custody", "passport", "pnd")
FORCES: Final = ("northshire", "southshire")
UNKNOWN_WORD: Final = "never-heard-of"
_TICK: Final = timedelta(microseconds=1)
TEXTS: Final = {
    "offence_code": ("theft", "robbery", "murder"),
    "officer_accreditation": ("facial-2025", "facial-2026"),
    "probe_model": ("model-1", "model-2"),
    "force": FORCES,
    "owner_decision": ("yes",),
}
_WORDS: Final = (
    *("the", "person", "seen", "in", "this", "image", "has"),
    *("not", "been", "named", "by", "any", "other", "means"),
)
_PEOPLE: Final = ("officer-1@northshire", " Officer-1@NORTHSHIRE ", "officer-2@northshire")


@dataclass(frozen=True, slots=True)
class Near:
    """Requests near what one agreement permits.

    ``lawful`` has values by fact that satisfy every clause on it, where any does, and ``edges``
    has values on both sides of each edge.
    """

    agreement: Agreement
    lawful: Mapping[str, Sequence[Any]]
    edges: Mapping[str, Sequence[Any]]
    instants: Sequence[datetime]

    def request(self, rng: Random) -> tuple[dict[str, Any], datetime]:
        """Return a request's facts, and the instant to decide it at."""
        stated = {name: rng.choice(values) for name, values in self.lawful.items()}
        gateway = rng.choice(self.agreement.gateways)
        if rng.random() < 0.7:  # or else a purpose the clauses like, with or without a gateway
            stated["purpose"] = gateway.purpose
        stated["legal_basis"] = rng.choice(gateway.accepted)
        at = AT
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3, 6))):
            name = rng.choice(_MOVED)
            if name == "at":
                at = rng.choice(self.instants)
            else:
                stated[name] = rng.choice(self.edges[name])
        standing = stated["standing"]
        if standing is not None and standing.switched_off and rng.random() < 0.3:
            # A switch may apply to what is not given: two rare things that matter together.
            stated[rng.choice(("purpose", "probe_model"))] = None
        return stated, at


_MOVED: Final = (*Facts.model_fields, "standing", "standing", "urgent", "urgent", "at")
"""What is moved, the more telling facts more often."""


def near(rng: Random, agreement: Agreement) -> Near:
    """Return what makes requests near an agreement."""
    clauses: dict[str, list[Clause]] = {name: [] for name in ATTRIBUTES}
    for clause in agreement.clauses:
        clauses[clause.attribute].append(clause)
    lawful: dict[str, Sequence[Any]] = {}
    edges: dict[str, Sequence[Any]] = {}
    for name in Facts.model_fields:
        if name == "standing":
            good = _standings(rng, agreement)
            lawful[name], edges[name] = good[:1], good
            continue
        attribute = ATTRIBUTES[name]
        values = list(dict.fromkeys(_values(rng, attribute, agreement, clauses)))
        tests = [compile_clause(clause).holds for clause in clauses[name]]
        allowed = [v for v in values if all(test and test(v, AT) for test in tests)]
        core = [v for v in allowed if _core_allows(name, v, agreement)]
        lawful[name] = core or allowed or values
        edges[name] = [*values, *values, None]
    lawful["urgent"] = [True, False] if agreement.urgent else lawful["urgent"]
    lawful["officer_id"], lawful["authoriser_id"] = _PEOPLE[:1], _PEOPLE[2:]
    days = [agreement.in_force.from_, agreement.in_force.to]
    documents = (agreement.documents.dpia, agreement.documents.appropriate_policy_document)
    days += [day for one in documents for day in (one.date, one.expires)]
    instants = [edge for day in days for edge in _around_day(day)]
    instants += [NOT_BEFORE, NOT_BEFORE - _TICK, NOT_AFTER, NOT_AFTER + _TICK]
    return Near(agreement, lawful, edges, instants)


def _core_allows(name: str, value: Any, agreement: Agreement) -> bool:
    """Whether the built-in clauses let a value pass, as far as one fact can say."""
    purposes = {gateway.purpose for gateway in agreement.gateways}
    forces = FORCES if agreement.forces == "all" else agreement.forces
    asks: dict[str, Callable[[Any], bool]] = {
        "purpose": lambda purpose: purpose in purposes,
        "schedule8_condition": lambda code: code in agreement.schedule8_conditions,
        "officer_accreditation_expires": lambda day: bool(day >= AT.date()),
        "authorised_at": lambda instant: bool(instant <= AT),
        "sealed": lambda sealed: sealed is True,
        "force": lambda force: force in forces,
    }
    words = value if isinstance(value, frozenset) else {value}
    return UNKNOWN_WORD not in words and (name not in asks or asks[name](value))


def _values(
    rng: Random, attribute: Attribute, agreement: Agreement, clauses: Mapping[str, list[Clause]]
) -> Iterator[Any]:
    """Yield values a request might state: words, known and not, and both sides of each edge."""
    name = attribute.name
    asked = [item for clause in clauses[name] for item in items_of(clause.value)]
    match attribute.kind:
        case Kind.CODE | Kind.CODES:
            yield from _words(rng, attribute, clauses[name])
        case Kind.BOOLEAN:
            yield from (True, False)
        case Kind.NUMBER:
            for bound in (*_whole(asked), 0, 50, 100):
                yield from (n for n in (bound - 1, bound, bound + 1) if 0 <= n <= 100)
        case Kind.DATE | Kind.INSTANT:
            yield from _times(attribute, [item for item in asked if item is not True])
        case Kind.TEXT if name in {"necessity", "proportionality"}:
            limits = [item for c in clauses[f"{name}_words"] for item in items_of(c.value)]
            for limit in (*_whole(limits), 9):
                yield from (" ".join(_WORDS[: max(1, n)]) for n in (limit - 1, limit, limit + 1))
        case Kind.TEXT if name in {"officer_id", "authoriser_id"}:
            yield from _PEOPLE
        case _:
            yield from (*TEXTS.get(name, ("EX/2026/1",)), "stranger", agreement.agency)


def _words(rng: Random, attribute: Attribute, clauses: Sequence[Clause]) -> Iterator[Any]:
    words = [*(attribute.vocabulary.codes if attribute.vocabulary else ()), UNKNOWN_WORD]
    if attribute.kind is Kind.CODE:
        yield from words
        return
    yield frozenset()
    for clause in clauses:
        if clause.value is not True:
            yield frozenset(map(str, items_of(clause.value)))
    for count in (1, 1, 2, 3, 4):
        yield frozenset(rng.sample(words, count))


def _whole(items: Sequence[Any]) -> list[int]:
    return [int(item) for item in items if isinstance(item, int | float)]


def _times(attribute: Attribute, asked: Sequence[Any]) -> Iterator[Any]:
    bounds = [AT, AT - timedelta(minutes=30), AT - timedelta(days=3), AT + timedelta(days=2)]
    for item in asked:
        one = moment(item)
        bounds += [one.start(AT), one.end(AT)]
    for bound in bounds:
        if attribute.kind is Kind.DATE:
            yield from (bound.date() + timedelta(days=n) for n in (-1, 0, 1))
        else:
            yield from (bound - _TICK, bound, bound + _TICK)


def _around_day(day: date) -> Iterator[datetime]:
    start = datetime.combine(day, time.min, UTC)
    for edge in (start, start + timedelta(days=1)):
        yield from (edge - _TICK, edge)


def _standings(rng: Random, agreement: Agreement) -> list[Standing | None]:
    """Return standings, one the agreement should permit first, then ones with a part moved."""
    fewest = dict.fromkeys(COUNTERS, 0)
    answered = {name: AT - timedelta(hours=1) for name in AGENCIES}
    reused = [
        item
        for clause in agreement.clauses
        if clause.attribute == "reasons_reused" and clause.operator is not Operator.LE
        for item in _whole(items_of(clause.value)[:1])
    ]
    good: dict[str, Any] = {
        "earlier_searches": {agreement.agency: fewest},
        "answered": answered,
        "unconfirmed_urgent": 0,
        "switched_off": frozenset(),
        "reasons_reused": max(reused, default=0),
    }
    moved: list[dict[str, Any]] = [{name: None} for name in tuple(good)[2:]]
    moved += [{"earlier_searches": {}}, {"answered": {}}, {"unconfirmed_urgent": 1}]
    moved += [{"reasons_reused": n} for n in range(4)]
    for quota in agreement.quotas:
        for count in (quota.most - 1, quota.most):
            moved.append({"earlier_searches": {agreement.agency: fewest | {quota.counter: count}}})
        fewer = {name: 0 for name in COUNTERS if name != quota.counter}
        moved.append({"earlier_searches": {agreement.agency: fewer}})
    for rule in agreement.answered_first:
        agency = rng.choice(rule.agencies)
        edge = AT - timedelta(days=rule.within_days)
        for then in (edge - _TICK, edge, AT, AT + _TICK):
            moved.append({"answered": answered | {agency: then}})
        moved.append({"answered": {a: t for a, t in answered.items() if a != agency}})
    switches = [
        f"agency:{agreement.agency}",
        "agency:elsewhere",
        *[f"force:{force}" for force in FORCES],
        *[f"matcher:{model}" for model in TEXTS["probe_model"]],
        *[f"purpose:{gateway.purpose}" for gateway in agreement.gateways],
    ]
    moved += [{"switched_off": frozenset(rng.sample(switches, n))} for n in (1, 1, 1, 2, 3)]
    return [*[Standing.model_validate(good | part) for part in ({}, *moved)], None]
