"""RFC 6962 arithmetic: published vectors, and every proof against brute force."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import merkle
from trust.errors import ProbegateError, Reason

VECTORS = Path(__file__).parents[1] / "data" / "merkle"


def vectors(kind: str) -> list[Any]:
    return [
        pytest.param(json.loads(path.read_text()), id=str(path.relative_to(VECTORS)))
        for path in sorted((VECTORS / kind).rglob("*.json"))
    ]


def unb64(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def proof_of(vector: dict[str, Any]) -> list[bytes]:
    return [unb64(one) for one in vector["proof"] or []]


def brute_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    pair = brute_root(leaves[:split]) + brute_root(leaves[split:])
    return sha256(b"\x01" + pair).digest()


def brute_path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*brute_path(index, leaves[:split]), brute_root(leaves[split:])]
    return [*brute_path(index - split, leaves[split:]), brute_root(leaves[:split])]


def brute_subproof(old: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if complete else [brute_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        head = brute_subproof(old, leaves[:split], complete=complete)
        return [*head, brute_root(leaves[split:])]
    return [
        *brute_subproof(old - split, leaves[split:], complete=False),
        brute_root(leaves[:split]),
    ]


LEAVES = [merkle.leaf_hash(bytes([n % 251, n // 251])) for n in range(300)]


def read(level: int, index: int) -> bytes:
    return brute_root(LEAVES[index << level : (index + 1) << level])


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_inclusion_vectors(vector: dict[str, Any]) -> None:
    def check() -> None:
        merkle.verify_inclusion(
            vector["leafIdx"],
            vector["treeSize"],
            unb64(vector["leafHash"]),
            proof_of(vector),
            unb64(vector["root"]),
        )

    if not vector["wantErr"]:
        check()
        return
    with pytest.raises(ProbegateError) as refused:
        check()
    assert refused.value.reason is Reason.LOG_PROOF_INVALID


def is_hash(text: str) -> bool:
    return len(unb64(text)) == merkle.HASH_BYTES


@pytest.mark.parametrize("vector", [*vectors("consistency"), *vectors("subtreeconsistency")])
def test_consistency_vectors(vector: dict[str, Any]) -> None:
    def check() -> None:
        merkle.verify_subtree_consistency(
            vector.get("start", 0),
            vector["end"] if "end" in vector else vector["size1"],
            vector["size"] if "size" in vector else vector["size2"],
            unb64(vector["root1"]),
            unb64(vector["root2"]),
            proof_of(vector),
        )

    # Upstream accepts empty trees and roots of any length; both prove nothing, and are refused.
    empty = vector.get("size1", 1) == 0 or ("start" in vector and vector["start"] == vector["end"])
    if not vector["wantErr"] and is_hash(vector["root1"]) and not empty:
        check()
        return
    with pytest.raises(ProbegateError) as refused:
        check()
    assert refused.value.reason is Reason.CHECKPOINT_INCONSISTENT


@pytest.mark.parametrize("vector", vectors("subtreeinclusion"))
def test_subtree_inclusion_vectors(vector: dict[str, Any]) -> None:
    start, end = vector["start"], vector["end"]

    def check() -> None:
        merkle.verify_inclusion(
            vector["leafIdx"] - start,
            end - start,
            unb64(vector["leafHash"]),
            proof_of(vector),
            unb64(vector["root"]),
        )

    if not vector["wantErr"]:
        check()
        return
    with pytest.raises(ProbegateError):
        check()


@given(st.integers(1, 300), st.data())
def test_every_inclusion_proof_is_the_brute_force_one_and_verifies(
    size: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(read, index, size)
    assert list(proof) == brute_path(index, LEAVES[:size])
    root = brute_root(LEAVES[:size])
    assert merkle.root_of(LEAVES[:size]) == root
    merkle.verify_inclusion(index, size, LEAVES[index], proof, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda n: n != index or size == 1))
    if other != index:
        with pytest.raises(ProbegateError):
            merkle.verify_inclusion(other, size, LEAVES[index], proof, root)


@given(st.integers(1, 300), st.data())
def test_every_consistency_proof_is_the_brute_force_one_and_verifies(
    new: int, data: st.DataObject
) -> None:
    old = data.draw(st.integers(1, new))
    proof = merkle.consistency_proof(read, old, new)
    assert list(proof) == brute_subproof(old, LEAVES[:new], complete=True)
    roots = brute_root(LEAVES[:old]), brute_root(LEAVES[:new])
    merkle.verify_consistency(old, new, *roots, proof)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        forged = list(proof)
        forged[at] = sha256(forged[at]).digest()
        with pytest.raises(ProbegateError):
            merkle.verify_consistency(old, new, *roots, forged)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=12), st.integers(-1, 70))
def test_no_proof_from_strangers_crashes_the_verifier(proof: list[bytes], number: int) -> None:
    root = sha256(b"root").digest()
    for size in (0, 1, 5, 64):
        with pytest.raises(ProbegateError):
            merkle.verify_inclusion(number, size, sha256(b"leaf").digest(), proof, root)
        with pytest.raises(ProbegateError):
            merkle.verify_consistency(number, size, sha256(b"old").digest(), root, proof)


def test_a_proof_from_nothing_proves_nothing() -> None:
    with pytest.raises(ProbegateError) as refused:
        merkle.verify_consistency(0, 1, merkle.EMPTY_ROOT, LEAVES[0], [])
    assert refused.value.reason is Reason.CHECKPOINT_INCONSISTENT
    assert merkle.root_of([]) == merkle.EMPTY_ROOT
