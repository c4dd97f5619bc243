"""What one thread of a pass has kept so far, and the best of all threads (``scanning``, 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.kernels import Kernel
from agency_adapters.galleries.segments import Rows
from agency_adapters.galleries.templates import Probe

MAX_WAITING: Final = 1 << 18
"""Most rows kept unscored by one thread; a gallery of near-duplicates is scored as it is met."""
BEYOND_ANY_SCORE: Final = 2.0
SCORED_AT_ONCE: Final = 512
"""Rows that one thread scores at once."""

FETCHED_ROWS: Final = 1024
"""Rows whose templates one thread has in memory before it gives them back; each brings in 64 kB."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Map = Callable[[Callable[[int], Floats], Iterable[int]], Iterable[Floats]]


@dataclass(frozen=True, slots=True)
class Ask:
    """One probe's part of a pass.

    Attributes:
        probe: float64, shape ``(dims,)``, unit length.
        threshold: the lowest score to return, -1 to 1.
        limit: the most rows to return, at least 1.
    """

    probe: Probe = field(repr=False)
    threshold: float
    limit: int


@dataclass(frozen=True, slots=True)
class Match:
    """One row of an answer: its place in the gallery and its float64 score."""

    row: int
    score: float


class Tally:
    """Rows that could be in an answer.

    Attributes:
        probes: the probes, float64, shape ``(p, dims)``.
        cuts: each probe's cut, float64, shape ``(p,)``, shared by the threads of a pass.
        limits: the most rows of each probe's answer, shape ``(p,)``.
        waiting: probe, row, middle and error of what is kept and not scored yet.
        scored: probe, row and score of what is kept and scored.
        fetched: rows whose templates are in memory.
    """

    def __init__(
        self,
        probes: Floats,
        asks: Sequence[Ask],
        gallery: Rows,
        kernel: Kernel,
        cuts: Floats,
    ) -> None:
        self._kernel = kernel
        self.probes = probes
        self._gallery = gallery
        self.limits = np.array([ask.limit for ask in asks])
        self._thresholds = np.array([ask.threshold for ask in asks], dtype=np.float64)
        self.cuts = cuts
        self.fetched: list[Ints] = [np.empty(0, np.intp)]
        self.waiting: list[tuple[Ints, Ints, Floats, Floats]] = []
        self._count = 0
        self._raise_at = int(self.limits.sum())
        self._map: Map = map
        self.scored: tuple[Ints, Ints, Floats] = (
            np.empty(0, np.intp),
            np.empty(0, np.intp),
            np.empty(0),
        )

    def add(self, probe: Ints, row: Ints, middle: Floats, error: Floats) -> None:
        """Take in rows whose scores are within ``error`` of ``middle`` and may reach the cut."""
        if not len(row):
            return
        self.waiting.append((probe, row, middle, error))
        self._count += len(row)
        if self._count >= self._raise_at:
            self._raise_cuts()
            if self._count > MAX_WAITING:
                self._score()
            # Not again before as many more have come: each raising looks at all that wait.
            self._raise_at = 2 * self._count + 4 * int(self.limits.sum())

    def finish(self, others: Sequence[Tally], map_: Map) -> None:
        """Take over what other threads kept, and score all of it together (4).

        Args:
            others: the other threads' tallies of the same pass, done.
            map_: maps a function over chunks of rows, on several threads if they are free.
        """
        for other in others:
            self.waiting += other.waiting
            self.fetched += other.fetched
        pairs = zip(self.scored, *(other.scored for other in others), strict=True)
        probe, row, scores = (np.concatenate(parts) for parts in pairs)
        self.scored = probe, row, scores
        self._map = map_
        self._raise_cuts()
        self._score()
        self._gallery.let_go(np.concatenate(self.fetched), templates_only=True)

    def _raise_cuts(self) -> None:
        """Raise each probe's cut, drop what is below (3), and score the likeliest at once (4).

        A score is a higher cut than a lower bound, and a higher cut spares the scan more than the
        likeliest cost.
        """
        if not self.waiting:
            return
        probe, row, middle, error = self._taken()
        known = np.concatenate([probe, self.scored[0]])
        lower = np.concatenate([middle - error, self.scored[2]])
        kth_best(known, lower, self.limits, self.cuts)
        near = middle + error >= self.cuts[probe]
        probe, row, middle, error = probe[near], row[near], middle[near], error[near]
        likely = np.full(len(self.cuts), -np.inf)
        kth_best(probe, middle, self.limits, likely)
        leads = middle >= likely[probe]
        self._take_scored(probe[leads], row[leads])
        near = ~leads & (middle + error >= self.cuts[probe])
        self.waiting = [(probe[near], row[near], middle[near], error[near])]
        self._count = int(near.sum())

    def _taken(self) -> tuple[Ints, Ints, Floats, Floats]:
        """Take all that waits."""
        probe, row, middle, error = (
            np.concatenate(part) for part in zip(*self.waiting, strict=True)
        )
        self.waiting, self._count = [], 0
        return probe, row, middle, error

    def _score(self) -> None:
        """Score what waits (4)."""
        if not self.waiting:
            return
        probe, row, middle, error = self._taken()
        upper = middle + error
        for start in range(0, len(row), MAX_WAITING):
            some = np.arange(start, min(start + MAX_WAITING, len(row)))
            some = some[upper[some] >= self.cuts[probe[some]]]
            self._take_scored(probe[some], row[some])

    def _take_scored(self, probe: Ints, row: Ints) -> None:
        if not len(row):
            return
        in_place = np.argsort(row)  # so that a segment's templates are fetched together
        probe, row = probe[in_place], row[in_place]

        def score(start: int) -> Floats:
            some = slice(start, start + SCORED_AT_ONCE)
            return self._kernel.scores(self._gallery, row[some], self.probes, probe[some])

        scores = np.concatenate(list(self._map(score, range(0, len(row), SCORED_AT_ONCE))))
        self._let_go(row)
        reached = scores >= self._thresholds[probe]
        kept = tuple(
            np.concatenate(pair)
            for pair in zip(
                self.scored, (probe[reached], row[reached], scores[reached]), strict=True
            )
        )
        probe, row, scores = kept
        kth_best(probe, scores, self.limits, self.cuts)
        near = np.flatnonzero(scores >= self.cuts[probe])
        self.scored = self._first_of_ties(probe[near], row[near], scores[near])

    def _let_go(self, row: Ints) -> None:
        """Give back the memory of templates, once it is much: that stops the other threads."""
        self.fetched.append(row)
        if sum(map(len, self.fetched)) >= FETCHED_ROWS:
            self._gallery.let_go(np.concatenate(self.fetched), templates_only=True)
            self.fetched = [row[:0]]

    def _first_of_ties(self, probe: Ints, row: Ints, scores: Floats) -> tuple[Ints, Ints, Floats]:
        """Keep of the rows of one probe, segment and score no more than an answer can hold (5).

        Rows of a segment are in the order of record ids, so the first are the ones to keep: a
        gallery that is one template again and again does not fill the memory.
        """
        segment = self._gallery.segment_of(row)
        order = np.lexsort((row, -scores, segment, probe))
        keys = np.stack([probe[order], segment[order]]), scores[order]
        same = np.ones(len(order), dtype=np.bool_)
        same[1:] = (keys[0][:, 1:] == keys[0][:, :-1]).all(axis=0) & (keys[1][1:] == keys[1][:-1])
        same[:1] = False
        starts = np.flatnonzero(~same)
        run = np.repeat(starts, np.diff([*starts, len(order)]))
        keep = order[np.arange(len(order)) - run < self.limits[probe[order]]]
        return probe[keep], row[keep], scores[keep]


