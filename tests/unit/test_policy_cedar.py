"""Two readings of the rules, our own and Cedar's, agree on very many agreements and requests.

Cedar decides on policies that ``policy.cedar`` writes from the same models without any code of the
decision, one policy set for each agreement. Both the verdict and the set of clauses that stand in
the way are compared; a clause that our decision calls indeterminate is one that Cedar forbids on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import cedarpy
import pytest

from policy import explain
from policy.agreements import read_folder
from policy.cedar import PERMIT_ID, CedarAgreement, permits, to_cedar
from policy.decision import Decision, PartyAgreement, urgent_for
from policy.facts import ATTRIBUTES, Facts
from policy.table import Row
from tests.policy_generator import Scene, scene, scene_of
from tests.policy_requests import AT, NOT_AFTER, NOT_BEFORE
from tests.scale import scaled

EXAMPLES = Path(__file__).parents[2] / "policy" / "examples"
SCENES = scaled(252, 2_520)
"""Each of one, two or three agreements in turn, so twice as many agreements."""
REQUESTS = 200
"""Requests near each scene's agreements; each is asked of every agreement of the scene."""
PER_SCHEMA = 5
"""Of how many requests of a scene Cedar also checks the context against the schema."""
NO_ENTITIES = cedarpy.Entities.from_json_str("[]")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one reading says of one agreement: its verdict, and what stands in the way."""

    permitted: bool
    failed: frozenset[str]


def cedar_of(party: PartyAgreement) -> CedarAgreement:
    return to_cedar(party.file.agreement, party.forces, NOT_BEFORE, NOT_AFTER)


def cedar_answers(
    compiled: CedarAgreement, requests: Sequence[tuple[Facts, datetime]]
) -> list[Answer]:
    """Ask Cedar, the first few with the schema; the parsed policies are used for all."""
    policies = cedarpy.PolicySet.from_str(compiled.policies)
    schema = cedarpy.Schema.from_str(compiled.schema)
    asked = [compiled.request(facts, at) for facts, at in requests]
    results = [
        *cedarpy.is_authorized_batch(asked[:PER_SCHEMA], policies, NO_ENTITIES, schema),
        *cedarpy.is_authorized_batch(asked[PER_SCHEMA:], policies, NO_ENTITIES),
    ]
    return [_answer(result) for result in results]


def _answer(result: cedarpy.AuthzResult) -> Answer:
    assert not result.diagnostics.errors  # every read is guarded
    decision = str(result.decision.value)
    permitted = permits(decision, result.diagnostics.errors)
    failed = frozenset(result.diagnostics.id_annotations_by_reason.values()) - {PERMIT_ID}
    return Answer(permitted, failed)


def own_answer(decision: Decision, row: Row) -> Answer:
    """Return what our decision says of one of the agreements; what is waived has not failed."""
    hurried = urgent_for(decision.facts) in row.urgent_for
    needed = row.needs_when_urgent if hurried else row.needs
    unmet = needed & ~decision.asked.satisfied
    clauses = enumerate(row.compiled.clauses, row.first)
    failed = frozenset(clause.id for bit, clause in clauses if unmet >> bit & 1)
    return Answer(not failed, failed)


def compared(made: Scene, requests: Sequence[tuple[Facts, datetime]]) -> Iterator[Answer]:
    """Yield Cedar's answer for each pair of an agreement and a request, once ours is the same."""
    agency = made.files[0].agreement.agency
    decisions = [made.policy.decide(facts, agency, at) for facts, at in requests]
    permitted = [False] * len(requests)
    for party in made.parties:
        agreement_id = party.file.agreement.id
        theirs = cedar_answers(cedar_of(party), requests)
        for number, (decision, answer) in enumerate(zip(decisions, theirs, strict=True)):
            rows = [r for r in decision.rows if r.compiled.agreement.id == agreement_id]
            if decision.facts.force not in party.forces:
                assert not rows, agreement_id
                assert not answer.permitted, difference(decision, party, answer, None)
                yield answer
                continue
            ours = own_answer(decision, rows[0])
            assert ours == answer, difference(decision, party, answer, ours)
            permitted[number] |= answer.permitted
            yield answer
    for decision, allowed in zip(decisions, permitted, strict=True):
        assert decision.permitted == allowed, explain.lines(decision)


def difference(
    decision: Decision, party: PartyAgreement, theirs: Answer, ours: Answer | None
) -> str:
    """Return all that a reader needs to see which of the two is wrong."""
    odd = theirs.failed ^ (ours.failed if ours else frozenset())
    failed = sorted(ours.failed) if ours else "(it does not bind the force)"
    compiled = cedar_of(party)
    policies = [p for p in compiled.policies.split("\n\n") if any(f'"{o}"' in p for o in odd)]
    facts = [f"  {name}: {value}" for name, value in decision.facts if value is not None]
    return "\n".join(
        [
            f"The two readings differ on agreement {party.file.agreement.id}.",
            f"Cedar: {'permit' if theirs.permitted else 'deny'}, failed {sorted(theirs.failed)}",
            f"ours: {'permit' if ours and ours.permitted else 'deny'}, failed {failed}",
            f"decided at {decision.decided_at}",
            *["facts:", *facts],
            *["policies that differ:", *policies],
            *["agreement:", party.file.raw.decode()],
        ]
    )


