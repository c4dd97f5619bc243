"""Random damage to agreements, requests and records: named refusals, and nothing by accident.

Agreements are damaged as text and as what the text reads as; requests and records field by field.
What does not load is refused with a catalogued error that names file, line and field. What loads is
decided, and the decision is what asking every clause by itself comes to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from policy.agreements import Agreement, AgreementFile, parse_agreement
from policy.decision import CompiledPolicy, compile_bundle
from policy.facts import ATTRIBUTES, Facts
from policy.standing import Standing
from policy.yaml_source import parse_yaml
from tests.policy_generator import (
    Scene,
    agreement_mapping,
    bundle_of,
    clause_mapping,
    scene,
    yaml_of,
)
from tests.policy_oracle import clause_by_clause
from tests.policy_requests import AT
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

TEXTS = scaled(4_000, 60_000)
STRUCTURES = scaled(36_000, 500_000)
REQUESTS = scaled(110_000, 1_000_000)
RECORDS = scaled(50_000, 500_000)
assert TEXTS + STRUCTURES + REQUESTS + RECORDS >= 200_000

COMPLETE = (Path(__file__).parents[1] / "data" / "agreement.yaml").read_bytes()
FAR = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 40, 10**30, -(10**30), 0.5, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "x" * 5_000, "\u202e", "\x00", "1", "true", "nan", "core.sealed", "2026-01-01"),
    *("decided_at", "decided_at-99999d", "decided_at+99999d", "purpose", "all", "one.0"),
    *([], {}, [[]], [{}], {"a": 1}, ["x"], ["x", "x"], [None], list(range(300))),
    *(date.min, date.max, AT.date(), AT, AT.replace(tzinfo=None), AT + timedelta(days=1)),
    *(datetime.min.replace(tzinfo=FAR[0]), datetime.max.replace(tzinfo=FAR[1])),
    *(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
)
TOKENS = (
    *(b"&a ", b"*a", b"!!python/name:os.system ", b"<<: ", b"\t", b"---\n", b"? ", b"- ", b": "),
    *(b"{", b"}", b"[", b"]", b'"', b"'", b"#", b"|", b">", b"%", b"\xff", b"\x00", b"\r", b"\\"),
    *(b"\xe2\x80\xae", b"\xef\xbb\xbf", b"core.", b"~", b"null", b"0x7f", b"1e9", b"  ", b"@"),
)


def check_refusal(error: ProbegateError) -> None:
    assert error.reason is Reason.BUNDLE_INVALID
    assert error.metadata["file"] == "a.yaml"
    assert int(error.metadata["line"]) >= 1
    assert error.metadata["field"]
    assert error.line().isprintable()


@cache
def scenes() -> tuple[Scene, ...]:
    rng = Random(7)
    return tuple(scene(rng, 1 + number % 2, most_clauses=6) for number in range(40))


def check_decided(policy: CompiledPolicy, facts: Facts, agency: str, at: datetime) -> bool:
    decision = policy.decide(facts, agency, at)
    permitted, failed = clause_by_clause(policy, decision)
    assert decision.permitted is permitted
    assert set(decision.failed) == (set() if permitted else failed)
    assert not decision.unknown_obligations
    return permitted


def check_agreement(rng: Random, agreement: Agreement) -> bool:
    """Decide on an agreement that loaded, near another and on its own terms."""
    policy = compile_bundle(bundle_of([AgreementFile("a.yaml", b"", agreement)]))
    facts, at = rng.choice(scenes()).request(rng)
    gateway = rng.choice(agreement.gateways)
    condition = rng.choice(agreement.schedule8_conditions)
    update = {
        "purpose": gateway.purpose,
        "legal_basis": gateway.code,
        "schedule8_condition": condition,
    }
    nearer = facts.model_copy(update=update) if rng.random() < 0.5 else facts
    return check_decided(policy, nearer, agreement.agency, at)


def damaged_bytes(rng: Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw))
    length = rng.choice((1, 1, 1, 4, 40))
    piece = rng.choice(
        (b"", bytes([rng.randrange(256)]), rng.choice(TOKENS), raw[at : at + length])
    )
    keep = rng.choice((0, length))  # put in, or put in place of
    return raw[:at] + piece + raw[at + keep :]


def damaged_lines(rng: Random, raw: bytes) -> bytes:
    lines = raw.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[one]
        case 1:
            lines.insert(other, lines[one])
        case 2:
            lines[one], lines[other] = lines[other], lines[one]
        case 3:
            lines[one] = rng.choice((b" ", b"  ", b"    ")) + lines[one]
        case _:
            lines[one] = lines[one].split(b":")[0] + b": " + rng.choice(TOKENS) + b"\n"
    return b"".join(lines)


def damaged_fields(rng: Random, raw: bytes) -> bytes:
    lines = raw.splitlines(keepends=True)
    keyed = [number for number, line in enumerate(lines) if b": " in line]
    one, other = rng.choice(keyed), rng.choice(keyed)
    key, _, value = lines[one].partition(b": ")
    other_key, _, other_value = lines[other].partition(b": ")
    lines[one] = rng.choice(
        (key + b"_: " + value, other_key + b": " + value, key + b": " + other_value, b"x: 1\n")
    )
    return b"".join(lines)


def test_damaged_text_is_refused_with_its_place_or_decides_as_its_clauses_say() -> None:
    rng = Random(1)
    small = [yaml_of(agreement_mapping(rng, most_clauses=1)) for _ in range(40)]
    ways = (damaged_bytes, damaged_lines, damaged_fields)
    outcomes: Counter[str] = Counter()
    for number in range(TEXTS):
        raw = COMPLETE if number % 20 == 0 else rng.choice(small)
        for _ in range(rng.choice((1, 1, 2, 5))):
            raw = rng.choice(ways)(rng, raw) or b" "
        try:
            file = parse_agreement(raw, "a.yaml")
        except ProbegateError as error:
            check_refusal(error)
            outcomes["refused"] += 1
        else:
            outcomes["permitted" if check_agreement(rng, file.agreement) else "denied"] += 1
    assert outcomes.total() == TEXTS
    assert min(outcomes["refused"], outcomes["denied"]) > TEXTS // 20


FieldPath = tuple[str | int, ...]


def paths_in(value: Any, at: FieldPath = ()) -> Iterator[FieldPath]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, found in inner:
        yield (*at, name)
        if isinstance(found, dict | list):
            yield from paths_in(found, (*at, name))


def copied(value: Any) -> Any:
    """Return a deep copy of what YAML reads as; the library's own takes most of the test's time."""
    if isinstance(value, dict):
        return {name: copied(inner) for name, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list) else value


def damaged(rng: Random, mapping: dict[str, Any], odd: tuple[Any, ...] = ODD) -> dict[str, Any]:
    """Return a copy with something inside replaced, taken out, put in, moved or repeated."""
    changed: dict[str, Any] = copied(mapping)
    paths = list(paths_in(changed))
    if not paths:
        return {"x": rng.choice(odd)}
    *way, last = rng.choice(paths)
    parent: Any = changed
    for step in way:
        parent = parent[step]
    match rng.randrange(5):
        case 0:
            del parent[last]
        case 1:
            source: Any = mapping
            for step in rng.choice(paths):
                source = source[step]
            parent[last] = copied(source)
        case 2 if isinstance(parent, dict):
            parent[rng.choice(("x", "id", "value", "urgent", "waives", "most", "force"))] = 1
        case 2:
            parent.append(copied(parent[last]))
        case _:
            parent[last] = rng.choice(odd)
    return changed


def redrawn(rng: Random, mapping: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with one section drawn anew, which mostly loads."""
    changed: dict[str, Any] = copied(mapping)
    fresh = agreement_mapping(rng, most_clauses=4)
    name = rng.choice(sorted(mapping.keys() | fresh.keys()))
    if name == "clauses" and rng.random() < 0.7:
        index = rng.randrange(len(changed["clauses"]))
        changed["clauses"][index] = clause_mapping(rng, changed["clauses"][index]["id"])
    elif name in fresh and name != "agency":
        changed[name] = fresh[name]
    else:
        changed.pop(name, None)
    return changed


