"""The force believes nobody: what a broker says of a search is checked before anybody reads it.

The rules of ``verify_search``; a search that fails one is ``RESULT_INVALID`` and is not shown:

1. The order is this force's own, under its own signature, and the answer is about that very order.
2. The result is signed by the broker. Keys are judged at instants of our own (when the order was
   made, or now), never at one that the message states of itself.
3. There is exactly one outcome for each agency of the order, in the order's sequence, none of them
   pending; what is missing, whether the search is complete and whether that is what was asked for
   follow from them (promise 5).
4. What an agency alone can say (candidates, no candidate, held, rejected, its own denial) comes
   with that agency's signed report, whose digest the result states; what it cannot have said comes
   without one. So a broker cannot turn silence into "no match". What was found and has been erased
   since is said to be so: candidates, by the digest of a report that nobody has any more.
5. A report is about this search, this order and this grant, says what the outcome says, was made
   in this search's time, and keeps to the most candidates and the lowest score that were asked for.
6. A denial by the broker and the broker's own decisions agree.
7. A result that replaces an earlier one does so because an answer came after the search had ended,
   or because one was erased: it is a later revision, names what it replaces and says when the
   search first ended. Each answer that came or was erased since is marked with when that was: after
   that end, one of them when this result was made, and at no more instants than there were
   revisions. A report that follows a HELD one is so marked and is an answer. Nothing is erased
   before it came. A first result, or a running search, has no such mark.
8. The receipt proves, under the broker's search-log key in the directory, an entry that states this
   search, this order, this result and these outcomes (promise 1).
9. Ranking and lanes are what the reports make of them, and the groups make sense (``combined``,
   promise 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from audit.leaves import stamp
from force_client.combined import check_combined
from force_client.ground import Ground, failing, invalid
from force_client.models import (
    AgencyDecision,
    AgencyOutcome,
    ReceivedAnswer,
    ReceivedSearch,
    SearchView,
)
from force_client.orders import SignedOrder
from force_client.settings import MAX_CLOCK_SKEW
from force_client.views import ended_view, running_view, shown
from trust import dsse
from trust.directory import Directory
from trust.messages import REPORTABLE, MatchReport, Outcome, OutcomeState, SearchResult
from trust.payload_types import PayloadType
from trust.wire import decode_report, decode_result

RESULT_ENTRY: Final = "search.result"
BY_BROKER: Final = "broker"


@dataclass(frozen=True, slots=True)
class Witness:
    """What a check is made against: our order, the members, their broker, and the time."""

    order: SignedOrder
    directory: Directory
    broker: str
    now: datetime

    @property
    def ground(self) -> Ground:
        """What of it does not depend on what the order says (2)."""
        return Ground(self.directory, self.broker, self.now, since=self.order.order.created_at)


def verify_search(received: ReceivedSearch, witness: Witness) -> SearchView:
    """Return a search as it may be relied on.

    A running search is returned with ``verified`` false and its answers so far, each checked.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with the failed ``check`` and, where it is one agency's,
            the ``agency``.
    """
    _check_ours(received, witness)  # (1)
    answers = _by_agency(received.answers)
    if not received.state.ended:
        outcomes = tuple(
            verify_answer(one, received.search_id, witness) for one in answers.values()
        )
        for one in outcomes:
            if one.late_at is not None:
                raise invalid("late in a search that has not ended", "late_at", one.agency)  # (7)
            if one.erased_at is not None:
                raise invalid("erased in a search that has not ended", "erased_at", one.agency)
        return running_view(received, witness.order, outcomes, witness.now)
    result = _result(received, witness)  # (2)
    _check_outcomes(result, witness)  # (3)
    outcomes = tuple(
        _outcome(stated, answers.get(stated.agency), received.search_id, witness)
        for stated in result.outcomes
    )
    _check_one_grant(outcomes)
    _check_decisions(received.decisions, result.outcomes, witness)  # (6)
    _check_revision(result, outcomes)  # (7)
    _check_receipt(received, result, witness)  # (8)
    reports = [one.report for one in outcomes if one.report is not None]
    check_combined(result, reports)  # (9)
    return ended_view(received, witness.order, outcomes, result)


def verify_gone(received: ReceivedSearch, witness: Witness) -> SearchView:
    """Return an ended search whose results are erased, with nothing of them: none is final.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with the failed ``check``.
    """
    _check_ours(received, witness)  # (1)
    return running_view(received, witness.order, (), witness.now)


def verify_answer(answer: ReceivedAnswer, search_id: str, witness: Witness) -> AgencyOutcome:
    """Check one agency's answer as it comes, before the result is there: rules (4) and (5).

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    agency = answer.outcome.agency
    if agency not in witness.order.order.agencies:
        raise invalid("an agency that was not asked", "answers", agency)
    return _outcome(answer.outcome, answer, search_id, witness)


