"""The gate: everything that must hold before a probe is opened (promises 1 and 3).

What fails (1) to (10) means that the broker or the force lied, or that time ran out: the call is
refused. What fails (11) is this agency's own denial, and what fails (12) to (14) is a bad probe:
both are answered with a signed report. All of it is on the agency's own log.

1. The channel is a broker's (the servicer admits no other role), and the grant is that broker's.
2. The directory is in force, the dossier parses, and the grant is signed by a key the directory
   lists as the broker's, now.
3. The order is signed by a key the directory lists as a force's, now, and is of that force.
4. The grant is of these very order bytes: SHA-256(order payload) is ``grant.order_sha256``.
5. Grant and order are of this moment: not from the future beyond the clock skew, not past their
   end, and the grant lives a minute at most.
6. The log entry is the one the grant names, and says the same: this search, this force, this order,
   these agreements, and this agency permitted, exactly once.
7. The entry is in the tree of the checkpoint, which the broker's search log key signed.
8. The checkpoint is consistent with what this adapter's witness has seen of that log.
9. The order was never used under another grant, nor the search's id for another order. The same
   grant again is given the same answer, or is told that it is gone (``retention``); nothing is
   searched under it twice.
10. The grant holds a permit for this agency, and the order asks for this agency.
11. This agency's own decision permits: by its own copy of the agreements, its own rules, and its
    own records (``policy.standing``: quotas, earlier answers as proved by ``evidence``, kill
    switches, urgent searches unconfirmed, reasons used before). A kill switch on this agency's
    matcher denies as one on the template's model does. Its duties and the grant's are both kept,
    the stricter of each. An unknown duty is a denial.
12. The sealed probe opens under this order, this agency and a key of ours that is valid now.
13. The probe opens the order's commitment.
14. The template is one the gallery can be searched with.

Then, in ``command``: (15) match and wipe, (16) record durably, (17) answer, signed. What the
records keep of (11) is in ``ruling``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any, Final

from agency_adapters.agency import AgencyKind, OwnerDecision
from agency_adapters.galleries.templates import Probe, decode_probe_template
from agency_adapters.models import Dossier, StoredMatch
from audit.checkpoints import open_checkpoint
from audit.embedded import embed, search_log_keys
from audit.evidence import ORDER_ENTRY
from audit.leaves import JsonValue, parse_leaf
from audit.merkle import leaf_hash, verify_inclusion
from audit.notes import VerifierKey
from policy.core_clauses import NOT_SWITCHED_OFF
from policy.decision import CompiledPolicy, enforced
from policy.facts import facts_of_order
from policy.standing import Standing, SwitchKind
from trust import dsse
from trust.commitment import probe_commitment
from trust.directory import Directory, KeyUse, Member, Role
from trust.errors import ProbegateError, Reason
from trust.keys import Opener
from trust.messages import (
    MAX_GRANT_LIFETIME,
    Obligations,
    Permit,
    SearchGrant,
    SearchOrder,
)
from trust.payload_types import PayloadType
from trust.sealing import probe_info
from trust.wire import decode_grant, decode_order, decode_probe

"""How the name of every member's search log ends."""
KNOWN_OBLIGATIONS: Final = frozenset(
    {
        "caveats",
        "fields",
        "hit_no_hit",
        "images",
        "max_candidates",
        "min_score",
        "mode",
        "onward_transfer",
        "release_by_human",
        "release_within_hours",
        "retention_days",
        "reviewers",
    }
)
"""Obligations an adapter keeps. ``fields``, ``images``, ``onward_transfer``, ``reviewers`` and
``release_within_hours`` bind what follows a search; ``caveats`` and ``retention_days`` whoever
receives the answer."""


