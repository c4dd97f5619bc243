"""Exact matching: one probe against every eligible template, nothing missed.

The score is the cosine similarity in float64: the pairwise sum of ``probe[i] * template[i]``,
divided by the template's length (templates are stored in float32, so it is 1 within rounding).

1. Rows that are not eligible are masked out before anything is ranked.
2. The scan is float32 in row blocks with a running best-k. Its error is bounded by ``eps``, so
   every row whose scan reaches ``threshold - eps`` and ``k-th best scan - 2 eps`` is kept.
3. The rows kept, and only they, are scored in float64; the threshold and the cut at k apply to that
   score, with ties in the order of record ids. So the answer is the full float64 scan's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.templates import Probe, Templates, wipe

MATCHER: Final = "probegate-cosine/1"
"""The matcher's name and version, stated with every score."""
BLOCK_ROWS: Final = 4096
"""Rows scanned at once; 8 MB of scores' inputs at 512 dimensions."""
_FLOAT32_UNIT_ROUNDOFF: Final = 2.0**-24
_BEYOND_ANY_SCORE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Match:
    """One record that reached the threshold: its row and its float64 score."""

    row: int
    score: float


def scan_error(dims: int) -> float:
    """Return the bound on the float32 scan's error for unit vectors (rule 2).

    The sum of ``dims`` rounded products errs by at most ``gamma(dims)`` times the sum of
    magnitudes, which Cauchy-Schwarz holds to 1; rounding the probe and the stored lengths costs a
    few units more.
    """
    return (dims + 16) * _FLOAT32_UNIT_ROUNDOFF * 1.001


def exact_scores(templates: Templates, rows: npt.NDArray[np.intp], probe: Probe) -> Probe:
    """Return the score of each of ``rows`` in float64, the same for equal templates."""
    scores = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), BLOCK_ROWS):
        wide = templates[rows[start : start + BLOCK_ROWS]].astype(np.float64)
        lengths = np.sqrt(np.add.reduce(wide * wide, axis=1))
        # A pairwise sum along a contiguous row does not depend on where the row lies.
        scores[start : start + BLOCK_ROWS] = np.add.reduce(wide * probe, axis=1) / lengths
    return scores


def best_matches(
    templates: Templates,
    eligible: npt.NDArray[np.bool_],
    probe: Probe,
    *,
    threshold: float,
    limit: int,
) -> tuple[Match, ...]:
    """Return the best eligible rows at or above the threshold, best first.

    Args:
        templates: float32, shape ``(n, dims)``, unit length, rows in the order of record ids.
        eligible: which rows may be searched, shape ``(n,)``.
        probe: float64, shape ``(dims,)``, unit length.
        threshold: the lowest score to return, cosine, -1 to 1.
        limit: the most rows to return, at least 1.
    """
    narrow = probe.astype(np.float32)
    try:
        kept_rows = _scanned(templates, eligible, narrow, threshold=threshold, limit=limit)
    finally:
        wipe(narrow)  # the probe itself is its owner's to wipe
    scores = exact_scores(templates, kept_rows, probe)  # (3)
    reached = scores >= threshold
    kept_rows, scores = kept_rows[reached], scores[reached]
    order = np.lexsort((kept_rows, -scores))[:limit]
    return tuple(Match(int(kept_rows[i]), float(scores[i])) for i in order)


def _scanned(
    templates: Templates,
    eligible: npt.NDArray[np.bool_],
    narrow: npt.NDArray[np.float32],
    *,
    threshold: float,
    limit: int,
) -> npt.NDArray[np.intp]:
    """Return every row that the float64 score could put into the answer: rules (1) and (2)."""
    count, dims = templates.shape
    eps = scan_error(dims)
    cut = min(max(threshold - eps, -_BEYOND_ANY_SCORE), _BEYOND_ANY_SCORE)  # fits a float32
    kept_rows = np.empty(0, dtype=np.intp)
    kept_scans = np.empty(0, dtype=np.float32)
    for start in range(0, count, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, count)
        allowed = eligible[start:stop]
        if not allowed.any():
            continue
        scans = templates[start:stop] @ narrow
        found = np.flatnonzero((scans >= cut) & allowed)  # (1)
        if not len(found):
            continue
        kept_rows = np.concatenate([kept_rows, found + start])
        kept_scans = np.concatenate([kept_scans, scans[found]])
        if len(kept_rows) > limit:  # (2)
            kth_best = float(np.partition(kept_scans, -limit)[-limit])
            cut = max(cut, kth_best - 2 * eps)
            near = kept_scans >= cut
            kept_rows, kept_scans = kept_rows[near], kept_scans[near]
    return kept_rows
