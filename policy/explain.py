"""A decision in words and as JSON: every clause, what it asked, what it found, and its citation.

Personal values never appear: ``ClauseVerdict.actual`` is redacted where the attribute is personal,
and nothing else here reads the facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from policy.agreements import Obligations
from policy.clauses import Verdict
from policy.decision import ClauseVerdict, Decision, DecisionCode

_REASONS: Final = {
    DecisionCode.PERMITTED: "every clause of agreement {agreement} is satisfied",
    DecisionCode.NO_AGREEMENT: "no agreement binds this force and {agency}",
    DecisionCode.AGREEMENT_EXPIRED: "no agreement with {agency} is in force at this time",
    DecisionCode.CLAUSES_FAILED: "no agreement in force has every clause satisfied",
    DecisionCode.OBLIGATION_UNKNOWN: "the enforcer cannot carry out: {unknown}",
}
_MARKS: Final = {
    Verdict.SATISFIED: "satisfied",
    Verdict.VIOLATED: "VIOLATED",
    Verdict.INDETERMINATE: "INDETERMINATE",
}
_WORDS: Final = {
    "in": "one of",
    "not_in": "none of",
    "ge": "at least",
    "le": "at most",
    "between": "between",
    "subset": "only from",
    "before": "before",
    "after": "after",
    "present": "present",
}


def headline(decision: Decision) -> str:
    """Return the decision in one sentence."""
    reason = _REASONS[decision.code].format(
        agency=decision.agency,
        agreement=f"{decision.agreement_id} version {decision.agreement_version}",
        unknown=", ".join(decision.unknown_obligations),
    )
    return f"{decision.agency}: {decision.verdict.value.upper()} ({decision.code.value}): {reason}."


def sentence(clause: ClauseVerdict) -> str:
    """Return what a clause asked and found, without its verdict."""
    asked = _WORDS.get(clause.operator, clause.operator)
    required = "" if clause.operator == "present" and clause.required == "true" else clause.required
    found = "missing" if clause.actual is None else clause.actual
    return f"{clause.attribute} must be {' '.join(filter(None, (asked, required)))}; it is {found}"


def obligation_lines(obligations: Obligations) -> Iterator[str]:
    """Yield what a permission obliges its user to, a line each."""
    yield f"at most {obligations.max_candidates} candidates, score {obligations.min_score} or more"
    yield f"mode {obligations.mode}; {obligations.reviewers} reviewers, each blind to the other"
    if obligations.target_fpir is not None:
        yield f"false positive identification rate of at most {obligations.target_fpir}"
    if obligations.hit_no_hit:
        yield "hit or no hit only"
    if obligations.release_by_human:
        yield "released by a person at the agency"
    yield f"fields that may be disclosed: {', '.join(obligations.fields) or 'none'}"
    yield f"images of candidates: {obligations.images.replace('_', ' ')}"
    yield f"details released or refused within {obligations.release_within_hours} hours"
    yield f"kept at most {obligations.retention_days} days; onward: {obligations.onward_transfer}"
    yield from obligations.caveats


def lines(decision: Decision) -> list[str]:
    """Return the explanation as plain text lines, unsatisfied clauses first in each agreement."""
    text = [headline(decision)]
    for agreement, clauses in groupby(decision.clauses, key=lambda clause: clause.agreement_id):
        text += ["", f"Agreement {agreement}"]
        ordered = sorted(clauses, key=lambda clause: clause.verdict is Verdict.SATISFIED)
        for clause in ordered:
            text += [
                f"  {'waived' if clause.waived else _MARKS[clause.verdict]}: {clause.clause_id}",
                f"    {sentence(clause)}.",
                f"    {clause.citation}",
            ]
    if decision.obligations is not None:
        text += [
            "",
            "Obligations",
            *(f"  {line}" for line in obligation_lines(decision.obligations)),
        ]
    if decision.confirm_by is not None:
        text += [
            "",
            (
                f"Urgent route: waived {', '.join(decision.waived)}. To be confirmed in writing by "
                f"{decision.confirm_by.isoformat()}, by a {decision.confirmer_rank} or above."
            ),
        ]
    if decision.facts.warnings:
        text += ["", f"Warnings: {', '.join(decision.facts.warnings)}"]
    text += ["", f"Decided as at {decision.decided_at.isoformat()}"]
    text += [f"Bundle {decision.bundle_sha256.hex()}"]
    return text


def as_json(decision: Decision) -> dict[str, Any]:
    """Return the decision as JSON values; personal values are redacted."""
    obligations = decision.obligations
    return {
        "agency": decision.agency,
        "verdict": decision.verdict.value,
        "code": decision.code.value,
        "decided_at": decision.decided_at.isoformat(),
        "bundle_sha256": decision.bundle_sha256.hex(),
        "considered": list(decision.considered),
        "agreement": {
            "id": decision.agreement_id,
            "version": decision.agreement_version,
            "sha256": decision.agreement_sha256.hex(),
        }
        if decision.permitted
        else None,
        "obligations": obligations.model_dump(mode="json") if obligations else None,
        "unknown_obligations": list(decision.unknown_obligations),
        "failed": list(decision.failed),
        "waived": list(decision.waived),
        "confirm_by": decision.confirm_by.isoformat() if decision.confirm_by else None,
        "confirmer_rank": decision.confirmer_rank,
        "warnings": list(decision.facts.warnings),
        "clauses": [
            {
                "agreement_id": clause.agreement_id,
                "clause_id": clause.clause_id,
                "citation": clause.citation,
                "attribute": clause.attribute,
                "operator": clause.operator,
                "required": clause.required,
                "actual": clause.actual,
                "verdict": clause.verdict.value,
                "waived": clause.waived,
            }
            for clause in decision.clauses
        ],
    }
