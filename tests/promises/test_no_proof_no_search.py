"""Promise 1: no proof, no search. A lying broker meets a real adapter over real mTLS.

The liar holds everything the real broker holds: its certificate, its signing key and its log's key.
What it has not got is an honest log, and nothing else helps.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import resource
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from probegate.agency.v1 import match_service_pb2 as agency_pb
from probegate.common.v1 import search_pb2

from agency_adapters.models import MatchParams
from audit import tables
from audit.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from audit.merkle import (
    leaf_hash,
    root_from_inclusion,
    verify_consistency,
    verify_inclusion,
)
from audit.notes import NoteSigner, VerifierKey, note_signer
from audit.reader import LogReader
from audit.verify import verify_folder
from audit.witness import ConsistencyProof, evidence_against
from audit.writer import NewEntry
from tests.adapters import BrokerSide, Scene, entries, make_world, scene
from tests.brokers import PERMITTED, Rig, outcomes, rigged
from tests.peers import Behaviour
from tests.scale import scaled
from tests.world import Request, World, template
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState, Permit
from trust.payload_types import PayloadType
from trust.wire import decode_grant, decode_order, encode_order

INCONSISTENT = Reason.CHECKPOINT_INCONSISTENT
ACQUAINTED = timedelta(seconds=121)
"""After this the empty log, which needs no proof, no longer serves as a root to prove from."""


@pytest.fixture(scope="module")
def scheme(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("scheme"))


@pytest.fixture
async def lies(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(scheme, tmp_path, monkeypatch) as made:
        yield made


def log_signer(world: World) -> NoteSigner:
    """Return the broker's own log key: a liar signs whatever it likes with it."""
    key = world.folder("broker").log_search_signer()
    origin = log_key(world).name
    return note_signer(origin, key.sign, key.public_key)


def log_key(world: World) -> VerifierKey:
    for key in world.directory.keys("broker", KeyUse.LOG, datetime.now(UTC)):
        if key.name is not None and key.name.endswith("/search"):
            return VerifierKey.listed(key)
    raise AssertionError


def signed(world: World, size: int, root: bytes) -> bytes:
    """Sign any tree as the broker's log."""
    return sign_checkpoint(Checkpoint(log_key(world).name, size, root), log_signer(world)).note


# --- the honest way, without which the rest would prove nothing ------------------------------


async def test_with_proof_it_is_searched_once(lies: Scene) -> None:
    report = await lies.honest()
    assert report.state is OutcomeState.CANDIDATES
    assert lies.scans.count == 1
    assert [entry["type"] for entry in entries(lies.adapter)] == ["match.report"]


# --- the leaf and its inclusion --------------------------------------------------------------


async def test_no_leaf(lies: Scene) -> None:
    papers = await lies.papers()
    await lies.refused(papers.params(leaf=b""), Reason.GRANT_INVALID)


async def test_a_grant_that_names_an_empty_leaf(lies: Scene) -> None:
    papers = await lies.papers(grant_changes={"leaf_sha256": hashlib.sha256(b"").digest()})
    await lies.refused(papers.params(leaf=b""), Reason.LOG_PROOF_INVALID)


async def test_another_searchs_leaf_with_its_good_proof(lies: Scene) -> None:
    other = await lies.papers()
    mine = await lies.papers()
    borrowed = {
        "leaf": other.dossier.leaf,
        "leaf_index": other.dossier.leaf_index,
        "inclusion": other.dossier.inclusion,
        "checkpoint": other.dossier.checkpoint,
    }
    await lies.refused(mine.params(**borrowed), Reason.GRANT_INVALID)
    # Not even where the grant is signed anew to name that leaf.
    named = {"leaf_sha256": hashlib.sha256(other.dossier.leaf).digest()}
    mine = await lies.papers(grant_changes=named)
    await lies.refused(mine.params(**borrowed), Reason.LOG_PROOF_INVALID)


