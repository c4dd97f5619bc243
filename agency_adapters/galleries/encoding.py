"""Templates in eight bits, with a bound on what was lost (exact search, promise 6).

1. A row ``x`` of unit length is kept as ``scale * code``, code in -127..127. What that is away
   from ``x`` is worked out in float64, rounded up, and kept as the row's ``bound``. The scale is
   one for many rows, so that products of codes can be compared with one whole number; it loses
   a little more of each row than a scale of its own would.
2. For a probe ``q`` encoded alike, ``<q, x> - scale_q * scale_x * <code_q, code_x>`` is
   ``<q, x - x'> + <q - q', x'>`` for the decoded ``x'`` and ``q'``. By Cauchy-Schwarz it is at most
   ``bound_x + bound_q * (1 + bound_x)`` either way.
3. The product of the codes is a whole number and is computed without error, so this bound, plus
   ``ROUNDING`` for the float64 arithmetic around it, is all that separates a scan of the codes from
   the score. For ``<q, scale_x * code_x>``, with the probe itself, it is ``bound_x`` plus
   ``ROUNDING``. What neither can exclude is scored in full precision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from agency_adapters.galleries.templates import Templates, wipe

Codes: TypeAlias = npt.NDArray[np.int8]
"""Encoded rows, int8, shape ``(n, dims)``."""

CODE_MAX: Final = 127
"""Largest code either way; -128 is never used, so that a code can be negated."""
ROUNDING: Final = 1e-9
"""More than float64 can lose on the way to a score of unit vectors of up to 4,096 dimensions."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Encoded templates (1).

    Attributes:
        codes: int8, shape ``(n, dims)``.
        scale: what every code is multiplied by, above 0.
        bounds: float32, shape ``(n,)``, at least 0.
    """

    codes: Codes
    scale: float
    bounds: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedProbes:
    """Probes encoded alike; their owner wipes them.

    Attributes:
        codes: int8, shape ``(p, dims)``.
        scales: float64, shape ``(p,)``.
        bounds: float64, shape ``(p,)``.
    """

    codes: Codes = field(repr=False)
    scales: npt.NDArray[np.float64]
    bounds: npt.NDArray[np.float64]

    def wipe(self) -> None:
        """Overwrite the codes with zeros."""
        wipe(self.codes)


def encode_rows(rows: Templates) -> EncodedRows:
    """Encode templates.

    Args:
        rows: float32, shape ``(n, dims)``, unit length within float32 rounding, at least one.
    """
    wide = rows.astype(np.float64)
    # The score divides by the stored row's own length; so does what the code stands for.
    wide /= np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, np.newaxis]
    scale = float(np.abs(wide).max()) / CODE_MAX
    codes = np.rint(wide / scale).clip(-CODE_MAX, CODE_MAX).astype(np.int8)
    wide -= codes * scale
    lost = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return EncodedRows(codes, scale, np.nextafter(lost.astype(np.float32), np.float32(np.inf)))


def encode_probes(probes: npt.NDArray[np.float64]) -> EncodedProbes:
    """Encode probes.

    Args:
        probes: float64, shape ``(p, dims)``, unit length.
    """
    scales = np.abs(probes).max(axis=1) / CODE_MAX
    scales[scales == 0.0] = 1.0  # of a probe whose caller gave up and wiped it
    codes = np.rint(probes / scales[:, np.newaxis]).clip(-CODE_MAX, CODE_MAX).astype(np.int8)
    lost = probes - codes * scales[:, np.newaxis]
    bounds = np.sqrt(np.einsum("ij,ij->i", lost, lost))
    wipe(lost)
    return EncodedProbes(codes, scales, bounds)
