"""Turning an engine's float32 scores into the exact answer, or saying that it cannot be done.

An engine compares templates of unit length by a float32 sum of ``dims`` products, in whatever order
its processor likes. Every order errs by at most ``gamma(dims)`` times the sum of magnitudes, fused
multiplication or not, so ``matching.scan_error`` bounds all of them, and:

1. A record can be in the answer only if its float32 score reaches ``threshold - eps``, and only if
   it reaches the k-th best float32 score less ``2 eps``. The engine gives all of those.
2. They, and only they, are scored in float64 as a gallery in files scores them. The threshold and
   the cut at k apply to that score, with ties in the order of record ids.
3. The bound is not taken on trust: a record whose two scores differ by more than ``eps`` shows that
   the engine does not compute in float32 (a build that rounds to bfloat16, an index that
   quantises, a damaged template), so there is no answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.gallery import Scored
from agency_adapters.galleries.matching import exact_scores, scan_error
from agency_adapters.galleries.templates import Probe, Templates
from trust.errors import ProbegateError, Reason


def certified(
    ids: Sequence[str],
    scans: npt.NDArray[np.float64],
    templates: Templates,
    probe: Probe,
    *,
    threshold: float,
    limit: int,
) -> tuple[Scored, ...]:
    """Return the exact answer from every record that could be in it (2).

    Args:
        ids: the records' ids, ``m`` of them.
        scans: the engine's scores, shape ``(m,)``.
        templates: their templates, float32, shape ``(m, dims)``.
        probe: float64, shape ``(dims,)``, unit length.
        threshold: the lowest score to return.
        limit: the most records to return.

    Raises:
        ProbegateError: ``GALLERY_UNCERTIFIED`` (3).
    """
    scores = exact_scores(templates, np.arange(len(ids), dtype=np.intp), probe)
    if not (np.abs(scores - scans) <= scan_error(len(probe))).all():  # (3); NaN is beyond, too
        raise uncertified("the engine's scores are not float32 inner products")
    reached = [
        Scored(record_id, float(score))
        for record_id, score in zip(ids, scores, strict=True)
        if score >= threshold
    ]
    reached.sort(key=lambda one: (-one.score, one.record_id))
    return tuple(reached[:limit])


def uncertified(why: str) -> ProbegateError:
    """Return what is raised where no answer is better than one that may miss a record."""
    return ProbegateError(Reason.GALLERY_UNCERTIFIED, why)
