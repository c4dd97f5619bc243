"""The witness: overtaking is forgiven, two histories never are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from audit import merkle
from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.notes import VerifierKey, note_signer
from audit.settings import WitnessSettings
from audit.witness import (
    Acknowledged,
    ConsistencyProof,
    Witness,
    evidence_against,
    resolve_evidence,
)
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ORIGIN = "broker.example/search"
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
SIGNER = note_signer(ORIGIN, KEY.sign, KEY.public_key().public_bytes_raw())
VKEY = VerifierKey.of(SIGNER)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FORK_AT = 7
SIZES = 40


@cache
def leaf(history: str, index: int) -> bytes:
    """Histories share their first seven entries."""
    name = history if index >= FORK_AT else "shared"
    return merkle.leaf_hash(f"{name} {index}".encode())


@cache
def root(history: str, size: int) -> bytes:
    return merkle.root_of(leaf(history, at) for at in range(size))


@cache
def note(history: str, size: int) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root(history, size)), SIGNER).note


@cache
def proof(history: str, old: int, new: int) -> ConsistencyProof:
    def read(level: int, index: int) -> bytes:
        return merkle.root_of(leaf(history, at) for at in range(index << level, index + 1 << level))

    return ConsistencyProof(old, new, merkle.consistency_proof(read, old, new))


def proofs(history: str, new: int, *old: int) -> list[ConsistencyProof]:
    return [proof(history, one, new) for one in old]


def fresh_engine() -> Engine:
    return create_engine("sqlite://", poolclass=StaticPool)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = fresh_engine()
    yield made
    made.dispose()


@pytest.fixture
def witness(engine: Engine) -> Witness:
    return Witness.open(engine, ORIGIN, VKEY)


def refused(reason: Reason) -> Any:
    return pytest.raises(ProbegateError, match=f"^{reason.name}:")


def test_a_growing_log_is_accepted_and_acknowledged(witness: Witness) -> None:
    assert witness.acknowledged == Acknowledged(0, ())
    newest = 0
    for size in (1, 2, 8, 8, 30):
        one = witness.admit(note("a", size), proofs("a", size, newest) if newest else [], NOON)
        assert one.checkpoint.size == size
        assert one.acknowledged == Acknowledged(size, ())
        newest = size


def test_others_signatures_and_logs_are_invalid(witness: Witness) -> None:
    other = Ed25519PrivateKey.generate()
    stranger = note_signer(ORIGIN, other.sign, other.public_key().public_bytes_raw())
    elsewhere = sign_checkpoint(Checkpoint("other.example", 3, root("a", 3)), SIGNER)
    for bad in (
        sign_checkpoint(Checkpoint(ORIGIN, 3, root("a", 3)), stranger).note,
        elsewhere.note,
        b"nonsense",
    ):
        with refused(Reason.CHECKPOINT_INVALID):
            witness.admit(bad, [], NOON)


def test_without_proof_from_a_known_root_nothing_is_accepted(witness: Witness) -> None:
    witness.admit(note("a", 5), [], NOON)
    later = NOON + timedelta(minutes=3)  # the empty log is no longer recent
    for given_ in ([], proofs("a", 20, 3), [ConsistencyProof(5, 20, ())]):
        with refused(Reason.CHECKPOINT_INCONSISTENT) as error:
            witness.admit(note("a", 20), given_, later)
        assert error.value.metadata["newest_size"] == "5"
    one = witness.admit(note("a", 20), proofs("a", 20, 5), later)
    assert one.acknowledged == Acknowledged(20, ())


def test_overtaking_makes_debts_that_later_proofs_settle(witness: Witness) -> None:
    witness.admit(note("a", 5), [], NOON)
    witness.admit(note("a", 10), proofs("a", 10, 5), NOON)
    one = witness.admit(note("a", 8), proofs("a", 8, 5), NOON)
    assert one.acknowledged == Acknowledged(10, (8,))
    one = witness.admit(note("a", 12), proofs("a", 12, 5), NOON)
    assert one.acknowledged == Acknowledged(10, (8, 12))
    one = witness.admit(note("a", 15), proofs("a", 15, 10, 8, 12), NOON)
    assert one.acknowledged == Acknowledged(15, ())


def test_a_chain_of_proofs_between_debts_is_remembered(witness: Witness) -> None:
    witness.admit(note("a", 5), [], NOON)
    witness.admit(note("a", 10), proofs("a", 10, 5), NOON)
    witness.admit(note("a", 12), proofs("a", 12, 5), NOON)
    witness.admit(note("a", 14), proofs("a", 14, 12), NOON)
    one = witness.admit(note("a", 20), proofs("a", 20, 10, 14), NOON)
    assert one.acknowledged == Acknowledged(20, ())


def test_old_debts_block_until_they_are_settled(engine: Engine, witness: Witness) -> None:
    witness.admit(note("a", 5), [], NOON)
    witness.admit(note("a", 10), proofs("a", 10, 5), NOON)
    witness.admit(note("a", 8), proofs("a", 8, 5), NOON)
    late = NOON + timedelta(seconds=31)
    with refused(Reason.CHECKPOINT_UNRECONCILED) as error:
        witness.admit(note("a", 12), proofs("a", 12, 10), late)
    assert error.value.metadata == {"newest_size": "12", "debts": "1"}
    one = witness.admit(note("a", 13), proofs("a", 13, 12, 8), late)
    assert one.acknowledged == Acknowledged(13, ())


def test_too_many_debts_block(engine: Engine) -> None:
    witness = Witness.open(engine, ORIGIN, VKEY, WitnessSettings(debt_max_count=2))
    witness.admit(note("a", 20), [], NOON)
    for size in (5, 6):
        witness.admit(note("a", size), [], NOON)
    with refused(Reason.CHECKPOINT_UNRECONCILED):
        witness.admit(note("a", 8), [], NOON)
    one = witness.admit(note("a", 8), [proof("a", 8, 20), proof("a", 5, 20)], NOON)
    assert one.acknowledged == Acknowledged(20, (6,))


def test_two_roots_of_one_size_are_kept_as_evidence_and_stop_everything(engine: Engine) -> None:
    witness = Witness.open(engine, ORIGIN, VKEY)
    witness.admit(note("a", 10), [], NOON)
    with refused(Reason.CHECKPOINT_INCONSISTENT):
        witness.admit(note("b", 10), [], NOON)
    assert evidence_against(engine, ORIGIN) == [(note("a", 10), note("b", 10))]
    again = Witness.open(engine, ORIGIN, VKEY)
    for one in (witness, again):
        with refused(Reason.CHECKPOINT_INCONSISTENT):
            one.admit(note("a", 12), proofs("a", 12, 10), NOON)
    assert resolve_evidence(engine, ORIGIN, NOON) == 1
    Witness.open(engine, ORIGIN, VKEY).admit(note("a", 12), [], NOON)
    assert len(evidence_against(engine, ORIGIN)) == 1


def test_memory_persists_with_the_callers_transaction(engine: Engine) -> None:
    witness = Witness.open(engine, ORIGIN, VKEY)
    first = witness.admit(note("a", 5), [], NOON)
    second = witness.admit(note("a", 10), proofs("a", 10, 5), NOON)
    third = witness.admit(note("a", 8), proofs("a", 8, 5), NOON)
    assert Witness.open(engine, ORIGIN, VKEY).acknowledged == Acknowledged(0, ())
    with engine.begin() as connection:
        third.persist(connection)
        second.persist(connection)
        first.persist(connection)
    again = Witness.open(engine, ORIGIN, VKEY)
    assert again.acknowledged == Acknowledged(10, (8,))
    one = again.admit(note("a", 9), proofs("a", 9, 5), NOON)  # recent roots survive too
    assert one.acknowledged == Acknowledged(10, (8, 9))
    with refused(Reason.CHECKPOINT_UNRECONCILED):
        again.admit(note("a", 10), [], NOON + timedelta(seconds=31))  # and so does a debt's clock
    with refused(Reason.CHECKPOINT_INCONSISTENT):
        again.admit(note("b", 10), [], NOON)


def test_what_a_refused_admission_settled_is_kept(engine: Engine) -> None:
    witness = Witness.open(engine, ORIGIN, VKEY, WitnessSettings(debt_max_count=2))
    witness.admit(note("a", 20), [], NOON)
    for size in (5, 6):
        witness.admit(note("a", size), [], NOON)
    late = NOON + timedelta(seconds=31)
    with refused(Reason.CHECKPOINT_UNRECONCILED):
        witness.admit(note("a", 30), proofs("a", 30, 20, 5), late)
    assert Witness.open(engine, ORIGIN, VKEY).acknowledged == Acknowledged(30, (6,))


def test_what_was_refused_settles_nothing_of_another_history(engine: Engine) -> None:
    """Told of a larger root of its own branch, a debt is no prefix of the chain's of that size."""
    witness = Witness.open(engine, ORIGIN, VKEY)
    witness.admit(note("a", 5), [], NOON)
    witness.admit(note("a", 20), proofs("a", 20, 5), NOON)
    witness.admit(note("b", 15), proofs("b", 15, 5), NOON)
    later = NOON + timedelta(seconds=40)
    for history, size, base in (("b", 30, 15), ("a", 30, 20), ("a", 35, 30)):
        with refused(Reason.CHECKPOINT_UNRECONCILED):
            witness.admit(note(history, size), proofs(history, size, base), later)
        assert witness.acknowledged.debts == (15,)


