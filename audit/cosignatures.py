"""Signature lines apart from their note: keep some, bring several notes' together.

A note's text and its lines are as ``audit.notes`` defines them. A line has one spelling, so two
notes of one text carry the same signature or another one, never the same one twice.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from audit.notes import KEY_ID_BYTES, VerifierKey, split_note
from audit.settings import NOTE_MAX_SIGNATURES


def only_signed_by(note: bytes, keys: Iterable[VerifierKey]) -> bytes:
    """Return a note without the signatures of other keys; what is left is not verified here.

    Raises:
        ProbegateError: CHECKPOINT_INVALID if it is no note.
    """
    wanted = {(key.name, key.key_id) for key in keys}
    text, lines = split_note(note)
    kept = [one for one in lines if (one[0], one[1][:KEY_ID_BYTES]) in wanted]
    return _note(text, kept)


def merged(notes: Iterable[bytes]) -> list[bytes]:
    """Return one note for each text, with the lines of all notes of that text in their order.

    Of one key the last line counts, since a later cosignature states a later time.

    Raises:
        ProbegateError: CHECKPOINT_INVALID if one is no note.
    """
    texts: dict[str, dict[tuple[str, bytes], bytes]] = {}
    for note in notes:
        text, lines = split_note(note)
        for name, payload in lines:
            texts.setdefault(text, {})[name, payload[:KEY_ID_BYTES]] = payload
    return [
        _note(text, [(name, payload) for (name, _), payload in by_key.items()])
        for text, by_key in texts.items()
    ]


def _note(text: str, lines: list[tuple[str, bytes]]) -> bytes:
    written = [
        f"\u2014 {name} {base64.b64encode(payload).decode()}\n"
        for name, payload in dict.fromkeys(lines[:NOTE_MAX_SIGNATURES])
    ]
    return f"{text}\n{''.join(written)}".encode()
