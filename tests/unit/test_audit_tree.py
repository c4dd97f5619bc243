"""The tree of a live log: what a lone append is proved by is what the whole tree says."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.folder import LogFolder
from audit.merkle import EMPTY_ROOT, verify_inclusion
from audit.tree import LiveTree
from audit.verify import verify_folder
from tests.logs import MadeLog


def leaf(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=80))
def test_newest_is_what_edge_and_inclusions_say(batches: list[int]) -> None:
    tree = LiveTree(LogFolder(Path("nowhere")), 4096)
    assert tree.root(0) == EMPTY_ROOT
    for count in batches:
        first = tree.size
        for number in range(first, first + count):
            tree.append(leaf(number))
        root, proofs = tree.newest(first)
        edge = tree.edge(tree.size)
        assert root == edge[-1] == tree.root(tree.size)
        assert len(proofs) == count
        for number, proof in enumerate(proofs, first):
            assert proof == tree.inclusion(number, tree.size, edge)
            verify_inclusion(number, tree.size, leaf(number), proof, root)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 513, 770])
def test_a_log_that_is_opened_again_goes_on_with_the_same_tree(tmp_path: Path, size: int) -> None:
    """What is to the left of the next entry comes back from tiles and stage."""
    log = MadeLog(tmp_path / "log", "broker.example/search")
    log.write([{"n": number} for number in range(size)])
    log.write([{"m": number} for number in range(3)])
    report = verify_folder(log.folder, log.vkey)
    assert (report.ok, report.entries) == (True, size + 3)
