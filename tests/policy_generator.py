"""Random valid agreements, written as YAML and read by the real loader; seeded and fast.

For tests that compare two ways of deciding over very many pairs: any attribute, operator, quota,
prior answer and urgent route, and several agreements between the same parties.
``tests.policy_requests`` makes requests near the edges of what they permit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from random import Random
from typing import Any, Final

import yaml

from policy.agreements import Agreement, AgreementFile, parse_agreement
from policy.clause_model import moment
from policy.codes import REGISTRY
from policy.decision import Bundle, CompiledPolicy, PartyAgreement, compile_bundle
from policy.facts import ATTRIBUTES, Attribute, Facts, Kind, Operator
from policy.standing import Per, Window
from tests.policy_requests import AGENCIES, AT, FORCES, NOT_AFTER, NOT_BEFORE, TEXTS, Near, near

_RELATIVE: Final = ("", "-90m", "-24h", "-7d", "+1h", "+3d")
_NUMBERS: Final = {
    "probe_quality": (0, 30, 40, 40.5, 99, 100),
    "necessity_words": (0, 5, 8, 8.5),
    "proportionality_words": (0, 5, 8),
    "reasons_reused": (0, 1, 2),
}


def agreement_mapping(
    rng: Random, agreement_id: str = "one", agency: str = "custody", most_clauses: int = 10
) -> dict[str, Any]:
    """Return a valid agreement as YAML would give it; every part is optional or drawn."""
    purposes = rng.sample(sorted(REGISTRY["purpose"].codes), rng.randint(1, 3))
    bases = sorted(REGISTRY["legal_basis"].codes)
    clauses = [
        clause_mapping(rng, f"{agreement_id}.{n}") for n in range(rng.randint(1, most_clauses))
    ]
    mapping: dict[str, Any] = {
        "id": agreement_id,
        "version": rng.randint(1, 9),
        "title": "Generated",
        "notice": "Generated for a test; nobody agreed to it.",
        "agency": agency,
        "forces": rng.choice(["all", [FORCES[0]], list(FORCES)]),
        "in_force": {"from": _day(rng, -200, -1), "to": _day(rng, 0, 300)},
        "review_date": _day(rng, 0, 300),
        "documents": {
            name: {"title": "T", "date": _day(rng, -300, -1), "expires": _day(rng, 0, 300)}
            for name in ("dpia", "appropriate_policy_document")
        },
        "gateways": [
            {"purpose": purpose, "code": rng.choice(bases), "citation": "c"}
            | ({"requester_bases": rng.sample(bases, 2)} if rng.random() < 0.5 else {})
            for purpose in purposes
        ],
        "schedule8_conditions": rng.sample(sorted(REGISTRY["schedule8_condition"].codes), 3),
        "strictly_necessary": "Generated.",
        "clauses": clauses,
        "obligations": _obligations(rng),
    }
    if rng.random() < 0.5:
        mapping["quotas"] = [_quota(rng, f"quota.{n}") for n in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        mapping["answered_first"] = [
            {
                "id": f"answered.{n}",
                "citation": "c",
                "agencies": rng.sample(AGENCIES, rng.randint(1, 2)),
                "within_days": rng.choice([1, 7, 366]),
            }
            for n in range(rng.randint(1, 2))
        ]
    if rng.random() < 0.5:
        own = [*clauses, *mapping.get("quotas", []), *mapping.get("answered_first", [])]
        waived = rng.sample([one["id"] for one in own], rng.randint(1, min(3, len(own))))
        mapping["urgent"] = {
            "citation": "c",
            "purposes": rng.sample(
                gateways := [one["purpose"] for one in mapping["gateways"]],
                rng.randint(1, len(gateways)),
            ),
            "waives": waived,
            "confirm_within_hours": rng.randint(1, 168),
            "confirmer_rank": rng.choice(sorted(REGISTRY["rank"].scale)),
        }
    return mapping


def yaml_of(mapping: Mapping[str, Any]) -> bytes:
    """Return a mapping as the bytes of a YAML file."""
    return yaml.dump(dict(mapping), Dumper=_Dumper, sort_keys=False).encode()


class _Dumper(yaml.CSafeDumper):
    """Writes what occurs twice out twice: agreements may hold no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's signature
        return True


def _day(rng: Random, low: int, high: int) -> date:
    return AT.date() + timedelta(days=rng.choice([low, high, rng.randint(low, high)]))


def _obligations(rng: Random) -> dict[str, Any]:
    hit = rng.random() < 0.2
    fields = rng.sample(sorted(REGISTRY["disclosure_field"].codes), rng.randint(0, 3))
    return {
        "max_candidates": rng.randint(1, 10),
        "min_score": 0.4,
        "mode": rng.choice(sorted(REGISTRY["mode"].codes)),
        "hit_no_hit": hit,
        "release_by_human": rng.random() < 0.5,
        "reviewers": 2,
        "fields": [] if hit else fields,
        "retention_days": 14,
        "onward_transfer": rng.choice(sorted(REGISTRY["onward_transfer"].codes)),
        "caveats": [],
        "images": "never" if hit else rng.choice(sorted(REGISTRY["images"].codes)),
        "release_within_hours": rng.choice([1, 48, 720]),
    }


