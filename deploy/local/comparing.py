"""Searches one agency of a local federation with every probe of a file whose mates are known.

Every search is a whole one: signed, logged, decided twice, matched in the adapter, verified. What
the references stand for is asked of the agency as its own people would ask, on its admin log.
"""

from __future__ import annotations

import asyncio
import csv
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agency_adapters.operators import Operator
from agency_adapters.settings import AdapterSettings
from deploy.local.demo import AUTHORISER, FORCE, OFFICER, ROBBERY
from deploy.local.people import Band
from deploy.local.place import Place
from force_client import ForceClient, ForceSettings, OrderDraft, Part, ProbeFacts, SearchView
from force_client.probes import load_probe
from trust import files
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState

COLUMNS: Final = ("probe", "quality_band", "mate")
"""Columns of the file of truth: the probe's row, its band, its mate's record id or nothing."""
_ANSWERED: Final = frozenset({OutcomeState.CANDIDATES, OutcomeState.NO_CANDIDATE})


@dataclass(frozen=True, slots=True)
class Expected:
    """One row of the file of truth."""

    row: int
    band: Band
    mate: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One search held against the truth.

    Attributes:
        expected: what there is to find.
        state: how the agency ended.
        reason: why, where it did not answer.
        found: record id and score of every candidate, best first.
    """

    expected: Expected
    state: OutcomeState
    reason: str
    found: tuple[tuple[str, float], ...]

    @property
    def as_it_should_be(self) -> bool:
        """Whether the mate came first, or nobody came where there is no mate."""
        if self.state not in _ANSWERED:
            return False
        if not self.expected.mate:
            return not self.found
        return bool(self.found) and self.found[0][0] == self.expected.mate


def compare(
    place: Place,
    agency: str,
    *,
    probes: Path,
    truth: Path,
    model: str,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Compared, ...]:
    """Search ``agency`` with every probe that ``truth`` lists, and resolve what was found.

    Args:
        place: a federation that is up.
        agency: whom to ask.
        probes: ``.npy`` or ``.npz``, one template a row.
        truth: CSV with the columns ``probe``, ``quality_band`` and ``mate``.
        model: the template model of the probes.
        progress: told of every search.

    Raises:
        ProbegateError: ``IMPORT_INVALID`` for a file of truth that is none, and whatever a search
            raises.
    """
    wanted = read_truth(truth)
    views = []
    with ForceClient(ForceSettings.load(place.config(FORCE))) as client:
        for expected in wanted:
            views.append(_search(client, agency, probes, model, expected))
            progress(len(views), len(wanted))
    records = asyncio.run(_resolved(place, agency, views))
    return tuple(
        _compared(expected, view, records) for expected, view in zip(wanted, views, strict=True)
    )


def read_truth(path: Path) -> tuple[Expected, ...]:
    """Read a file of truth.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``IMPORT_INVALID``.
    """
    lines = files.read(path).decode("utf-8-sig", errors="replace").splitlines()
    try:
        return tuple(
            Expected(int(row["probe"]), Band(row["quality_band"]), row["mate"])
            for row in csv.DictReader(lines)
        )
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ProbegateError(
            Reason.IMPORT_INVALID, f"{path.name} has not the columns {', '.join(COLUMNS)}"
        ) from None


def _search(
    client: ForceClient, agency: str, probes: Path, model: str, expected: Expected
) -> SearchView:
    draft = OrderDraft(
        officer=client.officers.person(OFFICER, option="officer"),
        authoriser=client.officers.person(AUTHORISER, option="authoriser"),
        justification=ROBBERY,
        probe=ProbeFacts(source="cctv", quality=expected.band.quality),
        agencies=(agency,),
    )
    return client.search(
        draft,
        load_probe(probes, model=model, row=expected.row),
        officer_token=client.issue_token(OFFICER, Part.OFFICER),
        authoriser_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
    )


async def _resolved(place: Place, agency: str, views: Sequence[SearchView]) -> Mapping[str, str]:
    """Return the record behind every reference; the reads are on the agency's admin log."""
    config = tomllib.loads(files.read(place.config(agency)).decode())
    with closing(Operator.open(AdapterSettings(**config))) as operator:
        found = await asyncio.gather(
            *(operator.resolve(search_id=view.search_id) for view in views if view.candidates)
        )
    return {one.reference: one.record_id for records in found for _, one in records}


def _compared(expected: Expected, view: SearchView, records: Mapping[str, str]) -> Compared:
    outcome = view.outcomes[0]
    found = tuple(
        (records[candidate.reference], candidate.score)
        for candidate in sorted(outcome.candidates, key=lambda one: one.rank)
    )
    return Compared(expected, outcome.state, outcome.reason, found)