def matcher_switches(matcher: str) -> frozenset[str]:
    """Return a matcher's kill switches: its name in lower case, with its version or without."""
    name = matcher.lower()
    kind = SwitchKind.MATCHER.value
    return frozenset(f"{kind}:{one}" for one in (name, name.partition("/")[0]))


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose papers are in order."""

    order: SearchOrder
    grant: SearchGrant
    permit: Permit
    order_sha256: bytes
    grant_sha256: bytes


@dataclass(frozen=True, slots=True)
class Permission:
    """This agency's own permission.

    Attributes:
        duties: what to keep, the stricter of everybody's.
        retention_days: how long our own agreement lets recipients keep the answer, whatever the
            grant says: less would shorten only our own memory of it.
        waived: the clauses that an urgent route did not ask for.
        confirm_by: when a search that needed the route must be confirmed by, if it did.
        confirmer_rank: by somebody of this rank, or above.
    """

    duties: Obligations
    retention_days: int
    waived: tuple[str, ...] = ()
    confirm_by: datetime | None = None
    confirmer_rank: str = ""


@dataclass(frozen=True, slots=True)
class Denial:
    """Why this agency's own decision denies."""

    reason: str
    failed_clauses: tuple[str, ...]


def require_broker(peer: Member) -> None:
    """Rule (1), a second time behind the servicer.

    Raises:
        ProbegateError: ``CHANNEL_ROLE``.
    """
    if peer.role is not Role.BROKER:
        raise ProbegateError(Reason.CHANNEL_ROLE)


def admit_papers(
    dossier: Dossier,
    *,
    agency: str,
    broker: str,
    directory: Directory,
    now: datetime,
    skew: timedelta,
) -> Admitted:
    """Apply rules (2) to (6) and (10): what the papers themselves say.

    Args:
        dossier: what the broker sent.
        agency: this agency's member id.
        broker: the member id of the broker on the channel.
        directory: the directory in force.
        now: this adapter's clock.
        skew: how far ahead another's clock may be.

    Raises:
        ProbegateError: ``DIRECTORY_EXPIRED``; an envelope's or key's reason; ``GRANT_INVALID``,
            ``GRANT_EXPIRED``, ``ORDER_INVALID``, ``ORDER_STALE``, ``LOG_PROOF_INVALID``.
    """
    directory.require_current(now)
    brokers_keys = directory.resolver(broker, KeyUse.SIGN, now)
    dsse.verify(dossier.grant, PayloadType.SEARCH_GRANT, brokers_keys)  # (2)
    grant = decode_grant(dossier.grant.payload)
    order = signed_order(dossier.order, directory, now)  # (3)
    order_sha256 = hashlib.sha256(dossier.order.payload).digest()
    if not compare_digest(order_sha256, grant.order_sha256):  # (4)
        raise ProbegateError(Reason.GRANT_INVALID, "of another order", field="order_sha256")
    _require_fresh(grant, order, now, skew)  # (5)
    permit = grant.permit_for(agency)
    if permit is None:  # (10)
        raise ProbegateError(Reason.GRANT_INVALID, "no permit for this agency", field="permits")
    if agency not in order.agencies:
        raise ProbegateError(Reason.GRANT_INVALID, "not asked for by the order", field="agencies")
    _require_entry(dossier.leaf, grant, order, permit)  # (6)
    return Admitted(
        order, grant, permit, order_sha256, hashlib.sha256(dossier.grant.payload).digest()
    )


def search_log_key(directory: Directory, broker: str, now: datetime) -> VerifierKey:
    """Return the key of a broker's search log; its name is the log's origin.

    Raises:
        ProbegateError: ``KEY_UNKNOWN`` if the directory lists none that is valid.
    """
    for key in search_log_keys(directory, broker, now):
        return key
    raise ProbegateError(Reason.KEY_UNKNOWN, f"{broker!r} has no valid search log key")


def require_recorded(dossier: Dossier, log_key: VerifierKey) -> Mapping[str, JsonValue]:
    """Apply rule (7) and return the checkpoint as an entry of ours embeds it.

    Raises:
        ProbegateError: ``CHECKPOINT_INVALID`` or ``LOG_PROOF_INVALID``.
    """
    checkpoint = open_checkpoint(dossier.checkpoint, [log_key], log_key.name).checkpoint
    verify_inclusion(
        dossier.leaf_index,
        checkpoint.size,
        leaf_hash(dossier.leaf),
        dossier.inclusion,
        checkpoint.root,
    )
    return embed(dossier.checkpoint)


