"""The clauses that always apply, whatever an agreement says: what the law and the promises need.

No agreement can leave one out or use its id. Each is decided and explained like any other clause.

1. in force: the agreement is within its days, and the bundle within its window;
2. documents: DPIA and appropriate policy document are current;
3. words: every coded fact is given and is a known word;
4. gateway: the request relies on this agreement's gateway for its purpose, and on a Schedule 8
   condition the agreement relies on;
5. reasons: the case, the strict necessity and the proportionality are stated;
6. people: officer and authoriser are two people, and the officer's accreditation is current;
7. order: the search was authorised before it was decided;
8. sealing: the probe came sealed to the agency's key;
9. switches: nothing about the request is switched off by a kill switch;
10. confirmation: no urgent search of the officer is past its deadline unconfirmed.

What rules 9 and 10 read is on the decider's own records, and unknown is not satisfied.
"""

from __future__ import annotations

from datetime import datetime

from policy.agreements import Agreement, Document
from policy.clauses import (
    INDETERMINATE,
    SATISFIED,
    VIOLATED,
    CompiledClause,
    Predicate,
    Show,
    Test,
    Verdict,
    over_attribute,
    render,
)
from policy.facts import ATTRIBUTES, Facts
from policy.standing import switches_of

IN_FORCE = "core.in-force"
BUNDLE_CURRENT = "core.bundle-current"
NOT_SWITCHED_OFF = "core.not-switched-off"
IN_FORCE_CLAUSES = 2
"""How many of the core clauses, at the front, say whether the agreement is in force."""


def _verdict(holds: bool) -> Verdict:  # noqa: FBT001 - a two-valued answer turned into three
    return SATISFIED if holds else VIOLATED


def _decided_at(_facts: Facts, at: datetime) -> str:
    return render(at)


def _clause(
    name: str, citation: str, attribute: str, operator: str, required: str, test: Test, show: Show
) -> CompiledClause:
    """Return a clause that reads more than one attribute's value."""
    return CompiledClause(
        f"core.{name}",
        citation,
        attribute,
        operator,
        required,
        test,
        show,
        key=(name, attribute, operator, required),
    )


def _over(
    name: str, citation: str, attribute: str, operator: str, required: str, holds: Predicate
) -> CompiledClause:
    return over_attribute(
        f"core.{name}",
        citation,
        ATTRIBUTES[attribute],
        operator,
        required,
        holds,
        key=(name, attribute, operator, required),
    )


def _given(name: str, citation: str, attribute: str) -> CompiledClause:
    return _over(name, citation, attribute, "present", "true", lambda _actual, _at: True)


def _in_force(agreement: Agreement) -> CompiledClause:  # (1)
    days = agreement.in_force
    return _clause(
        "in-force",
        f"{agreement.id} version {agreement.version}",
        "decided_at",
        "between",
        f"[{days.from_}, {days.to}]",
        lambda _facts, at: _verdict(days.from_ <= at.date() <= days.to),
        _decided_at,
    )


def _bundle_current(not_before: datetime, not_after: datetime) -> CompiledClause:  # (1)
    return _clause(
        "bundle-current",
        "the signed bundle's own window",
        "decided_at",
        "between",
        f"[{render(not_before)}, {render(not_after)}]",
        lambda _facts, at: _verdict(not_before <= at <= not_after),
        _decided_at,
    )


def _documents_current(agreement: Agreement) -> CompiledClause:  # (2)
    documents: dict[str, Document] = {
        "dpia": agreement.documents.dpia,
        "appropriate_policy_document": agreement.documents.appropriate_policy_document,
    }

    def lapsed(at: datetime) -> list[str]:
        today = at.date()
        return [n for n, d in documents.items() if not d.date <= today <= d.expires]

    current_from = max(document.date for document in documents.values())
    current_to = min(document.expires for document in documents.values())

    def show(_facts: Facts, at: datetime) -> str:
        names = lapsed(at)
        return f"not current: {', '.join(names)}" if names else "both current"

    return _clause(
        "documents-current",
        "DPA 2018 s.35(5)(c), s.42 and s.64",
        "decided_at",
        "between",
        "; ".join(f"{n} [{d.date}, {d.expires}]" for n, d in documents.items()),
        lambda _facts, at: _verdict(current_from <= at.date() <= current_to),
        show,
    )


def _known_codes() -> CompiledClause:  # (3)
    def test(facts: Facts, _at: datetime) -> Verdict:
        if facts.unknown_words:
            return VIOLATED
        # A word that is not given cannot count for more than one that is wrong.
        return INDETERMINATE if facts.missing_words else SATISFIED

    def show(facts: Facts, _at: datetime) -> str:
        faults = [
            f"{what}: {', '.join(names)}"
            for what, names in (("unknown", facts.unknown_words), ("missing", facts.missing_words))
            if names
        ]
        return "; ".join(faults) or "all known"

    return _clause(
        "known-codes",
        "DPA 2018 s.36(1) and s.38(3)",
        "every coded fact",
        "in",
        "the registry of codes",
        test,
        show,
    )


