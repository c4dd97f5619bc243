"""What a score is (promise 6): the cosine similarity of probe and template, in float64.

It is the pairwise sum of ``probe[i] * template[i]`` divided by the template's length (templates are
kept in float32, so it is 1 within rounding). Every engine that claims to be exact ranks by this
score, whatever it scanned with.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.templates import Probe, Templates

MATCHER: Final = "probegate-cosine/1"
"""The matcher's name and version, stated with every score."""
_FLOAT32_UNIT_ROUNDOFF: Final = 2.0**-24


def scan_error(dims: int) -> float:
    """Return how far a score summed in float32 may be from ours, for unit vectors.

    The sum of ``dims`` rounded products errs by at most ``gamma(dims)`` times the sum of
    magnitudes, which Cauchy-Schwarz holds to 1; rounding the probe and the stored lengths costs a
    few units more.
    """
    return (dims + 16) * _FLOAT32_UNIT_ROUNDOFF * 1.001


def exact_scores(
    templates: Templates, rows: npt.NDArray[np.intp], probe: Probe
) -> npt.NDArray[np.float64]:
    """Return the score of some rows: their cosine similarity to the probe, in float64.

    The pairwise sum of ``probe[i] * template[i]`` divided by the template's length; it is the same
    for equal templates wherever they lie. A row that was erased under us is all zeros and scores
    ``-inf``.

    Args:
        templates: float32, shape ``(n, dims)``.
        rows: which, shape ``(m,)``.
        probe: float64, shape ``(dims,)``, unit length.
    """
    return paired_scores(templates[rows], probe[np.newaxis])


def paired_scores(templates: Templates, probes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the score of each template with the probe beside it; see ``exact_scores``.

    Args:
        templates: float32, shape ``(m, dims)``.
        probes: float64, shape ``(m, dims)``, or ``(1, dims)`` for one probe with all of them.
    """
    wide = templates.astype(np.float64)
    lengths = np.sqrt(np.add.reduce(wide * wide, axis=1))
    # A pairwise sum along a contiguous row does not depend on where the row lies.
    scores: npt.NDArray[np.float64] = np.full(len(wide), -np.inf)
    np.divide(np.add.reduce(wide * probes, axis=1), lengths, out=scores, where=lengths > 0)
    return scores
