"""Which kernel multiplies: the fastest there is for this processor and length of template.

Whichever it is, the products are the same whole numbers and so are the answers
(``tests/promises/test_exact.py`` holds them all to it).
"""

from __future__ import annotations

from typing import Final

import numkong

from agency_adapters.galleries import native
from agency_adapters.galleries.kernels import Kernel, NumKongKernel, NumpyKernel

PRODUCTS_OF_BYTES: Final = ("icelake", "sapphireamx", "sierra", "alder")
"""NumKong's names of processors that multiply bytes in one instruction (VNNI, AMX): there its
packed products are faster than ours for AVX2."""


def best_kernel(dims: int) -> Kernel:
    """Return the kernel for templates of ``dims`` dimensions."""
    able = {name for name, on in numkong.get_capabilities().items() if on}
    if dims % native.STEP == 0:
        for ours in native.kernels():
            if ours.name == native.VNNI or not able.intersection(PRODUCTS_OF_BYTES):
                return ours
    return NumKongKernel() if able - {"serial"} else NumpyKernel()
