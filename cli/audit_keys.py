"""A log's public key, as a file from the scheme's directory holds it."""

from __future__ import annotations

from pathlib import Path

from audit.notes import VerifierKey
from trust.errors import ProbegateError, Reason


def read_vkey(path: Path) -> VerifierKey:
    """Read a key file.

    Raises:
        ProbegateError: ``FILE_MISSING``, or what is wrong with the key.
    """
    try:
        return VerifierKey.parse(path.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError):
        raise ProbegateError(Reason.FILE_MISSING, file=path.name) from None