def test_a_damaged_structure_is_refused_with_its_place_or_decides_as_its_clauses_say() -> None:
    rng = Random(2)
    documents = [
        parse_yaml(yaml_of(agreement_mapping(rng, most_clauses=3)), "a.yaml") for _ in range(60)
    ]
    documents.append(parse_yaml(COMPLETE, "a.yaml"))
    originals = [document.data for document in documents]
    outcomes: Counter[str] = Counter()
    for _ in range(STRUCTURES):
        number = rng.randrange(len(documents))
        document = documents[number]
        way: Callable[[Random, dict[str, Any]], dict[str, Any]] = rng.choice((damaged, redrawn))
        document.data = way(rng, originals[number])
        try:
            agreement = document.validated(Agreement)
        except ProbegateError as error:
            check_refusal(error)
            outcomes["refused"] += 1
        else:
            outcomes["permitted" if check_agreement(rng, agreement) else "denied"] += 1
    assert outcomes.total() == STRUCTURES
    assert min(outcomes["refused"], outcomes["denied"]) > STRUCTURES // 20
    assert outcomes["permitted"]


def damaged_request(rng: Random, stated: dict[str, Any]) -> dict[str, Any]:
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        name = rng.choice(FIELDS)
        match rng.randrange(6):
            case 0:
                stated.pop(name, None)
            case 1:
                stated[name] = stated.get(rng.choice(FIELDS))
            case 2 if isinstance(stated.get(name), str):
                text = stated[name]
                stated[name] = rng.choice((text.upper(), f" {text}", text[:-1], text + "x"))
            case 3:
                stated[rng.choice(("x", "authoriser_independent", "owner_decision"))] = True
            case _:
                stated[name] = rng.choice(ODD)
    return stated