def require_not_replayed(stored: StoredMatch | None, admitted: Admitted) -> StoredMatch | None:
    """Apply rule (9): return the earlier answer to this very grant, if there is one.

    Raises:
        ProbegateError: ``ORDER_REPLAYED``; ``RESULT_GONE`` if the answer was erased since.
    """
    if stored is None:
        return None
    if not compare_digest(stored.grant_sha256, admitted.grant_sha256):
        raise ProbegateError(Reason.ORDER_REPLAYED)
    if stored.report is None:
        raise ProbegateError(Reason.RESULT_GONE)
    return stored


def require_own_search(first: bytes | None, admitted: Admitted) -> None:
    """Apply rule (9): a search's id is of one order, as the references under it are.

    Args:
        first: the digest of the order that was answered under this search's id, if one was.
        admitted: the request.

    Raises:
        ProbegateError: ``GRANT_INVALID``.
    """
    if first is not None and not compare_digest(first, admitted.order_sha256):
        raise ProbegateError(Reason.GRANT_INVALID, "a search of another order", field="search_id")


def decide(
    admitted: Admitted,
    *,
    agency: str,
    kind: AgencyKind,
    matcher: str,
    policy: CompiledPolicy,
    standing: Standing,
    owner_decision: OwnerDecision | None,
    now: datetime,
) -> Permission | Denial:
    """Apply rule (11): return this agency's permission, or why it is denied.

    Args:
        admitted: the request.
        agency: this agency's member id.
        kind: what kind of agency it is, with its own rules.
        matcher: the name and version of what the gallery is searched with.
        policy: its own copy of the agreements.
        standing: what is on its own records.
        owner_decision: what its people decided about this request, if they did.
        now: the instant of the decision.
    """
    facts = facts_of_order(admitted.order, sealed=True, standing=standing)
    decision = enforced(policy.decide(facts, agency, now), KNOWN_OBLIGATIONS)
    barred = kind.failed_rules(admitted.order, owner_decision)
    if matcher_switches(matcher) & (standing.switched_off or frozenset()):
        barred = (NOT_SWITCHED_OFF, *barred)
    if decision.obligations is None:
        failed = (*decision.failed, *decision.unknown_obligations, *barred)
        return Denial(decision.code.value, tuple(dict.fromkeys(failed)))
    barred = (*barred, *kind.unmet_duties(decision.obligations))
    if barred:
        return Denial(Reason.POLICY_DENIED.name, barred)
    return Permission(
        duties=strictest(admitted, decision.obligations.for_grant, kind),
        retention_days=decision.obligations.retention_days,
        waived=decision.waived,
        confirm_by=decision.confirm_by,
        confirmer_rank=decision.confirmer_rank,
    )


def strictest(admitted: Admitted, own: Obligations, kind: AgencyKind) -> Obligations:
    """Return the stricter of each duty: the grant's, our agreement's, the order's, our own."""
    granted, asked, ours = admitted.permit.obligations, admitted.order.limits, kind.defaults
    floors = [granted.min_score, own.min_score]
    if asked.min_score is not None:
        floors.append(asked.min_score)
    return Obligations(
        max_candidates=min(
            granted.max_candidates, own.max_candidates, asked.max_candidates, ours.max_candidates
        ),
        min_score=max(floors),
        mode=own.mode,
        hit_no_hit=granted.hit_no_hit or own.hit_no_hit or ours.hit_no_hit,
        release_by_human=(
            granted.release_by_human or own.release_by_human or ours.release_by_human
        ),
        retention_days=min(granted.retention_days, own.retention_days),
        caveats=tuple(dict.fromkeys((*granted.caveats, *own.caveats))),
    )


