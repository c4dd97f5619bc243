"""The Merkle tree of RFC 6962 section 2.1 (the same as RFC 9162 section 2.1): hashes and proofs.

Pure arithmetic. A *node* is named by ``(level, index)``: the root of the complete subtree over
leaves ``[index << level, (index + 1) << level)``. Whoever holds hashes offers them as a
``NodeReader``; everything else here follows from sizes.

A hash is always 32 bytes; sizes and indexes are non-negative integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from trust.errors import ProbegateError, Reason

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""``(level, index)`` to the hash of that complete subtree."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf holding ``entry``."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield, left to right, the largest complete subtrees that make up leaves ``[start, end)``.

    ``start`` must be a multiple of the largest power of two below ``end - start``, as the ranges
    of RFC 6962 always are.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def fold(hashes: Sequence[bytes]) -> bytes:
    """Combine the hashes of ``subtrees`` into one, from the right (the smallest) leftwards."""
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def range_hash(read: NodeReader, start: int, end: int) -> bytes:
    """Return ``MTH(D[start:end])`` from the nodes of the tree."""
    if start == end:
        return EMPTY_ROOT
    return fold([read(level, index) for level, index in subtrees(start, end)])


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root over ``leaf_hashes``, in memory logarithmic in their number."""
    frontier = Frontier()
    for one in leaf_hashes:
        frontier.push(one)
    return frontier.root()


class Frontier:
    """The right edge of a growing tree: enough to append and to know the root."""

    __slots__ = ("_hashes", "size")

    def __init__(self) -> None:
        self.size = 0
        self._hashes: list[bytes] = []

    def push(self, hash_: bytes) -> None:
        """Append one leaf hash."""
        hashes, size = self._hashes, self.size
        while size & 1:
            hash_ = node_hash(hashes.pop(), hash_)
            size >>= 1
        hashes.append(hash_)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over what was pushed."""
        return fold(self._hashes) if self._hashes else EMPTY_ROOT


# ---------------------------------------------------------------- generation


def inclusion_proof(read: NodeReader, index: int, size: int) -> tuple[bytes, ...]:
    """Return ``PATH(index, D[size])``, leaf's sibling first.

    Raises:
        ProbegateError: LOG_PROOF_INVALID if there is no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        raise ProbegateError(Reason.LOG_PROOF_INVALID, detail=f"no leaf {index} in size {size}")
    proof = []
    for level in range((size - 1).bit_length()):
        sibling = (index >> level) ^ 1
        start = sibling << level
        if start >= size:
            continue  # the path skips a level at which the ragged right edge has no sibling
        end = min(start + (1 << level), size)
        proof.append(range_hash(read, start, end))
    return tuple(proof)


def consistency_proof(read: NodeReader, old: int, new: int) -> tuple[bytes, ...]:
    """Return ``PROOF(old, D[new])``; empty when ``old`` is 0 or equals ``new``.

    Raises:
        ProbegateError: CHECKPOINT_INCONSISTENT if ``old`` is larger than ``new``.
    """
    if not 0 <= old <= new:
        raise ProbegateError(Reason.CHECKPOINT_INCONSISTENT, detail=f"sizes {old} and {new}")
    if old in {0, new}:
        return ()
    # SUBPROOF(m, D[n], b) of RFC 6962 2.1.2 without the recursion.
    proof: list[bytes] = []
    start, end, complete = 0, new, True
    while old - start < end - start:
        split = 1 << (end - start - 1).bit_length() - 1
        if old - start <= split:
            proof.append(range_hash(read, start + split, end))
            end = start + split
        else:
            proof.append(range_hash(read, start, start + split))
            start += split
            complete = False
    if not complete:
        proof.append(range_hash(read, start, end))
    proof.reverse()
    return tuple(proof)