# --- the order and the result ----------------------------------------------------------------


def _check_ours(received: ReceivedSearch, witness: Witness) -> None:
    order = witness.order
    with failing("order"):
        resolve = witness.ground.resolver(order.order.force)
        dsse.verify(order.envelope, PayloadType.SEARCH_ORDER, resolve)
    if received.request_id != order.order.request_id:
        raise invalid("another request's search", "request_id")


def _result(received: ReceivedSearch, witness: Witness) -> SearchResult:
    if received.result is None:
        raise invalid("an ended search without its result", "result")
    with failing("result"):
        resolve = witness.ground.resolver(witness.broker)
        dsse.verify(received.result, PayloadType.SEARCH_RESULT, resolve)
        result = decode_result(received.result.payload)
    if result.order_sha256 != witness.order.sha256:
        raise invalid("the result of another order", "order_sha256")
    if result.search_id != received.search_id:
        raise invalid("the result of another search", "search_id")
    if not all(map(witness.ground.in_time, (result.ended_at, result.finished_at))):
        raise invalid("not of this search's time", "finished_at")
    return result


def _check_outcomes(result: SearchResult, witness: Witness) -> None:
    if tuple(one.agency for one in result.outcomes) != witness.order.order.agencies:
        raise invalid("not one outcome for each agency asked", "outcomes")
    for outcome in result.outcomes:
        if outcome.state is OutcomeState.PENDING:
            raise invalid("still pending in an ended search", "outcomes", outcome.agency)
    missing = tuple(one.agency for one in result.outcomes if not one.state.is_answer)
    if result.missing != missing or result.complete != (not missing):
        raise invalid("does not follow from the outcomes", "missing")
    if result.sufficient != witness.order.order.limits.met_by(result.outcomes):
        raise invalid("does not follow from the outcomes", "sufficient")


def _check_decisions(
    decisions: Sequence[AgencyDecision], outcomes: Sequence[Outcome], witness: Witness
) -> None:
    if tuple(one.agency for one in decisions) != witness.order.order.agencies:
        raise invalid("not one decision for each agency asked", "decisions")
    for decision, outcome in zip(decisions, outcomes, strict=True):
        denied = outcome.state is OutcomeState.DENIED and outcome.decided_by == BY_BROKER
        if denied == decision.permitted:
            raise invalid("decision and outcome contradict", "decisions", outcome.agency)
        if denied and decision.failed_clauses != outcome.failed_clauses:
            raise invalid("other clauses failed", "decisions", outcome.agency)


# --- reports ---------------------------------------------------------------------------------


def _by_agency(answers: Sequence[ReceivedAnswer]) -> Mapping[str, ReceivedAnswer]:
    by_agency = {answer.outcome.agency: answer for answer in answers}
    if len(by_agency) != len(answers):
        raise invalid("two answers of one agency", "answers")
    return by_agency


def _outcome(
    stated: Outcome, answer: ReceivedAnswer | None, search_id: str, witness: Witness
) -> AgencyOutcome:
    envelope = answer.report if answer else None
    if stated.erased_at is not None and stated.state is not OutcomeState.CANDIDATES:
        raise invalid("nothing that could be erased", "erased_at", stated.agency)
    if not _needs_report(stated):  # (4)
        if envelope is not None or stated.report_sha256:
            raise invalid(f"a report behind {stated.state.value}", "report", stated.agency)
        return shown(stated, None)
    if stated.erased_at is not None:
        if envelope is not None or not stated.report_sha256:
            raise invalid("erased, and not without its report", "erased_at", stated.agency)
        return shown(stated, None)
    if envelope is None:
        raise invalid(f"{stated.state.value} without its report", "report", stated.agency)
    with failing("report", stated.agency):
        dsse.verify(envelope, PayloadType.MATCH_REPORT, witness.ground.resolver(stated.agency))
        report = decode_report(envelope.payload)
    if sha256(envelope.payload).digest() != stated.report_sha256:
        raise invalid("another report than the result states", "report_sha256", stated.agency)
    _check_report(report, stated, search_id, witness)  # (5)
    return shown(stated, report)


def _needs_report(outcome: Outcome) -> bool:
    by_broker = outcome.state is OutcomeState.DENIED and outcome.decided_by == BY_BROKER
    return outcome.state in REPORTABLE and not by_broker