async def test_a_leaf_that_was_never_put_in_the_log(lies: Scene) -> None:
    """The leaf says all the right things and the grant names it; only the log does not hold it."""
    await lies.honest()
    elsewhere = await lies.another_broker("never-shown")
    unlogged = await lies.papers_of(elsewhere)
    logged = await lies.papers()
    mixed = {
        "leaf_index": logged.dossier.leaf_index,
        "inclusion": logged.dossier.inclusion,
        "checkpoint": logged.dossier.checkpoint,
    }
    params = replace(unlogged.params(**mixed), consistency=logged.consistency)
    await lies.refused(params, Reason.LOG_PROOF_INVALID)


@pytest.mark.parametrize("forged", ["none", "short", "long", "zeroes", "not a hash", "reversed"])
async def test_a_forged_inclusion_proof(lies: Scene, forged: str) -> None:
    for n in range(4):
        await lies.broker.logs.search.append(NewEntry({"n": n}))
    papers = await lies.papers()
    await lies.broker.logs.search.append(NewEntry({"n": 9}))
    size = lies.broker.logs.search.checkpoint.checkpoint.size
    proof = lies.broker.logs.search.inclusion(papers.dossier.leaf_index, size)
    assert len(proof) > 1
    inclusion = {
        "none": (),
        "short": proof[:-1],
        "long": (*proof, bytes(32)),
        "zeroes": tuple(bytes(32) for _ in proof),
        "not a hash": (*proof[:-1], proof[-1][:-1]),
        "reversed": proof[::-1],
    }[forged]
    note = lies.broker.logs.search.checkpoint.note
    changed = papers.params(inclusion=inclusion, checkpoint=note)
    await lies.refused(changed, Reason.LOG_PROOF_INVALID)
    assert (await lies.ask(papers.params(inclusion=proof, checkpoint=note))).report.payload


@pytest.mark.parametrize("index", [0, 2, 2**63 - 1, 2**64 - 1])
async def test_another_place_in_the_tree(lies: Scene, index: int) -> None:
    await lies.broker.logs.search.append(NewEntry({"n": 0}))
    papers = await lies.papers()
    await lies.refused(papers.params(leaf_index=index), Reason.LOG_PROOF_INVALID)


async def test_a_leaf_that_says_denied_for_this_agency(lies: Scene) -> None:
    papers = await lies.papers(permitted=False)
    await lies.refused(papers.params(), Reason.LOG_PROOF_INVALID)


@pytest.mark.parametrize(
    "decisions",
    [
        [],
        [{"agency": "pnd", "permitted": True, "agreement_sha256": "00" * 32}],
        [{"agency": "custody", "permitted": "true", "agreement_sha256": "00" * 32}],
        [{"agency": "custody", "permitted": 1, "agreement_sha256": "00" * 32}],
        [["custody", True]],
        {"custody": True},
        None,
    ],
)
async def test_a_leaf_that_does_not_say_permitted(lies: Scene, decisions: object) -> None:
    papers = await lies.papers(leaf_changes={"decisions": decisions})
    await lies.refused(papers.params(), Reason.LOG_PROOF_INVALID)


async def test_a_leaf_that_says_both(lies: Scene) -> None:
    """Permitted and denied in one entry is not permitted, whichever stands first."""
    honest = await lies.papers()
    permit = decode_grant(honest.dossier.grant.payload).permits[0]
    one = {
        "agency": "custody",
        "permitted": True,
        "code": "PERMITTED",
        "agreement_sha256": permit.agreement_sha256.hex(),
        "failed": [],
    }
    two = one | {"permitted": False}
    for decisions in ([one, two], [two, one], [one, one]):
        papers = await lies.papers(leaf_changes={"decisions": decisions})
        await lies.refused(papers.params(), Reason.LOG_PROOF_INVALID)


# --- checkpoints -----------------------------------------------------------------------------