def test_both_readings_agree_on_every_generated_pair() -> None:
    rng = Random(20_261_123)
    pairs: Counter[bool] = Counter()
    failed: Counter[str] = Counter()
    for number in range(SCENES):
        made = scene(rng, 1 + number % 3)
        asked = [made.request(rng) for _ in range(REQUESTS)]
        for answer in compared(made, asked):
            pairs[answer.permitted] += 1
            failed.update(answer.failed)
    assert pairs.total() >= scaled(100_000, 1_000_000)
    assert min(pairs[True], pairs[False]) > pairs.total() // 10
    core = {one for one in failed if one.startswith("core.")}
    assert len(core) == 16, sorted(core)  # every built-in clause was failed by some request


@pytest.mark.parametrize("file", read_folder(EXAMPLES), ids=lambda file: file.agreement.agency)
def test_both_readings_agree_on_the_examples(file: Any) -> None:
    rng = Random(file.agreement.id)
    made = scene_of(rng, (file,))
    pairs = list(compared(made, [made.request(rng) for _ in range(REQUESTS)]))
    assert any(answer.failed for answer in pairs)


def test_every_policy_is_valid_under_its_schema_and_has_every_clause_once() -> None:
    rng = Random(1)
    for number in range(scaled(60, 600)):
        made = scene(rng, 1 + number % 3, most_clauses=20)
        for party in made.parties:
            compiled = cedar_of(party)
            checked = cedarpy.validate_policies(compiled.policies, compiled.schema)
            assert checked.validation_passed, checked.errors
            (rows,) = [
                c
                for c in made.policy.agreements(party.file.agreement.agency, min(party.forces))
                if c.agreement.id == party.file.agreement.id
            ]
            ids = [clause.id for clause in rows.clauses]
            assert sorted(compiled.clause_ids) == sorted(ids)


UNGUARDED = '@id("one") forbid (principal, action, resource) unless { context.sealed };'
PERMIT = "permit (principal, action, resource);"


def test_without_its_guard_a_missing_fact_would_be_a_permission_and_with_it_is_a_denial() -> None:
    request = scene(Random(3), 1)
    compiled = cedar_of(request.parties[0])
    asked = compiled.request(Facts(), AT)
    assert "sealed" not in asked["context"]

    # Cedar skips the policy that errors, and what is left permits.
    naive = cedarpy.is_authorized(asked, PERMIT + UNGUARDED, NO_ENTITIES)
    assert naive.decision is cedarpy.Decision.Allow
    assert naive.diagnostics.errors
    # First guard: an answer with an error is no permission.
    assert not permits(str(naive.decision.value), naive.diagnostics.errors)
    # Second: the validator refuses such a policy.
    assert not cedarpy.validate_policies(UNGUARDED, compiled.schema).validation_passed
    # Third: the policies that are written ask first whether the fact is there.
    guarded = UNGUARDED.replace("{ context.sealed }", "{ context has sealed && context.sealed }")
    assert guarded.split("unless")[1] in compiled.policies.replace("\nunless", " unless")
    answer = cedarpy.is_authorized(asked, PERMIT + guarded, NO_ENTITIES)
    assert answer.decision is cedarpy.Decision.Deny
    assert not answer.diagnostics.errors


@pytest.mark.parametrize("name", sorted(Facts.model_fields))
def test_no_fact_that_is_left_out_makes_cedar_err_or_permit_more(name: str) -> None:
    rng = Random(name)
    for _ in range(scaled(5, 50)):
        made = scene(rng, 1)
        asked = [made.nears[0].request(rng) for _ in range(20)]
        full = [(Facts.model_validate(stated), at) for stated, at in asked]
        less = [(Facts.model_validate(stated | {name: None}), at) for stated, at in asked]
        compiled = cedar_of(made.parties[0])
        for before, after in zip(
            cedar_answers(compiled, full), cedar_answers(compiled, less), strict=True
        ):
            assert before.permitted or not after.permitted


def test_nothing_personal_is_in_a_context() -> None:
    secret = "Zebedee-Personal"
    personal = {name: secret for name, a in ATTRIBUTES.items() if a.personal}
    compiled = cedar_of(scene(Random(5), 1).parties[0])
    context = compiled.context(Facts.model_validate(personal), AT)
    assert context["necessity"] == "given"
    assert secret not in str(context)


def test_an_error_or_anything_but_allow_is_no_permission() -> None:
    assert permits("Allow", [])
    for decision, errors in (("Allow", ["e"]), ("Deny", []), ("NoDecision", []), ("allow", [])):
        assert not permits(decision, errors)
