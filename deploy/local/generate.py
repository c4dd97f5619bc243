"""Writes the invented galleries and probes of a local federation as an agency would hand them over.

A gallery's source is a folder with ``templates.npy`` (n, 512, float32) and ``records.csv`` (the
same n rows in the same order, with the columns of that kind of agency). People overlap between
galleries, some have two images in one, and some are planted, so that a demonstration knows the
truth it should find. Same plan, same bytes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from deploy.local.faces import face_png
from deploy.local.people import (
    AS_OF,
    DIMS,
    MODEL,
    Band,
    Population,
    Templates,
)
from deploy.local.records import KINDS, Plant, gallery_records, plantable

PROBE_CAPTURES: Final = 1_000_000
"""Capture numbers from here on are probes; galleries use those below."""
CAPTURES_PER_GALLERY: Final = 64
"""Most images of one person in one gallery."""
FIRST_BACKGROUND: Final = 1_000
"""People below this number are kept for planting and for probes of people whom nobody holds."""
DEFAULT_ROWS: Final = 20_000
"""Records in a gallery unless the plan says otherwise."""
GALLERY_BAND: Final = Band.GOOD
"""Galleries hold good captures: people sat for them."""
CAPTURE_NOISE: Final = MappingProxyType({Band.GOOD: 0.12, Band.FAIR: 0.5, Band.POOR: 0.9})
"""How bad the image of a capture of each band looks, for ``faces.face_png``."""

LOOKS_LIKE: Final = 0.42
"""From this similarity to a probe on a record's image is drawn: a search may list it. It is the
lowest threshold of the example agreements. (Drawing everybody would take hours.)"""

_SHARE_SEEN_AGAIN: Final = 1 / 20


@dataclass(frozen=True, slots=True)
class GalleryPlan:
    """One gallery.

    Attributes:
        name: the agency's id; also its folder.
        kind: one of ``KINDS``.
        first_person: everybody else in it is numbered from here on, one after another.
        planted: the people put there on purpose.
    """

    name: str
    kind: str
    first_person: int
    planted: tuple[Plant, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """One probe and the facts its manifest will state.

    Attributes:
        name: what the demonstration calls it.
        person: whose face it is.
        band: how good the capture is.
        source: a code of the vocabulary ``probe_source``.
        edits: codes of the vocabulary ``probe_edits``.
        captured_on: when it was taken.
    """

    name: str
    person: int
    band: Band
    source: str = "cctv"
    edits: tuple[str, ...] = ()
    captured_on: date = AS_OF


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Who is planted where, and the probes to search with."""

    seed: int
    galleries: tuple[GalleryPlan, ...]
    probes: tuple[ProbePlan, ...]
    rows: int = DEFAULT_ROWS


@dataclass(frozen=True, slots=True)
class PlantedRecord:
    """Where a planted person ended up."""

    person: int
    record_id: str
    row: int
    image: Path


@dataclass(frozen=True, slots=True)
class GallerySource:
    """A gallery's source as written.

    Attributes:
        folder: holds ``templates.npy``, ``records.csv`` and ``images/``: those of the planted
            people, and of whoever looks like somebody who is looked for.
        people: whose face each row is, shape (n,); the truth, which no file in the folder holds.
        record_ids: each row's record id.
        planted: the planted people's records.
    """

    kind: str
    folder: Path
    people: NDArray[np.int64]
    record_ids: tuple[str, ...]
    planted: tuple[PlantedRecord, ...]

    def records_of(self, person: int) -> tuple[str, ...]:
        """Return the record ids that hold this person: what a search should find."""
        return tuple(self.record_ids[row] for row in np.flatnonzero(self.people == person))


@dataclass(frozen=True, slots=True)
class DemoFacts:
    """Everything written, with the truth a demonstration checks its findings against."""

    population: Population
    galleries: Mapping[str, GallerySource]
    probes: Mapping[str, ProbePlan]

    def mated(self, probe: str) -> dict[str, tuple[str, ...]]:
        """Return, by gallery, the record ids of the probe's person; galleries without are left out.

        A record that is barred from searching is mated all the same.
        """
        person = self.probes[probe].person
        found = {name: source.records_of(person) for name, source in self.galleries.items()}
        return {name: records for name, records in found.items() if records}