FIELDS = tuple(Facts.model_fields)


def facts_or_none(stated: Mapping[str, Any]) -> Facts | None:
    try:
        return Facts.model_validate(stated)
    except ValidationError:
        return None


def test_a_damaged_request_is_refused_or_decided_as_every_clause_says() -> None:
    rng = Random(3)
    outcomes: Counter[str] = Counter()
    for _ in range(REQUESTS):
        made = rng.choice(scenes())
        stated, at = rng.choice(made.nears).request(rng)
        facts = facts_or_none(damaged_request(rng, stated))
        if facts is None:
            outcomes["refused"] += 1
            continue
        permitted = check_decided(made.policy, facts, made.files[0].agreement.agency, at)
        outcomes["permitted" if permitted else "denied"] += 1
        # What is not a word of its vocabulary, or not given, is never permitted.
        assert not permitted or not (facts.unknown_words or facts.missing_words)
    assert outcomes.total() == REQUESTS
    assert min(outcomes["refused"], outcomes["denied"], outcomes["permitted"]) > REQUESTS // 50


def test_a_damaged_record_is_refused_or_decided_as_every_clause_says() -> None:
    rng = Random(4)
    odd = (*ODD, "agency:custody", ["agency:custody"], ["purpose:prosecution"], 9, 10_000_000)
    outcomes: Counter[str] = Counter()
    for _ in range(RECORDS):
        made = rng.choice(scenes())
        stated, at = rng.choice(made.nears).request(rng)
        record = stated["standing"] or Standing()
        stated["standing"] = damaged(rng, record.model_dump(), odd)
        facts = facts_or_none(stated)
        if facts is None:
            outcomes["refused"] += 1
            continue
        permitted = check_decided(made.policy, facts, made.files[0].agreement.agency, at)
        outcomes["permitted" if permitted else "denied"] += 1
    assert outcomes.total() == RECORDS
    assert min(outcomes["refused"], outcomes["denied"], outcomes["permitted"]) > RECORDS // 50


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_every_fact_may_be_anything(value: Any) -> None:
    made = scenes()[0]
    stated, at = made.nears[0].request(Random(5))
    for name in (*Facts.model_fields, *ATTRIBUTES):
        facts = facts_or_none(stated | {name: value})
        if facts is not None:
            check_decided(made.policy, facts, made.files[0].agreement.agency, at)