async def test_a_checkpoint_that_is_not_signed_by_the_log(lies: Scene) -> None:
    papers = await lies.papers()
    checkpoint = open_checkpoint(papers.dossier.checkpoint, [log_key(lies.world)]).checkpoint
    envelope_key = lies.world.folder("broker").signer()
    strangers = note_signer(checkpoint.origin, envelope_key.sign, envelope_key.public_key)
    text, _, signature = papers.dossier.checkpoint.rpartition(b"\n\n")
    for note in (
        sign_checkpoint(checkpoint, strangers).note,
        text + b"\n\n",
        papers.dossier.checkpoint.replace(b"\n1\n", b"\n2\n"),
        text + b"\nan extension line\n\n" + signature,
        b"",
        b"\xff\xfe" * 100,
        papers.dossier.checkpoint * 200,
    ):
        await lies.refused(papers.params(checkpoint=note), Reason.CHECKPOINT_INVALID)
    assert (await lies.ask(papers.params())).report.payload


async def test_a_checkpoint_of_another_origin(lies: Scene) -> None:
    """The agency's own log, and the broker's log under a made-up name, are not the search log."""
    papers = await lies.papers()
    root = leaf_hash(papers.dossier.leaf)
    key = lies.world.folder("broker").log_search_signer()
    other = note_signer("other.probegate.test/search", key.sign, key.public_key)
    note = sign_checkpoint(Checkpoint("other.probegate.test/search", 1, root), other).note
    await lies.refused(papers.params(checkpoint=note), Reason.CHECKPOINT_INVALID)
    own = lies.adapter.logs.search.checkpoint.note
    await lies.refused(papers.params(checkpoint=own), Reason.CHECKPOINT_INVALID)


async def test_missing_and_forged_consistency(lies: Scene) -> None:
    for _ in range(3):
        await lies.honest()
    lies.clock.ahead += ACQUAINTED
    papers = await lies.papers()
    (proof,) = [p for p in papers.consistency if p.old_size == 3]
    good = papers.params()
    for consistency in (
        (),
        (replace(proof, hashes=()),),
        (replace(proof, hashes=(*proof.hashes, bytes(32))),),
        (replace(proof, hashes=tuple(bytes(32) for _ in proof.hashes)),),
        (replace(proof, old_size=0),),
        (replace(proof, old_size=4),),
        (replace(proof, new_size=5),),
        (ConsistencyProof(2**64 - 1, 4, proof.hashes),),
    ):
        await lies.refused(replace(good, consistency=consistency), INCONSISTENT)
    assert (await lies.ask(good)).report.payload


async def test_a_flood_of_proofs(lies: Scene) -> None:
    papers = await lies.papers()
    flood = tuple(ConsistencyProof(0, 1, ()) for _ in range(2000))
    await lies.refused(replace(papers.params(), consistency=flood), Reason.MESSAGE_TOO_LARGE)


async def test_two_histories_of_one_size_are_kept_as_evidence_and_stop_everything(
    lies: Scene,
) -> None:
    await lies.honest()
    fork = await lies.another_broker("fork")
    forked = await lies.papers_of(fork)
    await lies.refused(forked.params(), INCONSISTENT)
    ((first, second),) = evidence_against(lies.adapter.state.engine, log_key(lies.world).name)
    key = log_key(lies.world)
    one, two = (open_checkpoint(note, [key]).checkpoint for note in (first, second))
    assert one.size == two.size
    assert one.root != two.root
    # Honest grants are refused from then on, of either history, and after a restart as well.
    for _ in range(2):
        await lies.refused((await lies.papers()).params(), INCONSISTENT)
        again = await lies.papers_of(fork)
        await lies.refused(again.params(), INCONSISTENT)
        await lies.restart()
    assert lies.scans.count == 1


async def test_a_second_history_of_another_size_has_no_proof(lies: Scene) -> None:
    await lies.honest()
    lies.clock.ahead += ACQUAINTED
    fork = await lies.another_broker("fork")
    for n in range(3):
        await fork.logs.search.append(NewEntry({"n": n}))
    forked = await lies.papers_of(fork)
    size = fork.logs.search.checkpoint.checkpoint.size
    true_of_the_fork = ConsistencyProof(1, size, fork.logs.search.consistency(1, size))
    for consistency in ((), (true_of_the_fork,)):
        await lies.refused(replace(forked.params(), consistency=consistency), INCONSISTENT)
    assert (await lies.honest()).state is OutcomeState.CANDIDATES


