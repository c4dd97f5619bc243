"""The table answers as each clause by itself would, and less knowledge never permits more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from policy.agreements import AgreementFile, parse_agreement, read_folder
from policy.clauses import Verdict
from policy.decision import CompiledPolicy, Decision, compile_bundle
from policy.facts import Facts
from tests.policy_generator import (
    agreement_mapping,
    bundle_of,
    clause_mapping,
    scene,
    scene_of,
    yaml_of,
)
from tests.policy_requests import AT, FORCES
from tests.scale import scaled
from trust.errors import ProbegateError

EXAMPLES = Path(__file__).parents[2] / "policy" / "examples"
SEEDS = st.integers(0, 2**32)
SCENES = st.builds(lambda seed, count: scene(Random(seed), count), SEEDS, st.integers(1, 3))
EXAMPLE_SCENES = [scene_of(Random(1), (file,)) for file in read_folder(EXAMPLES)]
REQUESTS = 20
"""Requests tried on each scene."""


def asked_one_by_one(policy: CompiledPolicy, decision: Decision) -> bool:
    """Return the verdict that asking each clause's own test comes to, and compare each answer."""
    facts, at = decision.facts, decision.decided_at
    permitted = False
    for row in decision.rows:
        route = row.compiled.agreement.urgent
        hurried = route and facts.urgent is True and facts.purpose in route.purposes
        waived = set(route.waives) if route and hurried else set()
        holds = True
        for bit, clause in enumerate(row.compiled.clauses, row.first):
            verdict = clause.test(facts, at)
            assert decision.asked.of(bit) is verdict, clause.id
            holds &= verdict is Verdict.SATISFIED or clause.id in waived
        permitted |= holds
    assert {row.compiled for row in decision.rows} == set(
        policy.agreements(decision.agency, facts.force or "")
    )
    return permitted


@given(SCENES | st.sampled_from(EXAMPLE_SCENES), SEEDS)
@settings(max_examples=scaled(100, 3000), deadline=None)
def test_the_tables_verdict_of_every_clause_is_the_clauses_own(made: Any, seed: int) -> None:
    rng = Random(seed)
    for _ in range(REQUESTS):
        facts, at = made.request(rng)
        decision = made.policy.decide(facts, made.files[0].agreement.agency, at)
        assert asked_one_by_one(made.policy, decision) == decision.permitted
        shown = {(c.agreement_id, c.clause_id): c for c in decision.clauses}
        assert len(shown) == sum(len(row.compiled.clauses) for row in decision.rows)
        stood_in_the_way = {
            c.clause_id
            for c in shown.values()
            if c.verdict is not Verdict.SATISFIED and not c.waived
        }
        assert set(decision.failed) == (set() if decision.permitted else stood_in_the_way)


@given(SCENES, SEEDS)
@settings(max_examples=scaled(50, 1000), deadline=None)
def test_deciding_for_many_agencies_is_deciding_for_each(made: Any, seed: int) -> None:
    rng = Random(seed)
    agency = made.files[0].agreement.agency
    others = [scene(rng, 1) for _ in range(2)]
    files = {f.agreement.agency: f for one in others for f in one.files} | {agency: made.files[0]}
    policy = compile_bundle(bundle_of(tuple(files.values())))
    for _ in range(REQUESTS):
        facts, at = made.request(rng)
        agencies = [*files, "nobody"]
        together = policy.decide_each(facts, agencies, at)
        alone = tuple(policy.decide(facts, one, at) for one in agencies)
        assert together == alone
        assert [one.failed for one in together] == [one.failed for one in alone]
        assert [one.clauses for one in together] == [one.clauses for one in alone]


def without_each_part(facts: Facts) -> Iterator[tuple[str, Facts]]:
    """Yield the facts without each one of them, and without each part of what is on record."""
    stated = {name: getattr(facts, name) for name in Facts.model_fields}
    for name, value in stated.items():
        if value is not None:
            yield name, Facts.model_validate(stated | {name: None})
    if facts.standing is None:
        return
    standing = facts.standing.model_dump()
    for name, less in _without(standing):
        yield f"standing.{name}", Facts.model_validate(stated | {"standing": less})