def _check_report(report: MatchReport, stated: Outcome, search_id: str, witness: Witness) -> None:
    limits = witness.order.order.limits
    about = (report.search_id, report.agency, report.order_sha256)
    if about != (search_id, stated.agency, witness.order.sha256):
        raise invalid("a report of another search", "report", stated.agency)
    said = (report.state, report.reason, report.failed_clauses)
    if said != (stated.state, stated.reason, stated.failed_clauses):
        raise invalid("the report says otherwise", "state", stated.agency)
    if not witness.ground.in_time(report.reported_at):
        raise invalid("not of this search's time", "reported_at", stated.agency)
    if len(report.candidates) > limits.max_candidates:
        raise invalid("more candidates than asked for", "candidates", stated.agency)
    floor = limits.min_score
    if floor is not None and any(one.score < floor for one in report.candidates):
        raise invalid("a score below what was asked for", "candidates", stated.agency)


def _check_one_grant(outcomes: Sequence[AgencyOutcome]) -> None:
    if len({one.report.grant_sha256 for one in outcomes if one.report}) > 1:  # (5)
        raise invalid("reports under different grants", "grant_sha256")


def _check_revision(result: SearchResult, outcomes: Sequence[AgencyOutcome]) -> None:
    """Rule (7)."""
    ended = result.first_finished_at
    if not bool(result.revision) == bool(result.replaces_sha256) == (ended is not None):
        raise invalid("a revision that replaces nothing, or no revision that does", "revision")
    changed: list[datetime] = []
    most = 0
    for one in outcomes:
        if one.released and (one.late_at is None or not one.state.is_answer):
            raise invalid("follows a held one and is no later answer", "state", one.agency)
        if one.late_at is not None:
            _check_late(one, one.late_at, result)
            changed.append(one.late_at)
            # That it was held may have been late, too; once it is erased, nobody knows.
            most += 2 if one.released or one.erased_at else 1
        if one.erased_at is not None:
            _require_since(one.erased_at, one.late_at, result, "erased_at", one.agency)
            changed.append(one.erased_at)
            most += 1
    if not result.revision and not changed:
        return
    if not changed or max(changed) != result.finished_at:
        raise invalid("revised, and nothing came or was erased", "revision")
    if not len(set(changed)) <= result.revision <= most:
        raise invalid("revised oftener or less often than answers came or went", "revision")


def _check_late(outcome: AgencyOutcome, late_at: datetime, result: SearchResult) -> None:
    _require_since(late_at, None, result, "late_at", outcome.agency)
    if outcome.report is None:
        if outcome.erased_at is None:
            raise invalid("late without an answer", "late_at", outcome.agency)
    elif outcome.report.reported_at > late_at + MAX_CLOCK_SKEW:
        raise invalid("came before it was made", "late_at", outcome.agency)


def _require_since(
    at: datetime, came: datetime | None, result: SearchResult, check: str, agency: str
) -> None:
    """Require that something happened after the search's end, or after an answer came."""
    ended = result.first_finished_at
    if ended is None or not (came or ended) <= at <= result.finished_at:
        raise invalid("not after the search's end", check, agency)


# --- the receipt -----------------------------------------------------------------------------


def _check_receipt(received: ReceivedSearch, result: SearchResult, witness: Witness) -> None:
    envelope = received.result
    if envelope is None:
        raise invalid("an ended search without its result", "result")
    expected = {
        "type": RESULT_ENTRY,
        "search_id": received.search_id,
        "order_sha256": witness.order.sha256.hex(),
        "result_sha256": sha256(envelope.payload).hexdigest(),
    }
    leaf = witness.ground.proved(received.receipt, received.receipt_leaf, expected)
    if leaf.get("revision", 0) != result.revision:
        raise invalid("the entry states another revision", "receipt_leaf")
    if leaf.get("replaces_sha256", "") != result.replaces_sha256.hex():
        raise invalid("the entry replaces another result", "receipt_leaf")
    if _logged(leaf.get("outcomes")) != [_logged_form(one) for one in result.outcomes]:
        raise invalid("the entry states other outcomes", "receipt_leaf")


def _logged_form(outcome: Outcome) -> tuple[str | None, ...]:
    return (
        outcome.agency,
        outcome.state.value,
        outcome.reason,
        outcome.report_sha256.hex(),
        stamp(outcome.late_at) if outcome.late_at is not None else None,
        stamp(outcome.erased_at) if outcome.erased_at is not None else None,
    )


def _logged(outcomes: Any) -> list[tuple[Any, ...]]:
    if not isinstance(outcomes, list):
        return []
    names = ("agency", "state", "reason", "report_sha256", "late_at", "erased_at")
    return [tuple(one.get(n) for n in names) if isinstance(one, dict) else () for one in outcomes]