async def test_a_log_that_was_rolled_back_and_written_anew(lies: Scene) -> None:
    """The broker deletes its newest entries and signs on from an older copy of its database."""
    await lies.honest()
    await lies.broker.logs.close()
    shutil.copytree(lies.root / "broker", lies.root / "older")
    lies.broker = await lies.another_broker("broker")
    for old in (1, 2, 3):
        lies.broker.sent.append(old)
        await lies.honest()
    older = await lies.another_broker("older")
    older.sent.append(1)
    # Size 2 again, with another root; its proof from size 1 is a good one.
    rewritten = await lies.papers_of(older)
    root = open_checkpoint(rewritten.dossier.checkpoint, [log_key(lies.world)]).checkpoint.root
    shared = leaf_hash(older.logs.search.leaf(0))
    verify_consistency(1, 2, shared, root, rewritten.consistency[0].hashes)
    await lies.refused(rewritten.params(), INCONSISTENT)
    assert len(evidence_against(lies.adapter.state.engine, log_key(lies.world).name)) == 1
    await lies.refused((await lies.papers()).params(), INCONSISTENT)


async def test_a_fork_hidden_in_a_gap_is_found_out_and_stops_everything(lies: Scene) -> None:
    """A size the adapter never saw can be forked from a root it knows; the debt gives it away."""
    await lies.honest()
    await lies.broker.logs.close()
    shutil.copytree(lies.root / "broker", lies.root / "older")
    lies.broker = await lies.another_broker("broker")
    lies.broker.sent.append(1)
    await lies.broker.logs.search.append(NewEntry({"n": 2}))
    await lies.honest()  # size 3: size 2 was never shown
    older = await lies.another_broker("older")
    older.sent.append(1)
    reply = await lies.ask((await lies.papers_of(older)).params())
    assert tuple(reply.acknowledged.debts) == (2,)
    await _recorded_at(lies, 2)  # the agency's own record of the forked root
    # The true log cannot settle it with any proof of its own ...
    papers = await lies.papers()
    bluff = ConsistencyProof(2, 4, lies.broker.logs.search.consistency(2, 4))
    bluffing = replace(papers.params(), consistency=(*papers.consistency, bluff))
    await lies.refused(bluffing, INCONSISTENT)
    # ... and once the debt is old, nothing is searched any more, under either history.
    await _stopped_once_the_debt_is_old(lies, older)


async def test_a_fork_at_first_acquaintance_is_a_debt_and_stops_everything(lies: Scene) -> None:
    """Everybody knows the empty log, so the first checkpoints need no proof; they must be paid."""
    await lies.honest()
    fork = await lies.another_broker("fork")
    await fork.logs.search.append(NewEntry({"n": 0}))
    reply = await lies.ask((await lies.papers_of(fork)).params())
    assert tuple(reply.acknowledged.debts) == (2,)
    await _recorded_at(lies, 2)
    lies.broker.sent.append(1)
    await lies.broker.logs.search.append(NewEntry({"n": 2}))
    assert (await lies.honest()).state is OutcomeState.CANDIDATES
    await _stopped_once_the_debt_is_old(lies, fork)


async def _recorded_at(lies: Scene, size: int) -> None:
    said = entries(lies.adapter)[-1]
    assert said["type"] == "match.report"
    assert said["broker_checkpoint"]["size"] == size


async def _stopped_once_the_debt_is_old(lies: Scene, fork: BrokerSide) -> None:
    lies.clock.ahead += timedelta(seconds=31)
    for n in range(9):  # on to sizes of which nothing else was ever shown
        await fork.logs.search.append(NewEntry({"n": n}))
    for side in (lies.broker, fork):
        papers = await lies.papers_of(side)
        await lies.refused(papers.params(), Reason.CHECKPOINT_UNRECONCILED)
    await lies.restart()
    papers = await lies.papers()
    await lies.refused(papers.params(), Reason.CHECKPOINT_UNRECONCILED)