def _gateway(agreement: Agreement) -> CompiledClause:  # (4)
    gateways = {gateway.purpose: gateway.accepted for gateway in agreement.gateways}
    citations = "; ".join(dict.fromkeys(gateway.citation for gateway in agreement.gateways))

    def test(facts: Facts, _at: datetime) -> Verdict:
        if facts.purpose is None:
            return INDETERMINATE
        accepted = gateways.get(facts.purpose)
        if accepted is not None and facts.legal_basis is None:
            return INDETERMINATE
        return _verdict(accepted is not None and facts.legal_basis in accepted)

    def show(facts: Facts, _at: datetime) -> str | None:
        if facts.purpose is None and facts.legal_basis is None:
            return None
        return f"{facts.purpose or '(missing)'}: {facts.legal_basis or '(missing)'}"

    return _clause(
        "gateway-for-purpose",
        f"DPA 2018 s.35(2); {citations}",
        "legal_basis",
        "in",
        "; ".join(f"{purpose}: {' or '.join(codes)}" for purpose, codes in gateways.items()),
        test,
        show,
    )


def _schedule8(agreement: Agreement) -> CompiledClause:  # (4)
    conditions = frozenset(agreement.schedule8_conditions)
    return _over(
        "schedule8-condition",
        "DPA 2018 s.35(5)(b) and Sch 8",
        "schedule8_condition",
        "in",
        render(agreement.schedule8_conditions),
        lambda actual, _at: actual in conditions,
    )


def _kind(switch: str) -> str:
    return switch.partition(":")[0]


def _not_switched_off(agreement: Agreement) -> CompiledClause:  # (9)
    def of_request(facts: Facts) -> tuple[str, ...]:
        return switches_of(agreement.agency, facts.force, facts.purpose, facts.probe_model)

    def off(facts: Facts) -> list[str]:
        switches = facts.standing.switched_off if facts.standing else None
        return [name for name in of_request(facts) if name in (switches or ())]

    def test(facts: Facts, _at: datetime) -> Verdict:
        switches = facts.standing.switched_off if facts.standing else None
        if switches is None:
            return INDETERMINATE
        if not switches:
            return SATISFIED
        if off(facts):
            return VIOLATED
        # A switch cannot be seen not to apply to a fact that is not given.
        seen = {_kind(name) for name in of_request(facts)}
        return SATISFIED if all(_kind(name) in seen for name in switches) else INDETERMINATE

    def show(facts: Facts, _at: datetime) -> str | None:
        if facts.standing is None or facts.standing.switched_off is None:
            return None
        names = off(facts)
        return f"off: {', '.join(names)}" if names else "on"

    return _clause(
        "not-switched-off",
        "Kill switches of the broker's and the agency's operators",
        "switches",
        "not_in",
        f"agency:{agreement.agency}; this request's force, matcher and purpose",
        test,
        show,
    )


def _urgent_confirmed() -> CompiledClause:  # (10)
    def test(facts: Facts, _at: datetime) -> Verdict:
        open_ones = facts.standing.unconfirmed_urgent if facts.standing else None
        return INDETERMINATE if open_ones is None else _verdict(open_ones == 0)

    def show(facts: Facts, _at: datetime) -> str | None:
        open_ones = facts.standing.unconfirmed_urgent if facts.standing else None
        return None if open_ones is None else str(open_ones)

    return _clause(
        "urgent-confirmed",
        "Retrospective written confirmation of urgent authority",
        "unconfirmed_urgent",
        "le",
        "0",
        test,
        show,
    )


def _fixed() -> tuple[CompiledClause, ...]:
    """The clauses that are the same under every agreement."""
    return (
        _known_codes(),
        _given("case-reference", "DPA 2018 s.36(1); individual cases only", "case_reference"),
        _given("strictly-necessary", "DPA 2018 s.35(5)(a)", "necessity"),
        _given("proportionate", "DPA 2018 s.37; ECHR Art 8(2)", "proportionality"),
        _over(
            "authoriser-independent",
            "Separation of duties (DPA 2018 s.57)",
            "authoriser_independent",
            "in",
            "[true]",
            lambda actual, _at: actual is True,
        ),
        _given("accredited", "DPA 2018 s.40; accreditation", "officer_accreditation"),
        _over(
            "accreditation-current",
            "DPA 2018 s.40; accreditation",
            "officer_accreditation_expires",
            "after",
            "the day before decided_at",
            lambda actual, at: actual >= at.date(),
        ),
        _over(
            "order-in-time",
            "Prior authorisation",
            "authorised_at",
            "before",
            "decided_at, or at that instant",
            lambda actual, at: actual <= at,
        ),
        _over(
            "sealed",
            "DPA 2018 s.40 and s.66",
            "sealed",
            "in",
            "[true]",
            lambda actual, _at: actual is True,
        ),
        _urgent_confirmed(),
    )


FIXED = _fixed()


def core_clauses(
    agreement: Agreement, not_before: datetime, not_after: datetime
) -> tuple[CompiledClause, ...]:
    """Return the built-in clauses for ``agreement`` in a bundle with this window; in force first.

    The first ``IN_FORCE_CLAUSES`` are those that say whether the agreement is in force at all.
    """
    return (
        _in_force(agreement),
        _bundle_current(not_before, not_after),
        _documents_current(agreement),
        _gateway(agreement),
        _schedule8(agreement),
        _not_switched_off(agreement),
        *FIXED,
    )
