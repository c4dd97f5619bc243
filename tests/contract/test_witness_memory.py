"""A witness's memory gives the same verdicts over SQLite and over PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audit import cosigner_memory
from audit.add_checkpoint import format_request, parse_request
from audit.cosigner import Cosigner
from audit.cosigner_memory import open_memory
from audit.policy_file import parse_policy
from tests.unit.witness_kit import FORK_AT, NOON, ORIGIN, WITNESS, body, note, policy


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_one_history_is_cosigned_and_the_other_kept_as_evidence(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = "" if backend == "sqlite" else request.getfixturevalue("postgres")
    engines = [open_memory(tmp_path, url) for _ in range(2)]
    try:
        both = [Cosigner.open(one, parse_policy(policy()), WITNESS) for one in engines]
        assert both[0].add(parse_request(body("a", 0, FORK_AT)), NOON).status == 200
        asks = [(one, h, 20 + "ab".index(h)) for one in both for h in "ab"] * 4
        with ThreadPoolExecutor(8) as pool:
            verdicts = list(
                pool.map(lambda a: a[0].add(parse_request(body(a[1], FORK_AT, a[2])), NOON), asks)
            )
        won = {ask[1:] for ask, one in zip(asks, verdicts, strict=True) if one.status == 200}
        assert len(won) == 1
        ((history, size),) = won
        assert {one.size for one in verdicts if one.status == 409} == {size}
        other = "ab".replace(history, "")
        lie = parse_request(format_request(size, (), note(other, size)))
        assert both[1].add(lie, NOON).status == 422
        assert both[0].add(parse_request(body(history, size, size + 1)), NOON).status == 403
        (log,) = cosigner_memory.survey(engines[0])
        assert (log.newest.origin, log.newest.size) == (ORIGIN, size)
        assert [one.notes[1] for one in log.evidence] == [note(other, size)]
        assert log.newest.note.startswith(note(history, size))
        assert log.evidence[0].notes[0] == log.newest.note
    finally:
        for one in engines:
            one.dispose()