async def test_a_tree_too_large_to_record_is_not_searched(lies: Scene) -> None:
    """A root over 2**60 leaves is quickly forged; its size does not fit the agency's own log."""
    papers = await lies.papers()
    for size in (2**53, 2**60, 2**63 - 1):
        proof = tuple(hashlib.sha256(b"%d" % n).digest() for n in range(size.bit_length() - 1))
        while True:
            try:
                root = root_from_inclusion(0, size, leaf_hash(papers.dossier.leaf), proof)
                break
            except ProbegateError:
                proof = (*proof, bytes(32))
        changed = papers.params(inclusion=proof, checkpoint=signed(lies.world, size, root))
        await lies.refused(changed, Reason.CHECKPOINT_INVALID)
    assert (await lies.honest()).state is OutcomeState.CANDIDATES


@pytest.mark.parametrize("use", ["log", "sign"])
async def test_a_key_that_was_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    world = make_world(tmp_path / "scheme")
    async with scene(world, tmp_path, monkeypatch) as lies:
        await lies.honest()
        folder = world.folder("broker")
        key = folder.log_search_signer() if use == "log" else folder.signer()
        world.scheme.revoke_key("broker", key.kid, datetime.now(UTC) - timedelta(seconds=1))
        papers = await lies.papers()
        world.directory = world.scheme.publish_directory()
        await lies.adapter.refresh_directory()
        await lies.refused(papers.params(), Reason.KEY_REVOKED, Reason.KEY_UNKNOWN)


# --- grants ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issued", "lifetime"), [(-61, 60), (-3600, 60), (0, 61), (0, 86_400), (40, 60), (0, -1)]
)
async def test_a_grant_out_of_its_time(lies: Scene, issued: int, lifetime: int) -> None:
    at = datetime.now(UTC) + timedelta(seconds=issued)
    times = {"issued_at": at, "expires_at": at + timedelta(seconds=lifetime)}
    papers = await lies.papers(grant_changes=times)
    await lies.refused(papers.params(), Reason.GRANT_EXPIRED)


async def test_a_good_grant_kept_until_it_is_stale(lies: Scene) -> None:
    papers = await lies.papers()
    lies.clock.ahead += timedelta(seconds=60)
    await lies.refused(papers.params(), Reason.GRANT_EXPIRED)


async def test_a_grant_for_another_agency(lies: Scene) -> None:
    honest = decode_grant((await lies.papers()).dossier.grant.payload).permits[0]
    elsewhere = (honest.model_copy(update={"agency": "pnd"}),)
    papers = await lies.papers(grant_changes={"permits": elsewhere})
    await lies.refused(papers.params(), Reason.GRANT_INVALID)


async def test_an_order_for_another_agency(lies: Scene) -> None:
    """The broker grants what the force did not ask for."""
    order = Request(lies.world).order().model_copy(update={"agencies": ("pnd",)})
    envelope = dsse.sign(
        PayloadType.SEARCH_ORDER, encode_order(order), lies.world.folder("northshire").signer()
    )
    papers = await lies.papers(
        grant_changes={"order_sha256": hashlib.sha256(envelope.payload).digest()}
    )
    await lies.refused(papers.params(order=envelope), Reason.GRANT_INVALID)


async def test_a_grant_for_another_order(lies: Scene) -> None:
    papers = await lies.papers()
    other = Request(lies.world, probe=template(4)).envelope()
    await lies.refused(papers.params(order=other), Reason.GRANT_INVALID)


async def test_a_grant_for_another_agreement_than_was_logged(lies: Scene) -> None:
    permit = decode_grant((await lies.papers()).dossier.grant.payload).permits[0]
    other = Permit(agency="custody", agreement_sha256=bytes(32), obligations=permit.obligations)
    papers = await lies.papers(grant_changes={"permits": (other,)})
    await lies.refused(papers.params(), Reason.LOG_PROOF_INVALID)


async def test_a_grant_for_another_search_than_was_logged(lies: Scene) -> None:
    papers = await lies.papers(grant_changes={"search_id": str(uuid.uuid4())})
    await lies.refused(papers.params(), Reason.LOG_PROOF_INVALID)