def open_probe(
    admitted: Admitted,
    *,
    sealed_key_id: str,
    sealed_probe: bytes,
    agency: str,
    openers: Mapping[str, Opener],
    directory: Directory,
    now: datetime,
    model: str,
    dims: int,
) -> Probe:
    """Apply rules (12) to (14) and return the probe, which the caller wipes.

    Raises:
        ProbegateError: ``SEAL_INVALID``, ``KEY_UNKNOWN``, ``KEY_REVOKED``, ``BAD_COMMITMENT``,
            ``PROBE_INVALID`` or ``PROBE_MODEL``.
    """
    opener = openers.get(sealed_key_id)
    if opener is None:  # (12)
        raise ProbegateError(Reason.SEAL_INVALID, "sealed to a key that is not ours")
    directory.resolver(agency, KeyUse.SEAL, now)(sealed_key_id)
    info = probe_info(admitted.order_sha256, agency, sealed_key_id)
    payload = decode_probe(opener.open(sealed_probe, info))
    manifest = admitted.order.probe
    commitment = probe_commitment(payload.salt, payload.template)
    if not compare_digest(commitment, manifest.commitment):  # (13)
        raise ProbegateError(Reason.BAD_COMMITMENT)
    return decode_probe_template(payload.template, manifest, model, dims)  # (14)


def signed_order(envelope: dsse.Envelope, directory: Directory, now: datetime) -> SearchOrder:
    """Apply rule (3): the force owns the first signature's key, and then must own them all.

    Args:
        envelope: the order as it came.
        directory: the directory in force.
        now: when the force's key must be valid.

    Raises:
        ProbegateError: an envelope's or key's reason, or ``ORDER_INVALID``.
    """
    kid = envelope.signatures[0].keyid if envelope.signatures else ""
    for force in directory.members(Role.FORCE):
        if any(key.kid == kid and key.use is KeyUse.SIGN for key in force.keys):
            break
    else:
        raise ProbegateError(Reason.KEY_UNKNOWN, "not a key of any force")
    dsse.verify(envelope, PayloadType.SEARCH_ORDER, directory.resolver(force.id, KeyUse.SIGN, now))
    order = decode_order(envelope.payload)
    if order.force != force.id:
        raise ProbegateError(Reason.ORDER_INVALID, "signed by another force", field="force")
    return order


def _require_fresh(grant: SearchGrant, order: SearchOrder, now: datetime, skew: timedelta) -> None:
    lifetime = grant.expires_at - grant.issued_at
    if not timedelta() < lifetime <= MAX_GRANT_LIFETIME:
        raise ProbegateError(Reason.GRANT_EXPIRED, "lives too long", field="expires_at")
    if not grant.issued_at <= now + skew or not now < grant.expires_at:
        raise ProbegateError(Reason.GRANT_EXPIRED, field="issued_at")
    if not order.created_at <= now + skew or not now < order.expires_at:
        raise ProbegateError(Reason.ORDER_STALE, field="created_at")


def _require_entry(leaf: bytes, grant: SearchGrant, order: SearchOrder, permit: Permit) -> None:
    """Rule (6)."""
    if not compare_digest(hashlib.sha256(leaf).digest(), grant.leaf_sha256):
        raise ProbegateError(Reason.GRANT_INVALID, "of another log entry", field="leaf_sha256")
    try:
        facts: Mapping[str, Any] = parse_leaf(leaf)
    except ProbegateError:
        raise _not_recorded("leaf") from None
    said = {
        "v": 1,
        "type": ORDER_ENTRY,
        "search_id": grant.search_id,
        "force": order.force,
        "order_sha256": grant.order_sha256.hex(),
        "policy_sha256": grant.policy_sha256.hex(),
    }
    for field, expected in said.items():
        if facts.get(field) != expected:
            raise _not_recorded(field)
    decisions = facts.get("decisions")
    ours = [
        one
        for one in (decisions if isinstance(decisions, list) else ())
        if isinstance(one, dict) and one.get("agency") == permit.agency
    ]
    match ours:
        case [{"permitted": True, "agreement_sha256": agreement}] if (
            agreement == permit.agreement_sha256.hex()
        ):
            return
        case _:
            raise _not_recorded("decisions")


def _not_recorded(field: str) -> ProbegateError:
    return ProbegateError(Reason.LOG_PROOF_INVALID, "the entry says otherwise", field=field)