# ---------------------------------------------------------------- verification


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """Return the root that ``proof`` leads to (RFC 9162 section 2.1.3.2).

    Raises:
        ProbegateError: LOG_PROOF_INVALID if the proof cannot belong to these sizes.
    """
    if not 0 <= index < size:
        raise ProbegateError(Reason.LOG_PROOF_INVALID, detail=f"no leaf {index} in size {size}")
    if not _are_hashes(leaf, *proof):
        raise ProbegateError(Reason.LOG_PROOF_INVALID, detail="a hash is not 32 bytes")
    position, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProbegateError(Reason.LOG_PROOF_INVALID, detail="the proof is too long")
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while position and not position & 1:
                position >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ProbegateError(Reason.LOG_PROOF_INVALID, detail="the proof is too short")
    return root


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf with hash ``leaf`` is number ``index`` of the tree ``(size, root)``.

    Raises:
        ProbegateError: LOG_PROOF_INVALID.
    """
    if root_from_inclusion(index, size, leaf, proof) != root:
        raise ProbegateError(Reason.LOG_PROOF_INVALID, detail="the proof leads to another root")


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree ``(old_size, old_root)`` is a prefix of ``(new_size, new_root)``.

    ``old_size`` 0 is rejected: the empty tree is a prefix of everything, so a proof from it would
    prove nothing. A caller for whom that is enough says so itself.

    Raises:
        ProbegateError: CHECKPOINT_INCONSISTENT.
    """
    verify_subtree_consistency(0, old_size, new_size, old_root, new_root, proof)


def verify_subtree_consistency(
    start: int, end: int, size: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that ``subtree_root`` covers leaves ``[start, end)`` of the tree ``(size, root)``.

    With ``start`` 0 this is RFC 9162 section 2.1.4.2; otherwise the subtree form of
    draft-ietf-plants-merkle-tree-certs section 4.4.3. ``start`` must be a multiple of the smallest
    power of two that is not below ``end - start``.

    Raises:
        ProbegateError: CHECKPOINT_INCONSISTENT.
    """
    if not _is_subtree(start, end, size):
        raise _inconsistent(f"leaves {start} to {end} are no subtree of size {size}")
    if not _are_hashes(subtree_root, root, *proof):
        raise _inconsistent("a hash is not 32 bytes")
    if start == 0 and end == size:
        if proof or subtree_root != root:
            raise _inconsistent("one size, two roots, or a proof that is not empty")
        return
    # Positions on one level: the subtree's first and last node, and the tree's last node. Climb to
    # the node the path starts at: the largest complete one that ends where the subtree ends.
    first, inner, last = start, end - 1, size - 1
    while first != inner and (inner & 1 or end == size):
        first, inner, last = first >> 1, inner >> 1, last >> 1
    hashes = list(proof)
    if first != inner and not hashes:
        raise _inconsistent("the proof is too short")
    seed = subtree_root if first == inner else hashes.pop(0)
    if _follow(first, inner, last, seed, hashes) != (subtree_root, root):
        raise _inconsistent("the proof does not lead from the old root to the new one")


def _follow(
    first: int, inner: int, last: int, seed: bytes, hashes: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Return the roots of the subtree and of the tree that a consistency proof leads to."""
    old = new = seed
    for one in hashes:
        if last == 0:
            raise _inconsistent("the proof is too long")
        climb = 1
        if inner & 1 or inner == last:
            old = node_hash(one, old) if first < inner else old
            new = node_hash(one, new)
            climb = max((inner & -inner).bit_length(), 1)
        else:
            new = node_hash(new, one)
        first, inner, last = first >> climb, inner >> climb, last >> climb
    if last:
        raise _inconsistent("the proof is too short")
    return old, new


def _are_hashes(*hashes: bytes) -> bool:
    return all(len(one) == HASH_BYTES for one in hashes)


def _is_subtree(start: int, end: int, size: int) -> bool:
    return 0 <= start < end <= size and start % (1 << (end - start - 1).bit_length()) == 0


def _inconsistent(why: str) -> ProbegateError:
    return ProbegateError(Reason.CHECKPOINT_INCONSISTENT, detail=why)