async def test_a_grant_nobody_or_the_wrong_people_signed(lies: Scene) -> None:
    papers = await lies.papers()
    grant = papers.dossier.grant
    force = lies.world.folder("northshire").signer()
    by_force = dsse.sign(PayloadType.SEARCH_GRANT, grant.payload, force)
    both = dsse.sign(PayloadType.SEARCH_GRANT, grant.payload, lies.broker.signer, force)
    as_order = dsse.sign(PayloadType.SEARCH_ORDER, grant.payload, lies.broker.signer)
    for changed, reason in (
        (replace(grant, signatures=()), Reason.ENVELOPE_INVALID),
        (replace(grant, signatures=grant.signatures * 2), Reason.ENVELOPE_INVALID),
        (replace(grant, payload_type="text/plain"), Reason.ENVELOPE_INVALID),
        (as_order, Reason.ENVELOPE_INVALID),
        (replace(as_order, payload_type=grant.payload_type), Reason.ENVELOPE_TAMPERED),
        (by_force, Reason.KEY_UNKNOWN),
        (both, Reason.KEY_UNKNOWN),
        (replace(grant, payload=grant.payload + b"\x00"), Reason.ENVELOPE_TAMPERED),
    ):
        await lies.refused(papers.params(grant=changed), reason)
    assert (await lies.ask(papers.params())).report.payload


async def test_the_same_grant_again_is_the_same_answer_and_no_second_search(lies: Scene) -> None:
    params = (await lies.papers()).params()
    first = await lies.ask(params)
    again = await lies.ask(params)
    at_once = await asyncio.gather(*(lies.ask(params) for _ in range(4)))
    await lies.restart()
    late = await lies.ask(params)
    for reply in (again, *at_once, late):
        assert reply.report == first.report
        assert reply.agency_leaf_index == first.agency_leaf_index
    assert lies.scans.count == 1
    assert len(entries(lies.adapter)) == 1


async def test_an_order_again_under_a_new_grant(lies: Scene) -> None:
    request = Request(lies.world)
    first, second = await lies.papers(request), await lies.papers(request)
    assert first.dossier.order.payload == second.dossier.order.payload
    results = await asyncio.gather(
        lies.ask(first.params()), lies.ask(second.params()), return_exceptions=True
    )
    (refused,) = [one for one in results if isinstance(one, ProbegateError)]
    assert refused.reason is Reason.ORDER_REPLAYED
    assert lies.scans.count == 1
    third = await lies.papers(request)
    await lies.refused(third.params(), Reason.ORDER_REPLAYED)
    await lies.restart()
    await lies.refused(third.params(), Reason.ORDER_REPLAYED)


# --- orders ----------------------------------------------------------------------------------


async def test_two_orders_under_one_search_id(lies: Scene) -> None:
    """Two answers under one id would list the same records under the same references."""
    search_id = str(uuid.uuid4())
    one_id: Any = {
        "leaf_changes": {"search_id": search_id},
        "grant_changes": {"search_id": search_id},
    }
    assert (await lies.honest(**one_id)).candidates
    for _ in range(3):
        papers = await lies.papers(**one_id)
        await lies.refused(papers.params(), Reason.GRANT_INVALID)
    await lies.restart()
    papers = await lies.papers(**one_id)
    await lies.refused(papers.params(), Reason.GRANT_INVALID)


async def test_two_orders_under_one_search_id_at_once(lies: Scene) -> None:
    search_id = str(uuid.uuid4())
    one_id: Any = {
        "leaf_changes": {"search_id": search_id},
        "grant_changes": {"search_id": search_id},
    }
    both = [(await lies.papers(**one_id)).params() for _ in range(2)]
    answers = await asyncio.gather(*(lies.ask(one) for one in both), return_exceptions=True)
    refused = [one.reason for one in answers if isinstance(one, ProbegateError)]
    assert refused == [Reason.GRANT_INVALID]
    assert lies.scans.count == 1
    assert sorted(one["type"] for one in entries(lies.adapter)) == ["match.refused", "match.report"]