def first_cuts(asks: Sequence[Ask]) -> Floats:
    """Return the cuts that a pass begins with: each probe's threshold."""
    thresholds = np.array([ask.threshold for ask in asks], dtype=np.float64)
    return thresholds.clip(-BEYOND_ANY_SCORE, BEYOND_ANY_SCORE)


def kth_best(probe: Ints, values: Floats, limits: npt.NDArray[np.int_], cuts: Floats) -> None:
    """Raise ``cuts`` to each probe's k-th best value, where it has as many (3)."""
    by_probe = np.argsort(probe.astype(np.int16), kind="stable")  # small numbers: a radix sort
    sorted_values = values[by_probe]
    ends = np.cumsum(np.bincount(probe, minlength=len(cuts)))
    for number, (end, limit) in enumerate(zip(ends.tolist(), limits.tolist(), strict=True)):
        start = int(ends[number - 1]) if number else 0
        if end - start >= limit:
            kth = np.partition(sorted_values[start:end], end - start - limit)[end - start - limit]
            cuts[number] = max(cuts[number], kth)


def best_of(tally: Tally, gallery: Rows) -> list[tuple[Match, ...]]:
    """Return each probe's answer from what was kept and scored (5)."""
    probe, row, score = tally.scored
    answers: list[tuple[Match, ...]] = []
    for number, limit in enumerate(tally.limits):
        mine = np.flatnonzero(probe == number)
        if len(mine) > limit:
            kth = -np.partition(-score[mine], limit - 1)[limit - 1]
            mine = mine[score[mine] >= kth]
        rows, scores = row[mine], score[mine]
        tied = len(np.unique(scores)) < len(scores)
        names = gallery.record_ids(rows.tolist()) if tied else [""] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: (-scores[i], names[i], rows[i]))
        answers.append(tuple(Match(int(rows[i]), float(scores[i])) for i in order[:limit]))
    return answers