def _quota(rng: Random, quota_id: str) -> dict[str, Any]:
    return {
        "id": quota_id,
        "citation": "c",
        "per": rng.choice(list(Per)).value,
        "window": rng.choice(list(Window)).value,
        "most": rng.choice([1, 2, 10_000_000]),
    }


_CARRIED: Final = tuple(a for a in ATTRIBUTES.values() if a.carried)


def clause_mapping(rng: Random, clause_id: str) -> dict[str, Any]:
    """Return a valid clause as YAML would give it."""
    # A fact that nobody carries bars everything, so it is rare.
    attribute = ATTRIBUTES["owner_decision"] if rng.random() < 0.01 else rng.choice(_CARRIED)
    operator = rng.choice(sorted(attribute.operators))
    return {
        "id": clause_id,
        "citation": "c",
        "attribute": attribute.name,
        "operator": operator.value,
        "value": clause_value(rng, attribute, operator),
    }


def clause_value(rng: Random, attribute: Attribute, operator: Operator) -> Any:
    """Return a value that fits an operator over an attribute."""
    if operator is Operator.PRESENT:
        if attribute.kind is Kind.CODES and rng.random() < 0.5:
            return _some(rng, attribute, 2)
        return True
    if operator in {Operator.IN, Operator.SUBSET}:
        return _some(rng, attribute, 20)
    if operator is Operator.NOT_IN:
        return _some(rng, attribute, 3)
    if operator is not Operator.BETWEEN:
        return _one(rng, attribute)
    ends = [_one(rng, attribute), _one(rng, attribute)]
    if attribute.vocabulary is not None:
        ends.sort(key=attribute.vocabulary.scale.__getitem__)
    elif attribute.kind is Kind.NUMBER:
        ends.sort()
    elif rng.random() < 0.9:  # or else an interval in time that may be empty and permit nothing
        ends.sort(key=lambda end: moment(end).start(AT))
    return ends


def _some(rng: Random, attribute: Attribute, most: int) -> list[Any]:
    if attribute.kind is Kind.BOOLEAN:
        return rng.choice([[True], [False], [True, False]])
    words = sorted(attribute.vocabulary.codes) if attribute.vocabulary else TEXTS[attribute.name]
    return rng.sample(words, rng.randint(1, min(most, len(words))))


def _one(rng: Random, attribute: Attribute) -> Any:
    if attribute.vocabulary is not None:
        return rng.choice(sorted(attribute.vocabulary.scale))
    if attribute.kind is Kind.NUMBER:
        return rng.choice(_NUMBERS[attribute.name])
    if rng.random() < 0.5:
        return f"decided_at{rng.choice(_RELATIVE)}"
    return AT.date() + timedelta(days=rng.randint(-8, 8))


@dataclass(frozen=True, slots=True)
class Scene:
    """Agreements of one agency, decided together, and requests near any of them."""

    files: tuple[AgreementFile, ...]
    parties: tuple[PartyAgreement, ...]
    policy: CompiledPolicy
    nears: tuple[Near, ...]

    def request(self, rng: Random) -> tuple[Facts, datetime]:
        """Return a request near one of the agreements."""
        stated, at = rng.choice(self.nears).request(rng)
        return Facts.model_validate(stated), at


def scene(rng: Random, agreements: int, most_clauses: int = 10) -> Scene:
    """Return ``agreements`` agreements of one agency, read from YAML and compiled."""
    agency = rng.choice(AGENCIES)
    files = tuple(
        parse_agreement(
            yaml_of(agreement_mapping(rng, f"agreement-{n}", agency, most_clauses)), f"{n}.yaml"
        )
        for n in range(agreements)
    )
    return scene_of(rng, files)


def scene_of(rng: Random, files: tuple[AgreementFile, ...]) -> Scene:
    """Return a scene of given agreements."""
    bundle = bundle_of(files)
    nears = tuple(near(rng, file.agreement) for file in files)
    return Scene(files, bundle.agreements, compile_bundle(bundle), nears)


def bundle_of(files: Sequence[AgreementFile]) -> Bundle:
    """Return agreements as a bundle that every party signed."""
    return Bundle(
        set_id="generated",
        version=1,
        not_before=NOT_BEFORE,
        not_after=NOT_AFTER,
        sha256=b"s" * 32,
        agreements=tuple(PartyAgreement(file, _bound(file.agreement)) for file in files),
    )


def _bound(agreement: Agreement) -> frozenset[str]:
    return frozenset(FORCES if agreement.forces == "all" else agreement.forces)