async def test_an_order_the_broker_invented(lies: Scene) -> None:
    """Everything is in the log and proved; only no force ever signed it."""
    honest = Request(lies.world)
    for signer, reason in (
        (lies.broker.signer, Reason.KEY_UNKNOWN),
        (lies.world.folder("custody").signer(), Reason.KEY_UNKNOWN),
        (lies.world.folder("southmere").signer(), Reason.ORDER_INVALID),
    ):
        envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(honest.order()), signer)
        papers = await lies.papers(honest)
        await lies.refused(papers.params(order=envelope), reason)
    papers = await lies.papers(honest)
    unsigned = replace(papers.dossier.order, signatures=())
    await lies.refused(papers.params(order=unsigned), Reason.KEY_UNKNOWN)


async def test_an_order_the_broker_changed(lies: Scene) -> None:
    """The force's signature, over a bigger search than it asked for."""
    request = Request(lies.world)
    envelope = request.envelope()
    order = decode_order(envelope.payload)
    bigger = order.model_copy(
        update={"limits": order.limits.model_copy(update={"max_candidates": 100})}
    )
    payload = encode_order(bigger)
    papers = await lies.papers(
        request, grant_changes={"order_sha256": hashlib.sha256(payload).digest()}
    )
    changed = papers.params(order=replace(envelope, payload=payload))
    await lies.refused(changed, Reason.ENVELOPE_TAMPERED)


@pytest.mark.parametrize("member", ["northshire", "southmere", "custody", "inspectorate"])
async def test_nobody_but_a_broker_may_ask(lies: Scene, member: str) -> None:
    params = (await lies.papers()).params()
    with pytest.raises(ProbegateError) as raised:
        await lies.ask(params, member)
    assert raised.value.reason is Reason.CHANNEL_ROLE
    assert lies.scans.count == 0
    assert entries(lies.adapter) == []  # a closed door is no event of the search log


async def test_bit_flips_anywhere_in_the_papers_are_refused(lies: Scene) -> None:
    """One flipped bit of what is signed or proved: always a refusal, always on the record."""
    await lies.honest()
    papers = await lies.papers()
    good = papers.params()
    rng = random.Random(7)
    for _ in range(scaled(40, 2000)):
        flipped = bytearray(good.dossier)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        params = MatchParams(
            bytes(flipped), good.sealed_key_id, good.sealed_probe, good.consistency
        )
        before, refused = lies.scans.count, None
        try:
            await lies.ask(params)
        except ProbegateError as error:
            refused = error
        last = entries(lies.adapter)[-1]["type"]
        if refused is None:  # a bit that carries nothing: the answer is the one answer
            assert last in {"match.report", "match.refused"}
        else:
            assert refused.reason is not Reason.UNEXPECTED
            assert (last, lies.scans.count) == ("match.refused", before)
    assert lies.scans.count <= 2
    assert (await lies.ask(good)).report.payload


# --- the broker's own side -------------------------------------------------------------------