def test_a_damaged_memory_is_not_used(engine: Engine, witness: Witness) -> None:
    witness.admit(note("a", 5), [], NOON)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE witness_states SET state = '{\"newest\":'")
    with refused(Reason.STATE_UNAVAILABLE):
        Witness.open(engine, ORIGIN, VKEY)


STEP = st.tuples(
    st.sampled_from("ab"),
    st.integers(1, SIZES),
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, SIZES), st.integers(0, SIZES)), max_size=6
    ),
    st.booleans(),
    st.sampled_from([0, 0, 1, 10]),
)


@settings(max_examples=scaled(150, 3000), deadline=None)
@given(st.lists(STEP, max_size=25), st.sampled_from([(30, 64), (3, 64), (30, 1)]))
def test_an_equivocating_broker_always_owes_a_debt_it_cannot_settle(
    steps: list[Any], limits: tuple[int, int]
) -> None:
    """Whatever it sends: of two inconsistent accepted checkpoints one is a debt, for ever."""
    engine = fresh_engine()
    patience = WitnessSettings(debt_max_age_s=limits[0], debt_max_count=limits[1])
    witness = Witness.open(engine, ORIGIN, VKEY, patience)
    now, accepted = NOON, dict[tuple[str, int], datetime]()
    refusals = set[Reason]()
    for history, size, offered, honest, seconds in steps:
        now += timedelta(seconds=seconds)
        given_ = [proof(h, min(x, y), max(x, y)) for h, x, y in offered if y]
        if honest:  # prove from everything acknowledged, as well as this history can
            known = witness.acknowledged
            given_ += [
                proof(history, min(x, size), max(x, size))
                for x in (known.newest_size, *known.debts)
                if (x and (history, x) in accepted) or 0 < x <= FORK_AT
            ]
        owed = set(witness.acknowledged.debts)
        try:
            state = witness.admit(note(history, size), given_, now).acknowledged
        except ProbegateError as error:
            refusals.add(error.reason)
            continue
        name = "shared" if size <= FORK_AT else history
        accepted.setdefault((name, size), now)
        accepted.setdefault((history, size), now)
        clean = {h for h, n in accepted if n > FORK_AT and n not in state.debts and h != "shared"}
        assert len(clean) <= 1, "two histories accepted, and none of it owed"
        still = owed & set(state.debts)
        for debt in still:
            since = min(at for (_, n), at in accepted.items() if n == debt)
            assert (now - since).total_seconds() <= patience.debt_max_age_s
    assert refusals <= {Reason.CHECKPOINT_INCONSISTENT, Reason.CHECKPOINT_UNRECONCILED}
    engine.dispose()


@settings(max_examples=scaled(60, 1000), deadline=None)
@given(st.permutations(range(1, 25)), st.integers(1, 8))
def test_an_honest_broker_is_never_stopped_by_overtaking(order: list[int], reach: int) -> None:
    """Grants arrive in any order within a window; proofs start from what was acknowledged."""
    engine = fresh_engine()
    witness = Witness.open(engine, ORIGIN, VKEY)
    arrivals = sorted(range(1, 25), key=lambda size: (size + order[size - 1] % reach, size))
    acknowledged = [Acknowledged(0, ())]
    for size in arrivals:
        known = acknowledged[max(0, len(acknowledged) - reach)]  # replies take a while
        given_ = [
            proof("a", min(one, size), max(one, size))
            for one in (known.newest_size, *known.debts)
            if one
        ]
        acknowledged.append(witness.admit(note("a", size), given_, NOON).acknowledged)
    last = acknowledged[-1]
    done = witness.admit(note("a", 30), proofs("a", 30, last.newest_size, *last.debts), NOON)
    assert done.acknowledged == Acknowledged(30, ())
    engine.dispose()
