"""Necessity and proportionality in an officer's own words, and signs that they are not.

A text that says nothing of the case in hand is boilerplate. Two signs of it can be counted:

1. it is too short: ``distinct_words`` counts each word once, so repeating one does not help;
2. it was used before for another case: ``normal_form`` gives two texts the same form if they differ
   only in figures, in capitalised words (names, places), in punctuation, case and spacing, which
   is what changes when a template is filled in.

Either is a warning by default. An agreement makes it a condition with a clause over
``necessity_words``, ``proportionality_words`` or ``reasons_reused`` (a count of other cases, from
the decider's own records).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

SHORT_BELOW_WORDS: Final = 8
"""Fewest different words that say anything of a case; fewer is a warning."""
NECESSITY_SHORT: Final = "necessity.short"
PROPORTIONALITY_SHORT: Final = "proportionality.short"
REASONS_REPEATED: Final = "reasons.repeated"

_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_SENTENCE_END: Final = re.compile(r"[.!?:;]\s*$")


def distinct_words(text: str | None) -> int | None:
    """Return how many different words a text has; None for a text that is not given."""
    if text is None:
        return None
    return len({word.casefold() for word in _WORD.findall(_plain(text))})


def normal_form(text: str) -> str:
    """Return what of a text stays when a template is filled in anew.

    Words in lower case, one space apart, without figures, punctuation or capitalised words; a word
    that begins a sentence is kept, for its capital says nothing.
    """
    plain = _plain(text)
    kept: list[str] = []
    end_of_last = 0
    for found in _WORD.finditer(plain):
        word, between = found.group(), plain[end_of_last : found.start()]
        end_of_last = found.end()
        if word[0].islower() or not kept or _SENTENCE_END.search(between):
            kept.append(word.casefold())
    return " ".join(kept)


def _plain(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def warnings(
    necessity_words: int | None, proportionality_words: int | None, reused: int | None
) -> tuple[str, ...]:
    """Return the signs of boilerplate, by name; what is not known is no sign."""
    found = []
    if necessity_words is not None and necessity_words < SHORT_BELOW_WORDS:
        found.append(NECESSITY_SHORT)
    if proportionality_words is not None and proportionality_words < SHORT_BELOW_WORDS:
        found.append(PROPORTIONALITY_SHORT)
    if reused:
        found.append(REASONS_REPEATED)
    return tuple(found)