@contextmanager
def no_room_for_files() -> Iterator[None]:
    """Let no file of this process grow, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def _refused_and_nobody_asked(rig: Rig, *reasons: Reason) -> None:
    for _ in range(2):
        with pytest.raises(ProbegateError) as raised:
            await rig.search()
        assert raised.value.reason in reasons
    assert rig.calls() == 0
    assert rig.broker.searches.count == 0
    assert await rig.broker.reading.page("northshire", 10, "") == ((), "")


async def test_nothing_is_sent_when_the_log_is_closed(world: World) -> None:
    async with rigged(world) as rig:
        await rig.broker.logs.search.close()
        await _refused_and_nobody_asked(rig, Reason.LOG_UNAVAILABLE)


async def test_nothing_is_sent_when_another_sequencer_moved_the_log(world: World) -> None:
    async with rigged(world) as rig:
        with rig.broker.engine.begin() as connection:
            connection.execute(tables.heads.update().values(size=7))
        await _refused_and_nobody_asked(rig, Reason.LOG_UNAVAILABLE)


async def test_nothing_is_sent_when_the_disk_is_full(world: World) -> None:
    async with rigged(world) as rig:
        connection = rig.broker.logs.search._session.connection
        raw: Any = connection.connection.driver_connection
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        raw.execute(f"PRAGMA max_page_count = {pages}")
        await _refused_and_nobody_asked(rig, Reason.DISK_FULL, Reason.LOG_UNAVAILABLE)


async def test_nothing_is_sent_when_no_file_may_grow(world: World) -> None:
    async with rigged(world) as rig:
        with no_room_for_files():
            await _refused_and_nobody_asked(rig, Reason.DISK_FULL, Reason.LOG_UNAVAILABLE)


async def test_a_search_whose_end_cannot_be_recorded_is_told_to_nobody(world: World) -> None:
    """Recorded and asked; then the log fails: no result, and it goes on at the next start."""
    async with rigged(world, serving=("pnd",)) as rig:
        pnd = rig.peers["pnd"]
        pnd.knobs.behaviour = Behaviour.HANGS
        request = Request(world, agencies=("pnd",))
        started = await rig.create(request, wait_s=0)
        await rig.called("pnd")
        await rig.broker.logs.search.close()
        with pytest.raises(ProbegateError) as raised:
            await rig.broker.reading.cancel("northshire", started.record.search_id)
        assert raised.value.reason is Reason.LOG_UNAVAILABLE
        kept = await rig.broker.reading.get("northshire", started.record.search_id)
        assert kept.record.result is None
        assert kept.receipt == b""
        pnd.knobs.behaviour = Behaviour.CANDIDATES
        await rig.crash()
        await rig.reopen()
        ended = await rig.create(request)
        assert ended.record.search_id == started.record.search_id
        assert outcomes(ended)["pnd"].state is OutcomeState.CANDIDATES


async def test_whatever_an_agency_ever_received_is_in_the_published_log(world: World) -> None:
    async with rigged(world) as rig:
        both = [Request(world, force=f, agencies=PERMITTED) for f in ("northshire", "southmere")]
        many = [Request(world, agencies=PERMITTED) for _ in range(scaled(10, 300))]
        await asyncio.gather(*(rig.create(request) for request in (*both, *many)))
        await rig.search(("dwp",))  # denied: recorded, and sent to nobody
        received = [data for peer in rig.peers.values() for data in peer.requests]
        assert len(received) == len(PERMITTED) * (len(many) + 2)
    folder = world.root / "logs" / "broker" / "search"
    key = log_key(world)
    assert verify_folder(folder, key).ok
    reader = LogReader(folder, key)
    published = [leaf for _, leaf in reader.leaves()]
    brokers = world.directory.resolver("broker", KeyUse.SIGN, datetime.now(UTC))
    for data in received:
        dossier = agency_pb.Dossier.FromString(agency_pb.MatchRequest.FromString(data).dossier)
        assert published[dossier.leaf_index] == dossier.leaf
        at = open_checkpoint(dossier.checkpoint, [key], key.name).checkpoint
        assert at.size <= reader.size
        verify_inclusion(
            dossier.leaf_index, at.size, leaf_hash(dossier.leaf), dossier.inclusion, at.root
        )
        grant = search_pb2.SearchGrant.FromString(dossier.grant.payload)
        assert grant.leaf_sha256 == hashlib.sha256(dossier.leaf).digest()
        assert grant.order_sha256 == hashlib.sha256(dossier.order.payload).digest()
        dsse.verify(
            dsse.Envelope(
                dossier.grant.payload_type,
                dossier.grant.payload,
                tuple(dsse.Signature(s.key_id, s.signature) for s in dossier.grant.signatures),
            ),
            PayloadType.SEARCH_GRANT,
            brokers,
        )
    orders = [facts for _, facts in reader.facts() if facts["type"] == "search.order"]
    assert len(orders) == len(many) + 3


def test_the_liar_is_as_strong_as_the_broker(scheme: World, tmp_path: Path) -> None:
    """The tests above attack with the broker's own keys, not with keys that are merely refused."""
    side = BrokerSide.open(scheme, tmp_path)
    assert side.signer.kid == scheme.folder("broker").signer().kid
    assert VerifierKey.of(log_signer(scheme)) == log_key(scheme)
    asyncio.run(side.logs.close())
