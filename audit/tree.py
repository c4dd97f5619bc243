"""The tree of a live log: its right edge in memory, the rest in full tiles on disk.

One thread appends; any thread may read. A node is dropped from memory only after the full tile
that holds it is durable, so a reader finds it in one place or the other.
"""

from __future__ import annotations

from audit.folder import LogFolder
from audit.merkle import EMPTY_ROOT, node_hash
from audit.tiles import LEVELS, TILE_HEIGHT, TILE_WIDTH, level_size, subtree_of

_BINARY_LEVELS = LEVELS * TILE_HEIGHT


class LiveTree:
    """Nodes of a growing tree.

    Args:
        folder: where full tiles are.
        recent_nodes: how many leaf hashes to keep behind the newest.
    """

    def __init__(self, folder: LogFolder, recent_nodes: int) -> None:
        self.size = 0
        self._folder = folder
        self._recent = recent_nodes
        self._nodes: list[dict[int, bytes]] = [{} for _ in range(_BINARY_LEVELS + 1)]
        self._lowest = [0] * (_BINARY_LEVELS + 1)
        self._left: tuple[bytes, ...] = ()
        self._left_of_newest: tuple[bytes, ...] = ()

    def restore(self, size: int) -> None:
        """Start from a published tree of ``size`` leaves, a multiple of 256."""
        for level in range(1, LEVELS):
            held = level_size(size, level)
            first = held - held % TILE_WIDTH
            binary = level * TILE_HEIGHT
            for at in range(TILE_HEIGHT):
                self._lowest[binary + at] = first >> at
            if held > first:
                hashes = self._folder.hashes(level, first // TILE_WIDTH, held - first)
                for index, hash_ in enumerate(hashes, first):
                    self._push(binary, index, hash_)
        for level in range(TILE_HEIGHT):
            self._lowest[level] = size >> level
        self.size = size
        bits = [level for level in range(size.bit_length()) if size >> level & 1]
        self._left = tuple(self.node(level, (size >> level) - 1) for level in bits)

    def append(self, leaf_hash: bytes) -> None:
        """Add a leaf.

        The complete subtrees to its left, the smallest first, are its proof while it is the newest,
        and folding them with it gives the root: a lone caller waits for every look-up.
        """
        left = self._left
        level, top = self._push(0, self.size, leaf_hash)
        self._left_of_newest, self._left = left, (top, *left[level:])
        self.size += 1

    def _push(self, level: int, index: int, hash_: bytes) -> tuple[int, bytes]:
        """Add a node and what it completes; return the last, its level first."""
        nodes = self._nodes
        nodes[level][index] = hash_
        while index & 1:
            hash_ = node_hash(self.node(level, index - 1), hash_)
            level += 1
            index >>= 1
            nodes[level][index] = hash_
        return level, hash_

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree (a ``NodeReader``)."""
        found = self._nodes[level].get(index)
        if found is not None:
            return found
        within = level % TILE_HEIGHT
        first = index << within
        tile = self._folder.full_hashes(level // TILE_HEIGHT, first // TILE_WIDTH)
        at = first % TILE_WIDTH
        return subtree_of(tile[at : at + (1 << within)])

    def edge(self, size: int) -> list[bytes | None]:
        """Return, per level, the hash of the incomplete subtree at the right edge of ``size``.

        The last one is the root. With it, the inclusion proofs of a whole batch cost one dictionary
        look-up per level each.
        """
        edge: list[bytes | None] = [None]
        ragged: bytes | None = None
        nodes = self._nodes
        for level in range(size.bit_length()):
            at = size >> level
            if at & 1:
                left = nodes[level].get(at - 1) or self.node(level, at - 1)
                ragged = left if ragged is None else node_hash(left, ragged)
            edge.append(ragged)
        return edge

    def newest(self, first: int) -> tuple[bytes, list[tuple[bytes, ...]]]:
        """Return the root of the whole tree, and the proofs of its leaves from ``first`` on."""
        if first < self.size - 1:
            edge = self.edge(self.size)
            return edge[-1] or EMPTY_ROOT, self.inclusions(first, self.size, edge)
        root, *above = self._left
        for left in above:
            root = node_hash(left, root)
        return root, [self._left_of_newest]

    def root(self, size: int) -> bytes:
        """Return the root over the first ``size`` leaves."""
        return self.edge(size)[-1] or EMPTY_ROOT

    def inclusion(self, index: int, size: int, edge: list[bytes | None]) -> tuple[bytes, ...]:
        """Return the proof of leaf ``index`` in ``size``, whose ``edge`` the caller has."""
        proof, nodes = [], self._nodes
        for level in range((size - 1).bit_length()):
            sibling = index >> level ^ 1
            if sibling + 1 << level <= size:
                # In memory for every new entry; the call is what costs, once an entry and level.
                proof.append(nodes[level].get(sibling) or self.node(level, sibling))
            elif sibling << level < size:
                proof.append(edge[level] or EMPTY_ROOT)
        return tuple(proof)

    def inclusions(
        self, first: int, size: int, edge: list[bytes | None]
    ) -> list[tuple[bytes, ...]]:
        """Return the proofs of the leaves from ``first`` to the end of ``size``.

        Neighbours share all but the lower end of their proofs, which is made once for both.
        """
        above: list[tuple[bytes, ...]] = [()]
        above_first = 0
        for level in reversed(range((size - 1).bit_length())):
            nodes, whole = self._nodes[level], size >> level
            ragged = edge[level]
            incomplete = () if ragged is None else (ragged,)
            lowest = first >> level
            paths = []
            for index in range(lowest, ((size - 1) >> level) + 1):
                sibling = index ^ 1
                up = above[(index >> 1) - above_first]
                if sibling < whole:
                    own = nodes.get(sibling) or self.node(level, sibling)
                    paths.append((own, *up))
                else:
                    paths.append(up if sibling > whole else (*incomplete, *up))
            above, above_first = paths, lowest
        return above

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the bytes of a tile that is not yet published."""
        first = number * TILE_WIDTH
        binary = level * TILE_HEIGHT
        return b"".join([self.node(binary, at) for at in range(first, first + width)])

    def forget(self, published: int) -> None:
        """Drop nodes that are in full tiles of a published tree of ``published`` leaves."""
        for level in range(published.bit_length()):
            tiled = level_size(published, level // TILE_HEIGHT)
            durable = (tiled - tiled % TILE_WIDTH) >> level % TILE_HEIGHT
            keep_from = (self.size >> level) - max(self._recent >> level, 2)
            nodes, at = self._nodes[level], self._lowest[level]
            while at < durable and at < keep_from:
                nodes.pop(at, None)
                at += 1
            self._lowest[level] = at
