"""Four ways to decide for six agencies on the same agreements, each ready before it is measured.

Every engine answers for each agency whether the search may go there and which clauses stand in the
way, over all agreements between the two. What can be prepared is: parsed policies, compiled plans,
and for Cedar and Rego each request's context as the values they take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cedarpy
import regopy

from benchmarks.policy.rego import ENTRY, to_rego
from benchmarks.policy.world import AGENCIES, AT, FORCE
from policy.cedar import PERMIT_ID, CedarAgreement, permits, to_cedar
from policy.clauses import SATISFIED
from policy.decision import Bundle, CompiledPolicy, compile_bundle, urgent_for
from policy.facts import Facts

Answer = tuple[bool, frozenset[str]]
"""Whether one agency is permitted, and else all that stands in the way."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A way to decide: ``prepare`` is not measured, ``decide`` is."""

    name: str
    prepare: Callable[[Facts], Any]
    decide: Callable[[Any], Any]
    read: Callable[[Any], dict[str, Answer]]


def engines(bundle: Bundle, *, rego: bool = True) -> list[Engine]:
    """Return every engine on one bundle, ours first."""
    policy = compile_bundle(bundle)
    cedar = [
        to_cedar(p.file.agreement, p.forces, bundle.not_before, bundle.not_after)
        for p in bundle.agreements
    ]
    found = [_ours(policy), _ours_again(policy), _naive(policy), _cedar(cedar)]
    return [*found, _rego(bundle, cedar)] if rego else found


def _ours(policy: CompiledPolicy) -> Engine:
    def read(decisions: Any) -> dict[str, Answer]:
        return {one.agency: (one.permitted, frozenset(one.failed)) for one in decisions}

    return Engine(
        "probegate",
        lambda facts: facts,
        lambda facts: policy.decide_each(facts, AGENCIES, AT),
        read,
    )


def _ours_again(policy: CompiledPolicy) -> Engine:
    """The same on facts that were read before: the decisions alone."""

    def prepare(facts: Facts) -> Facts:
        policy.decide_each(facts, AGENCIES, AT)
        return facts

    return replace(_ours(policy), name="decisions alone", prepare=prepare)


def _naive(policy: CompiledPolicy) -> Engine:
    """Ask each clause of each agreement by itself, with the same closures."""
    asked = [(agency, policy.agreements(agency, FORCE)) for agency in AGENCIES]

    def decide(facts: Facts) -> dict[str, list[list[str]]]:
        urgent = urgent_for(facts)
        found = {}
        for agency, agreements in asked:
            failed = []
            for compiled in agreements:
                route = compiled.agreement.urgent
                waived = route.waives if route is not None and urgent in route.purposes else ()
                failed.append(
                    [
                        clause.id
                        for clause in compiled.clauses
                        if clause.test(facts, AT) is not SATISFIED and clause.id not in waived
                    ]
                )
            found[agency] = failed
        return found

    def read(found: Any) -> dict[str, Answer]:
        return {agency: _joined(each) for agency, each in found.items()}

    return Engine("clause by clause", lambda facts: facts, decide, read)


def _joined(each: Sequence[Sequence[str]]) -> Answer:
    permitted = not all(each)
    return permitted, frozenset() if permitted else frozenset(one for some in each for one in some)


def _cedar(compiled: Sequence[CedarAgreement]) -> Engine:
    handles = [cedarpy.PolicySet.from_str(one.policies) for one in compiled]
    entities = cedarpy.Entities.from_json_str("[]")

    def decide(requests: list[dict[str, Any]]) -> list[Any]:
        return [
            cedarpy.is_authorized(request, handle, entities)
            for request, handle in zip(requests, handles, strict=True)
        ]

    def read(results: Any) -> dict[str, Answer]:
        found: dict[str, list[list[str]]] = {agency: [] for agency in AGENCIES}
        for one, result in zip(compiled, results, strict=True):
            ids = set(result.diagnostics.id_annotations_by_reason.values()) - {PERMIT_ID}
            allowed = permits(str(result.decision.value), result.diagnostics.errors)
            if allowed is bool(ids):
                raise RuntimeError("a denial without a clause, or a permit with one")
            found[one.agency].append(sorted(ids))
        return {agency: _joined(each) for agency, each in found.items()}

    return Engine(
        "cedarpy", lambda facts: [one.request(facts, AT) for one in compiled], decide, read
    )


def _rego(bundle: Bundle, compiled: Sequence[CedarAgreement]) -> Engine:
    plans = []
    for party in bundle.agreements:
        interpreter = regopy.Interpreter()
        source = to_rego(party.file.agreement, bundle.not_before, bundle.not_after)
        interpreter.add_module("agreement.rego", source)
        plans.append((interpreter, interpreter.build(ENTRY)))

    def decide(contexts: list[dict[str, Any]]) -> list[list[str]]:
        found = []
        for (interpreter, plan), context in zip(plans, contexts, strict=True):
            interpreter.set_input(regopy.Input(context))
            found.append(interpreter.query_bundle(plan).results[0].expressions[0])
        return found

    def read(results: Any) -> dict[str, Answer]:
        found: dict[str, list[list[str]]] = {agency: [] for agency in AGENCIES}
        for one, failed in zip(compiled, results, strict=True):
            found[one.agency].append(failed)
        return {agency: _joined(each) for agency, each in found.items()}

    return Engine(
        "regopy", lambda facts: [one.context(facts, AT) for one in compiled], decide, read
    )


VERSIONS: Final = ("cedarpy", "regopy")
"""The packages whose versions belong to the figures."""