def write_demo(plan: DemoPlan, folder: Path) -> DemoFacts:
    """Write a source for each gallery in ``folder/<name>`` and the probes in ``folder/probes``."""
    population = Population(plan.seed)
    probes = [probe_template(population, plan.probes, index) for index in range(len(plan.probes))]
    looked_for = np.stack(probes)
    fixed = {plant.person for gallery in plan.galleries for plant in gallery.planted}
    fixed |= {probe.person for probe in plan.probes}
    galleries = {}
    for series, gallery in enumerate(plan.galleries):
        # Nobody whose whereabouts the plan fixes may turn up elsewhere by chance.
        reach = np.arange(gallery.first_person, gallery.first_person + plan.rows + len(fixed))
        others = np.setdiff1d(reach, sorted(fixed))
        again = others[: int(plan.rows * _SHARE_SEEN_AGAIN)]
        galleries[gallery.name] = write_gallery_source(
            gallery.kind,
            folder / gallery.name,
            population,
            np.concatenate([again, others]),
            rows=plan.rows,
            planted=gallery.planted,
            series=series,
            looked_for=looked_for,
        )
    write_probes(folder / "probes", population, plan.probes)
    return DemoFacts(population, galleries, {probe.name: probe for probe in plan.probes})


def write_gallery_source(
    kind: str,
    folder: Path,
    population: Population,
    members: Sequence[int] | NDArray[np.int64],
    rows: int = DEFAULT_ROWS,
    planted: Sequence[Plant] = (),
    series: int = 0,
    looked_for: Templates | None = None,
) -> GallerySource:
    """Write one gallery's source.

    Args:
        kind: one of ``KINDS``.
        folder: where to write; made if missing.
        population: the people.
        members: whom it holds besides the planted, as many as fit; one named twice has two
            images.
        rows: how many records it holds.
        planted: people whose records no rule bars, put at scattered rows.
        series: a number of its own for each gallery, so that no two hold the same capture.
        looked_for: templates of probes, shape (k, 512); who looks like one gets an image too.

    Raises:
        ValueError: an unknown kind or column, too few members, or a planted person who is a minor.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind of gallery is called {kind!r}")
    background = np.asarray(members, np.int64)[: rows - len(planted)]
    if len(background) + len(planted) != rows:
        raise ValueError(f"{len(background)} members and {len(planted)} planted do not make {rows}")
    generator = np.random.default_rng((population.seed, KINDS.index(kind), series))
    place = generator.permutation(rows)
    people = np.empty(rows, np.int64)
    people[place] = np.concatenate([[plant.person for plant in planted], background])
    plants = dict(zip(place[: len(planted)].tolist(), planted, strict=True))

    templates = _gallery_templates(population, people, series)
    records = gallery_records(kind, population, people, series, plants)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "templates.npy", templates)
    with (folder / "records.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    record_ids = tuple(record["record_id"] for record in records)
    images = folder / "images"
    images.mkdir(exist_ok=True)
    found = tuple(
        PlantedRecord(plant.person, record_ids[row], row, _image(images, record_ids[row]))
        for row, plant in plants.items()
    )
    alike = set() if looked_for is None else _rows_like(templates, looked_for)

    def draw(row: int) -> None:
        face = face_png(templates[row], CAPTURE_NOISE[GALLERY_BAND])
        _image(images, record_ids[row]).write_bytes(face)

    with ThreadPoolExecutor() as pool:
        list(pool.map(draw, sorted(alike | plants.keys())))
    return GallerySource(kind, folder, people, record_ids, found)


def _image(folder: Path, record_id: str) -> Path:
    """Return where a record's image goes, named as an adapter looks for it."""
    return folder / f"{quote(record_id, safe='')}.png"


