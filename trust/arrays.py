"""Reading the array files of numpy (``.npy``, ``.npz``), whoever wrote them."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from typing import Final

UNREADABLE: Final = (
    ArithmeticError,
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise for a file that is not what its name says. (A ``.npy`` header is
parsed as a Python literal, so that a bad one can be a syntax error.)"""
