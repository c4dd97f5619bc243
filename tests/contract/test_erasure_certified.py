"""What is certified of an erasure is alike wherever the gallery is, also when it is given again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agency_adapters.erasing import erase_records, handed_over
from agency_adapters.operators import Operator
from tests.contract.gallery_engines import Bench, fresh, people
from tests.unit.adapters_kit import adapter_settings, make_world
from tests.world import World
from trust.errors import ProbegateError, Reason

ENGINES = ("files", "pgvector", "milvus")
AUTHORITY = "Request 2026/17"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    postgres = request.getfixturevalue("postgres") if request.param == "pgvector" else ""
    (tmp_path / "engine").mkdir()
    made = fresh(request.param, tmp_path / "engine", postgres)
    made.put(people(4), ["R1", "R2", "R3", "R4"], [True, True, True, False])
    return made


@pytest.fixture
def operator(world: World, bench: Bench, tmp_path: Path) -> Iterator[Operator]:
    """The agency's own people, while no adapter runs."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "R2.png").write_bytes(b"the picture of an invented face")
    opened = Operator.open(
        adapter_settings(world, tmp_path, gallery=bench.location, images_dir=images)
    )
    yield opened
    opened.close()


async def test_it_names_what_was_held_and_is_the_same_until_it_is_handed_over(
    operator: Operator,
) -> None:
    ids = ["R2", "R4", "nobody"]
    made, envelope = await erase_records(operator, ids, AUTHORITY)
    assert (made.erased, made.not_held, made.images) == (("R2", "R4"), ("nobody",), 1)
    assert made.generation_after > made.generation_before
    assert "backups and snapshots of the disk, if you make any" in made.remains
    assert await erase_records(operator, ids, AUTHORITY) == (made, envelope)
    await handed_over(operator, ids, AUTHORITY)
    with pytest.raises(ProbegateError) as refused:
        await erase_records(operator, ids, AUTHORITY)
    assert refused.value.reason is Reason.NOT_FOUND
