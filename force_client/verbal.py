"""A likelihood ratio in words, for people who read the number beside it.

The words are those of ENFSI's verbal scale (2015), from general knowledge of it and not from the
text: they help to read a number and are no finding of anybody's.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

SCALE_NOTE: Final = "Words after ENFSI's verbal scale of 2015 (general knowledge, not a finding)."
_FROM: Final = (0.30103, 1.0, 2.0, 3.0, 4.0, 6.0)
"""Where each word but the first begins: log10 of 2, 10, 100, 1,000, 10,000 and 1,000,000."""
_WORDS: Final = (
    "none",
    "weak",
    "moderate",
    "moderately strong",
    "strong",
    "very strong",
    "extremely strong",
)


def support(log10_lr: float) -> str:
    """Return how strongly the evidence supports one person, or "against" it, two people."""
    word = _WORDS[bisect_right(_FROM, abs(log10_lr))]
    return f"{word} against" if log10_lr < 0 and word != "none" else word
