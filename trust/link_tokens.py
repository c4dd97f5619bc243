"""Link tokens: agencies say "the same person" without saying who, and only within one search.

The rules:

1. A token is the first 16 bytes of ``HMAC-SHA256(search key, kind || 0x00 || identifier)``, and the
   search key is ``HKDF-SHA256(link key, info = domain || search id)``, 32 bytes. Tokens of two
   searches never match, so nobody can be followed from one to the next by them.
2. Identifiers are brought to one form first, the same at every agency: the table below. What has
   nothing left in that form is no identifier.
3. A name counts only together with a date of birth. A record's own reference at one agency (an
   application, a case) is never an identifier: it would match nothing elsewhere.
4. The space of names, dates of birth and document numbers is small enough to be tried through. What
   keeps a token from being inverted is the link key (``trust.link_keys``), which the broker that
   sees tokens does not have; the force, which could guess names, is never given a token.
5. Identifiers never print.

======================  ==========================================================================
kind                    the form it is brought to
======================  ==========================================================================
``name_born``           family name, given names, date of birth (ISO 8601), each part behind 0x1f;
                        names NFKC, case-folded, letters, marks and digits alone
``passport_number``     NFKC, upper case, letters and digits alone
``ni_number``           likewise, and only the first 8: the suffix letter names no person
``nhs_number``          digits alone
``pnc_id``              likewise in upper case; the year's last two characters, ``/``, the serial
                        number without leading zeros and with its check letter
======================  ==========================================================================
"""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trust.link_keys import LINK_KEY_BYTES, LinkKey
from trust.messages import MAX_LINK_TOKENS, TOKEN_BYTES

DOMAIN: Final = b"probegate/link-token/v1\0"
NI_NUMBER_CHARS: Final = 8
"""What of a National Insurance number names a person."""
_YEAR_CHARS: Final = 2
_PART: Final = "\x1f"


class IdentifierKind(StrEnum):
    """What sort of identifier it is; part of every token, so that no two sorts can match."""

    NAME_BORN = "name_born"
    PASSPORT_NUMBER = "passport_number"
    NI_NUMBER = "ni_number"
    NHS_NUMBER = "nhs_number"
    PNC_ID = "pnc_id"


@dataclass(frozen=True, slots=True)
class PersonIdentifier:
    """One identifier of a person in its one form (2); make it with the functions below."""

    kind: IdentifierKind
    value: str = field(repr=False)  # (5)


Identifiers = tuple[PersonIdentifier, ...]


def name_born(given_names: str, family_name: str, born: date | None) -> Identifiers:
    """Return a name with a date of birth as an identifier; none if any of it is missing (3)."""
    given, family = _plain(given_names).casefold(), _plain(family_name).casefold()
    # Case folding may leave a form that is not NFKC (Unicode 3.13, toNFKC_Casefold).
    given, family = _plain(given), _plain(family)
    if not given or not family or born is None:
        return ()
    text = _PART.join((family, given, born.isoformat()))
    return (PersonIdentifier(IdentifierKind.NAME_BORN, text),)


def passport_number(number: str) -> Identifiers:
    """Return a passport's number as an identifier."""
    return _document(IdentifierKind.PASSPORT_NUMBER, _plain(number).upper())


def ni_number(number: str) -> Identifiers:
    """Return a National Insurance number as an identifier."""
    return _document(IdentifierKind.NI_NUMBER, _plain(number).upper()[:NI_NUMBER_CHARS])


def nhs_number(number: str) -> Identifiers:
    """Return an NHS number as an identifier."""
    digits = "".join(one for one in unicodedata.normalize("NFKC", number) if one.isdecimal())
    return _document(IdentifierKind.NHS_NUMBER, digits)


def pnc_id(number: str) -> Identifiers:
    """Return a Police National Computer id as an identifier: ``1987/0012345X`` is ``87/12345X``."""
    year, _, serial = unicodedata.normalize("NFKC", number).partition("/")
    year, serial = _plain(year).upper()[-_YEAR_CHARS:], _plain(serial).upper().lstrip("0")
    return _document(IdentifierKind.PNC_ID, f"{year}/{serial}" if year and serial else "")


def search_key(link_key: LinkKey, search_id: str) -> bytes:
    """Return the key of one search's tokens (1), 32 bytes."""
    derive = HKDF(SHA256(), LINK_KEY_BYTES, None, DOMAIN + search_id.encode())
    return derive.derive(link_key.key)


def token(key: bytes, identifier: PersonIdentifier) -> bytes:
    """Return the token of an identifier under a search's key (1), 16 bytes."""
    message = identifier.kind.value.encode() + b"\x00" + identifier.value.encode()
    return hmac.digest(key, message, "sha256")[:TOKEN_BYTES]


def tokens(key: bytes, identifiers: Iterable[PersonIdentifier]) -> tuple[bytes, ...]:
    """Return the tokens of a person's identifiers, each once, sorted so that none shows its kind.

    Beyond ``MAX_LINK_TOKENS`` identifiers the first ones count.
    """
    made = dict.fromkeys(token(key, one) for one in identifiers)
    return tuple(sorted(tuple(made)[:MAX_LINK_TOKENS]))


def _document(kind: IdentifierKind, text: str) -> Identifiers:
    return (PersonIdentifier(kind, text),) if text else ()


def _plain(text: str) -> str:
    """Return the letters, marks and digits of a text in NFKC."""
    return "".join(
        one for one in unicodedata.normalize("NFKC", text) if unicodedata.category(one)[0] in "LMN"
    )