def _without(mapping: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in mapping.items():
        yield name, {other: kept for other, kept in mapping.items() if other != name}
        if isinstance(value, Mapping):
            for inner, less in _without(value):
                yield f"{name}.{inner}", {**mapping, name: less}


@given(SCENES | st.sampled_from(EXAMPLE_SCENES), SEEDS)
@settings(max_examples=scaled(60, 2000), deadline=None)
def test_leaving_out_a_fact_or_a_part_of_the_record_never_permits_more(
    made: Any, seed: int
) -> None:
    rng = Random(seed)
    agency = made.files[0].agreement.agency
    for _ in range(5):
        facts, at = made.request(rng)
        before = made.policy.decide(facts, agency, at)
        for name, less in without_each_part(facts):
            after = made.policy.decide(less, agency, at)
            assert before.permitted or not after.permitted, name


@given(SEEDS)
@settings(max_examples=scaled(60, 2000), deadline=None)
def test_a_clause_more_never_permits_more(seed: int) -> None:
    rng = Random(seed)
    mapping = agreement_mapping(rng)
    more = deepcopy(mapping)
    more["clauses"].append(clause_mapping(rng, "more"))
    made, strict = (scene_of(rng, (read(one),)) for one in (mapping, more))
    for _ in range(REQUESTS):
        facts, at = made.request(rng)
        before, after = (one.policy.decide(facts, "custody", at) for one in (made, strict))
        assert before.permitted or not after.permitted
        assert set(before.failed) <= set(after.failed) or after.permitted


def read(mapping: Mapping[str, Any]) -> AgreementFile:
    return parse_agreement(yaml_of(mapping), "generated.yaml")


def mappings_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from mappings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from mappings_in(inner)


@given(SEEDS, st.from_regex(r"\A[a-z_]{1,12}\Z"))
@settings(max_examples=scaled(60, 2000), deadline=None)
def test_an_unknown_field_anywhere_in_an_agreement_refuses_it(seed: int, name: str) -> None:
    mapping = agreement_mapping(Random(seed), most_clauses=2)
    for number in range(len(list(mappings_in(mapping)))):
        changed = deepcopy(mapping)
        found = list(mappings_in(changed))[number]
        found[f"x_{name}"] = 1
        with pytest.raises(ProbegateError, match=f"field=[a-z0-9_.]*x_{name}"):
            read(changed)


@given(SCENES, SEEDS, st.from_regex(r"\A[a-z_]{1,12}\Z"))
@settings(max_examples=scaled(30, 500), deadline=None)
def test_an_unknown_field_in_a_request_or_its_record_is_refused(
    made: Any, seed: int, name: str
) -> None:
    facts, _ = made.request(Random(seed))
    stated = dict(facts)
    standing = facts.standing.model_dump() if facts.standing else {}
    for changed in (
        stated | {f"x_{name}": 1},
        stated | {"standing": standing | {f"x_{name}": 1}},
        stated | {"standing": standing | {"earlier_searches": {"custody": {f"x_{name}": 1}}}},
        stated | {"authoriser_independent": True},
        stated | {"necessity_words": 100},
        stated | {"reasons_reused": 0},
    ):
        with pytest.raises(ValidationError):
            Facts.model_validate(changed)


def test_a_fact_that_no_request_can_carry_is_indeterminate() -> None:
    mapping = agreement_mapping(Random(1)) | {"forces": "all"}
    clause = {"id": "owner", "citation": "c", "attribute": "owner_decision", "operator": "present"}
    mapping["clauses"] = [clause | {"value": True}]
    mapping.pop("urgent", None)
    made = scene_of(Random(1), (read(mapping),))
    facts, at = made.request(Random(1))
    decision = made.policy.decide(facts.model_copy(update={"force": FORCES[0]}), "custody", at)
    assert {c.verdict for c in decision.clauses if c.clause_id == "owner"} == {
        Verdict.INDETERMINATE
    }
    assert not decision.permitted


def test_the_order_of_the_agreements_changes_nothing() -> None:
    rng = Random(9)
    for _ in range(scaled(20, 200)):
        made = scene(rng, 3)
        turned = compile_bundle(bundle_of(made.files[::-1]))
        for _ in range(REQUESTS):
            facts, at = made.request(rng)
            agency = made.files[0].agreement.agency
            one, other = (p.decide(facts, agency, at) for p in (made.policy, turned))
            assert one == other
            assert one.clauses == other.clauses


def test_a_request_that_states_nothing_is_never_permitted() -> None:
    rng = Random(11)
    for made in (scene(rng, 2) for _ in range(scaled(10, 100))):
        for facts in (Facts(), Facts(force=FORCES[0]), Facts(force=FORCES[0], urgent=True)):
            assert not made.policy.decide(facts, made.files[0].agreement.agency, AT).permitted
