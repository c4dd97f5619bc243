"""Case tables: requests with the answers an agreement must give, kept beside the agreement.

A table has a base request and cases that change it, so each case shows only what matters to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, ValidationError

from policy.agreements import CASES_FILE, read_folder
from policy.bundle import unsigned_bundle_for_dry_run
from policy.clause_model import FrozenModel, Line
from policy.decision import CompiledPolicy, Decision, DecisionCode, Outcome, compile_bundle
from policy.facts import Facts
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


def _facts(document: YamlDocument, values: dict[str, Any], at: tuple[str | int, ...]) -> Facts:
    try:
        return Facts.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise document.error((*at, *fault["loc"]), fault["msg"]) from None


def run_table(path: Path, policy: CompiledPolicy) -> list[CaseResult]:
    """Return how every case of the table at ``path`` comes out under ``policy``.

    Raises:
        ProbegateError: FILE_MISSING; BUNDLE_INVALID naming file, line and field.
    """
    document = parse_yaml(read_file(path), f"{path.parent.name}/{path.name}")
    table = document.validated(CaseTable)
    _facts(document, table.base, ("base",))
    results = []
    for index, case in enumerate(table.cases):
        facts = _facts(document, table.base | case.change, ("cases", index, "change"))
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