def _rows_like(templates: Templates, looked_for: Templates) -> set[int]:
    """Return the rows that look like any of some probes."""
    alike = (templates @ looked_for.T >= LOOKS_LIKE).any(axis=1)
    return set(np.flatnonzero(alike).tolist())


def demo_plan(seed: int = 1, rows: int = DEFAULT_ROWS) -> DemoPlan:
    """Return the plan of the demonstration: one gallery of each kind, four people to look for.

    The suspect is held by custody, PND and passport; the missing person by passport and NHS; the
    cleared person by custody, where deletion was requested, and by PND; the stranger by nobody.
    There are people enough for 90,000 rows.
    """
    suspect, missing, cleared, stranger = adults(Population(seed), 4)
    planted = {
        "custody": (Plant(suspect), Plant(cleared, {"deletion": "requested"})),
        "pnd": (Plant(suspect), Plant(cleared)),
        "passport": (Plant(suspect), Plant(missing)),
        "nhs": (Plant(missing),),
    }
    galleries = tuple(
        # Each starts before the last one ends, so that neighbours share a quarter of their people.
        GalleryPlan(kind, kind, FIRST_BACKGROUND + index * rows * 3 // 4, planted.get(kind, ()))
        for index, kind in enumerate(KINDS)
    )
    probes = (
        *(ProbePlan(f"suspect-{band}", suspect, band) for band in Band),
        ProbePlan("missing", missing, Band.FAIR, source="supplied_photograph", edits=("crop",)),
        ProbePlan("cleared", cleared, Band.GOOD, source="mobile_phone"),
        ProbePlan("stranger", stranger, Band.FAIR, source="doorbell"),
    )
    return DemoPlan(seed, galleries, probes, rows)


def adults(population: Population, count: int) -> tuple[int, ...]:
    """Return the first people born early enough to be planted."""
    people = population.identities(range(FIRST_BACKGROUND))
    return tuple(person.number for person in people if plantable(person))[:count]


def probe_template(population: Population, probes: Sequence[ProbePlan], index: int) -> Templates:
    """Return the template of one of the probes, shape (512,)."""
    probe = probes[index]
    return population.capture(probe.person, probe.band, PROBE_CAPTURES + index)


def write_probes(folder: Path, population: Population, probes: Sequence[ProbePlan]) -> None:
    """Write ``probes.npz`` (a template under each name), ``probes.json`` and an image of each."""
    folder.mkdir(parents=True, exist_ok=True)
    templates = {
        probe.name: probe_template(population, probes, index) for index, probe in enumerate(probes)
    }
    np.savez(folder / "probes.npz", **templates)  # type: ignore[arg-type]
    facts = {probe.name: _manifest_facts(probe) for probe in probes}
    (folder / "probes.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for probe in probes:
        image = face_png(templates[probe.name], CAPTURE_NOISE[probe.band])
        (folder / f"{probe.name}.png").write_bytes(image)


def _manifest_facts(probe: ProbePlan) -> dict[str, Any]:
    return {
        "band": probe.band,
        "captured_at": f"{probe.captured_on.isoformat()}T12:00:00Z",
        "dims": DIMS,
        "edits": list(probe.edits),
        "encoding": "float32",
        "model": MODEL,
        "quality": probe.band.quality,
        "source": probe.source,
    }


def _gallery_templates(population: Population, people: NDArray[np.int64], series: int) -> Templates:
    """Return a capture for each row; a person's second row is another capture of them."""
    order = np.argsort(people, kind="stable")
    _, starts, counts = np.unique(people[order], return_index=True, return_counts=True)
    seen_before = np.empty(len(people), np.int64)
    seen_before[order] = np.arange(len(people)) - np.repeat(starts, counts)
    if counts.max() > CAPTURES_PER_GALLERY:
        raise ValueError(f"more than {CAPTURES_PER_GALLERY} images of one person")
    templates = np.empty((len(people), DIMS), np.float32)
    for time in range(int(counts.max())):
        rows = np.flatnonzero(seen_before == time)
        capture_no = series * CAPTURES_PER_GALLERY + time
        templates[rows] = population.captures(people[rows], GALLERY_BAND, capture_no)
    return templates
