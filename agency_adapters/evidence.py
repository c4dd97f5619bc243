"""What the broker's log proves of earlier searches and of confirmations (part of rule 11).

An earlier search counts for an agency that must have answered first only if

1. its order's entry is in the tree of the dossier's verified checkpoint;
2. that entry is a ``search.order`` of this order's force, and of another order than this one;
3. a statement is signed by a key that the directory lists as this agency's, now;
4. it says that this agency answered that very search and order, and that they were of this order's
   probe, case and force, so that no answer can be shown for another matter;
5. it is not dated beyond the clock skew. One that is dated within it, by a clock ahead of ours,
   counts as made now.

A confirmation counts only if

6. its entry is in the same tree, is a ``search.confirmed``, and names the very confirmation shown;
7. our own ledger awaits a confirmation of that order, and for this order's force;
8. the confirmation is signed by this force, now, names it, fits its entry, and is not dated beyond
   the clock skew;
9. the confirmer is another person than the officer, and of the rank that we asked for or above.

What fails is no evidence, and no reason to refuse the call either: the clause that asks for it is
then not satisfied, and the signed denial names it. A payload is read only after its signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audit.checkpoints import Checkpoint
from audit.evidence import (
    CONFIRMED_ENTRY,
    ORDER_ENTRY,
    ConfirmedSearch,
    EarlierSearch,
    LoggedEntry,
    answered_at,
    no_evidence,
)
from audit.leaves import parse_leaf
from audit.merkle import leaf_hash, verify_inclusion
from policy.ledger import UrgentUse
from trust import dsse
from trust.directory import Directory, KeyUse, Role
from trust.errors import ProbegateError
from trust.messages import Person, SearchOrder
from trust.payload_types import PayloadType
from trust.wire import decode_confirmation

Awaiting = Callable[[str], Sequence[UrgentUse]]
"""Returns our urgent searches under an order's digest (hexadecimal) that await confirmation."""
KnownAs = Callable[[str, str], bytes]
"""Returns how our ledger knows a person: of which force, by which id."""


@dataclass(frozen=True, slots=True)
class Against:
    """What evidence is judged by: the order at hand, and what is known to be true.

    Attributes:
        order: the order at hand, verified.
        order_sha256: of its payload, hexadecimal.
        checkpoint: the broker's, verified by rules (7) and (8) of the gate.
        directory: the directory in force.
        now: the instant of the decision.
        skew: how far ahead another's clock may be.
    """

    order: SearchOrder
    order_sha256: str
    checkpoint: Checkpoint
    directory: Directory
    now: datetime
    skew: timedelta


def answered(
    shown: Sequence[EarlierSearch], agencies: Collection[str], against: Against
) -> Mapping[str, datetime]:
    """Return when each of ``agencies`` last answered this probe for this case, where proved."""
    owners = {
        key.kid: member.id
        for member in map(against.directory.find, agencies)
        if member is not None and member.role is Role.AGENCY
        for key in member.keys
        if key.use is KeyUse.SIGN
    }
    latest: dict[str, datetime] = {}
    for search in shown if owners else ():
        with suppress(ProbegateError):
            facts = _earlier_order(search, against)
            for envelope in search.statements:
                with suppress(ProbegateError):
                    agency, at = _statement(envelope, facts, owners, against)
                    latest[agency] = max(at, latest.get(agency, at))
    return latest


def confirmed(
    shown: Sequence[ConfirmedSearch], against: Against, awaiting: Awaiting, known_as: KnownAs
) -> tuple[str, ...]:
    """Return the orders, by digest (hexadecimal), whose urgent search here is now confirmed."""
    found: dict[str, None] = {}
    for one in shown:
        with suppress(ProbegateError):
            found[_confirmation(one, against, awaiting, known_as)] = None
    return tuple(found)


def _earlier_order(search: EarlierSearch, against: Against) -> Mapping[str, Any]:
    """Apply rules (1) and (2) and return the entry's facts."""
    facts = _in_the_log(search.order, ORDER_ENTRY, against)  # (1) (2)
    if facts.get("force") != against.order.force:  # (2)
        raise no_evidence("force")
    if facts.get("order_sha256") == against.order_sha256:  # (2)
        raise no_evidence("order_sha256")
    return facts


def _statement(
    envelope: dsse.Envelope,
    facts: Mapping[str, Any],
    owners: Mapping[str, str],
    against: Against,
) -> tuple[str, datetime]:
    """Apply rules (3) to (5): the first signature's key says whose it is, and all must be its."""
    agency = owners.get(envelope.signatures[0].keyid) if envelope.signatures else None
    if agency is None:
        raise no_evidence("signatures")
    return agency, answered_at(  # (3) (4) (5)
        envelope,
        agency=agency,
        search_id=facts.get("search_id"),
        order_sha256=facts.get("order_sha256"),
        matter_sha256=against.order.matter_sha256,
        directory=against.directory,
        now=against.now,
        skew=against.skew,
    )


def _confirmation(
    one: ConfirmedSearch, against: Against, awaiting: Awaiting, known_as: KnownAs
) -> str:
    """Apply rules (6) to (9) and return which order was confirmed."""
    facts = _in_the_log(one.entry, CONFIRMED_ENTRY, against)  # (6)
    payload, force = one.confirmation.payload, against.order.force
    if facts.get("confirmation_sha256") != hashlib.sha256(payload).hexdigest():  # (6)
        raise no_evidence("confirmation_sha256")
    ref = facts.get("order_sha256")
    uses = [use for use in awaiting(ref) if use.force == force] if isinstance(ref, str) else []
    if not isinstance(ref, str) or not uses:  # (7)
        raise no_evidence("order_sha256")
    resolve = against.directory.resolver(force, KeyUse.SIGN, against.now)
    dsse.verify(one.confirmation, PayloadType.URGENT_CONFIRMATION, resolve)  # (8)
    said = decode_confirmation(payload)
    about = (said.force, said.search_id, said.order_sha256.hex())
    if about != (force, facts.get("search_id"), ref):  # (8)
        raise no_evidence("confirmation")
    if said.confirmed_at > against.now + against.skew:  # (8)
        raise no_evidence("confirmed_at")
    confirmer = known_as(force, said.confirmer.id)
    if not all(_may_confirm(said.confirmer, confirmer, use) for use in uses):  # (9)
        raise no_evidence("confirmer")
    return ref


def _may_confirm(person: Person, known_as: bytes, use: UrgentUse) -> bool:
    """Rule (9)."""
    return known_as != use.officer and use.rank_suffices(person.rank)


def _in_the_log(entry: LoggedEntry, kind: str, against: Against) -> Mapping[str, Any]:
    """Apply rule (1) or (6): return the facts of an entry of this kind that is in the tree."""
    tree = against.checkpoint
    verify_inclusion(entry.index, tree.size, leaf_hash(entry.leaf), entry.inclusion, tree.root)
    facts: Mapping[str, Any] = parse_leaf(entry.leaf)
    if facts.get("v") != 1 or facts.get("type") != kind:
        raise no_evidence("type")
    return facts
