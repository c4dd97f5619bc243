"""Case tables: requests with the answers an agreement must give, kept beside the agreement.

A table has a base request and cases that change it, so each case shows only what matters to it.
What the decider's records would say (``standing``) is assumed to be nothing at all, and a case may
say otherwise, part by part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, ValidationError

from policy.agreements import CASES_FILE, read_folder
from policy.bundle import unsigned_bundle_for_dry_run
from policy.clause_model import FrozenModel, Line
from policy.decision import CompiledPolicy, Decision, DecisionCode, Outcome, compile_bundle
from policy.facts import Facts
from policy.standing import assume_nothing_on_record
from policy.yaml_source import YamlDocument, parse_yaml, read_file
from trust.messages import ClauseId, Code, MemberId


class Case(FrozenModel):
    """One request and the answer it must get.

    ``change`` replaces facts of the base request; ``null`` removes one. ``failed`` lists exactly
    the clauses that must fail, in any order.
    """

    id: Code
    why: Line
    change: Annotated[dict[str, Any], Field(default_factory=dict)]
    at: AwareDatetime | None = None
    expect: Outcome
    code: DecisionCode | None = None
    failed: tuple[ClauseId, ...] = ()


class CaseTable(FrozenModel):
    """Every case of one agreement."""

    agency: MemberId
    at: AwareDatetime
    base: dict[str, Any]
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case came out."""

    table: str
    case: Case
    decision: Decision

    @property
    def passed(self) -> bool:
        """Whether the answer is exactly the one expected."""
        return (
            self.decision.verdict is self.case.expect
            and self.case.code in {None, self.decision.code}
            and set(self.decision.failed) == set(self.case.failed)
        )

    @property
    def difference(self) -> str:
        """What came out otherwise than expected, in words; empty if nothing did."""
        got, expected = set(self.decision.failed), set(self.case.failed)
        parts = []
        if self.decision.verdict is not self.case.expect:
            parts.append(f"expected {self.case.expect.value}, got {self.decision.verdict.value}")
        if self.case.code not in {None, self.decision.code}:
            parts.append(f"code is {self.decision.code.value}")
        if got - expected:
            parts.append(f"also failed: {', '.join(sorted(got - expected))}")
        if expected - got:
            parts.append(f"did not fail: {', '.join(sorted(expected - got))}")
        return "; ".join(parts)


def _facts(
    document: YamlDocument, values: Mapping[str, Any], agency: str, at: tuple[str | int, ...]
) -> Facts:
    try:
        return dry_run_facts(values, (agency,))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise document.error((*at, *fault["loc"]), fault["msg"]) from None


def dry_run_facts(values: Mapping[str, Any], agencies: Iterable[str]) -> Facts:
    """Return facts for a draft: nothing is on record but what ``values["standing"]`` says.

    Raises:
        pydantic.ValidationError: a fact is not of its form.
    """
    nothing = assume_nothing_on_record(agencies).model_dump(mode="json")
    stated = values.get("standing")
    standing = _merged(nothing, stated) if isinstance(stated, Mapping) else stated or nothing
    return Facts.model_validate({**values, "standing": standing})


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with what ``more`` says in its place, mappings part by part."""
    result = dict(base)
    for name, value in more.items():
        mine = result.get(name)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            result[name] = _merged(mine, value)
        else:
            result[name] = value
    return result


def run_table(path: Path, policy: CompiledPolicy) -> list[CaseResult]:
    """Return how every case of the table at ``path`` comes out under ``policy``.

    Raises:
        ProbegateError: FILE_MISSING; BUNDLE_INVALID naming file, line and field.
    """
    document = parse_yaml(read_file(path), f"{path.parent.name}/{path.name}")
    table = document.validated(CaseTable)
    _facts(document, table.base, table.agency, ("base",))
    results = []
    for index, case in enumerate(table.cases):
        values = _merged(table.base, case.change)
        facts = _facts(document, values, table.agency, ("cases", index, "change"))
        decision = policy.decide(facts, table.agency, case.at or table.at)
        results.append(CaseResult(document.file, case, decision))
    return results


def run_folder(folder: Path) -> list[CaseResult]:
    """Return how every case table under ``folder`` comes out under the agreements beside it.

    Raises:
        ProbegateError: FILE_MISSING; BUNDLE_INVALID naming file, line and field.
    """
    files = read_folder(folder)
    tables = sorted(folder.rglob(CASES_FILE))
    policy = compile_bundle(unsigned_bundle_for_dry_run(files, _forces(tables)))
    return [result for path in tables for result in run_table(path, policy)]


def _forces(tables: Iterable[Path]) -> set[str]:
    """Return the forces that the base requests name."""
    forces = set()
    for path in tables:
        document = parse_yaml(read_file(path), f"{path.parent.name}/{path.name}")
        forces.add(str(document.validated(CaseTable).base.get("force", "")))
    return forces
