"""Signing a calibration, and the rules by which an adapter trusts one.

1. It is a DSSE envelope of the calibration type, signed by this very agency and nobody else, with
   signing keys the directory lists as valid now: what a key that was revoked signed is not used.
2. Its payload is the RFC 8785 form of the calibration, so that one calibration has one digest.
3. It is of this agency, and of the matcher, the kind and the template model of the gallery that is
   searched; and it is known how many records that gallery holds, for what a score is worth is said
   with how many false candidates to expect.
4. It is fitted at or before now (but for clock skew) and has not expired. Its end is looked at for
   every search, and so is the end of the keys that signed it.
5. One that breaks a rule is not used, whatever was in use before: a file that was put there is what
   the agency wants to be used, and after a restart nothing else would be. Scores are raw until
   there is one that can be trusted. It is looked at again only if it, the directory or the gallery
   changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agency_adapters.calibration.artefact import Calibration, ScoreScale
from agency_adapters.galleries.gallery import GalleryFacts
from trust import dsse, files
from trust.clock import MAX_CLOCK_SKEW
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.payload_types import PayloadType


def sign_calibration(calibration: Calibration, signer: Signer) -> bytes:
    """Return a calibration as a file: the DSSE envelope, signed by the agency."""
    return dsse.sign(PayloadType.CALIBRATION, calibration.canonical(), signer).to_json()


@dataclass(frozen=True, slots=True)
class TrustedCalibration:
    """A calibration that keeps the rules, until ``until``.

    Attributes:
        calibration: the calibration.
        sha256: the digest of its signed payload, 32 bytes.
        until: when it, or the first of the keys that signed it, ends.
    """

    calibration: Calibration
    sha256: bytes
    until: datetime

    def for_search(self, facts: GalleryFacts, quality: int, now: datetime) -> ScoreScale | None:
        """Return the scale for one search, or None where its scores are raw (3) (4).

        Args:
            facts: of the generation that is searched.
            quality: of the probe, 0 to 100.
            now: when the search is decided.
        """
        band = self.calibration.band(quality)
        if band is None or not self.holds(facts, now):
            return None
        whole = self.calibration
        return ScoreScale(whole.name, self.sha256, whole.expires_at, band)

    def holds(self, facts: GalleryFacts, now: datetime) -> bool:
        """Say whether it fits this gallery, and has not ended (3) (4)."""
        return _misfit(self.calibration, facts) is None and now < self.until


def load_calibration(
    raw: bytes, *, agency: str, facts: GalleryFacts, directory: Directory, now: datetime
) -> TrustedCalibration:
    """Verify a calibration by the module's rules.

    Args:
        raw: the file.
        agency: this agency's member id.
        facts: of the gallery that is searched.
        directory: the directory in force.
        now: the time of use.

    Raises:
        ProbegateError: ``CALIBRATION_INVALID`` or ``CALIBRATION_EXPIRED``.
    """
    try:
        envelope = dsse.Envelope.from_json(raw)
        mine = directory.resolver(agency, KeyUse.SIGN, now)
        kids = set(dsse.verify(envelope, PayloadType.CALIBRATION, mine))  # (1)
        calibration = Calibration.model_validate_json(envelope.payload)
    except ProbegateError as error:
        raise _invalid(f"{error.reason.name} {error.detail}".strip()) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise _invalid(f"{where}: {first['msg']}") from None
    if calibration.canonical() != envelope.payload:  # (2)
        raise _invalid("not in canonical form")
    if calibration.agency != agency:  # (3)
        raise _invalid("of another agency")
    misfit = _misfit(calibration, facts)
    if misfit is not None:
        raise _invalid(misfit)
    if calibration.fitted_at > now + MAX_CLOCK_SKEW:  # (4)
        raise _invalid("fitted after now")
    if now >= calibration.expires_at:
        raise ProbegateError(Reason.CALIBRATION_EXPIRED, f"at {calibration.expires_at}")
    keys = [key for key in directory.keys(agency, KeyUse.SIGN, now) if key.kid in kids]
    return TrustedCalibration(
        calibration,
        hashlib.sha256(envelope.payload).digest(),
        min(calibration.expires_at, *(key.not_after for key in keys)),
    )


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at the calibration's file found; exactly one of the last two is there.

    Attributes:
        seen: names the file, the directory and the gallery that were looked at.
        trusted: what may be used.
        refusal: why nothing may be.
    """

    seen: bytes
    trusted: TrustedCalibration | None = None
    refusal: ProbegateError | None = None


_NOTHING_SEEN: Final = Looked(b"")


class CalibrationStore:
    """The calibration in use and its file.

    Args:
        path: the file, or None where the agency has none.
        agency: this agency's member id.
    """

    def __init__(self, path: Path | None, agency: str) -> None:
        self._path = path
        self._agency = agency
        self._looked = _NOTHING_SEEN

    @property
    def current(self) -> TrustedCalibration | None:
        """What is in use; it must still be asked for every search (4)."""
        return self._looked.trusted

    def changed(self, directory: Directory, facts: GalleryFacts, now: datetime) -> Looked | None:
        """Look at the file; return what was found if that is new, not yet taken up (5).

        Whoever calls puts it on the record and then takes it up; of a refusal, after ``drop``.
        """
        if self._path is None:
            return None
        try:
            raw = files.read(self._path)
        except ProbegateError as error:
            return self._new(Looked(b"missing", refusal=error))
        seen = _digest(raw, directory.sha256, facts)
        if seen == self._looked.seen:
            ended = self.current is not None and now >= self.current.until
            return Looked(seen, refusal=_expired()) if ended else None
        try:
            trusted = load_calibration(
                raw, agency=self._agency, facts=facts, directory=directory, now=now
            )
        except ProbegateError as error:
            return Looked(seen, refusal=error)
        return Looked(seen, trusted=trusted)

    def drop(self) -> None:
        """Use nothing from now on, until something that is on the record is taken up."""
        self._looked = _NOTHING_SEEN

    def take_up(self, looked: Looked) -> None:
        """Use what ``changed`` found from now on, or nothing if it was refused."""
        self._looked = looked

    def _new(self, looked: Looked) -> Looked | None:
        return None if looked.seen == self._looked.seen else looked


def _digest(raw: bytes, directory_sha256: bytes, facts: GalleryFacts) -> bytes:
    searched = f"{facts.kind}\n{facts.model}\n{facts.matcher}\n{facts.counted}".encode()
    return hashlib.sha256(hashlib.sha256(raw).digest() + directory_sha256 + searched).digest()


def _misfit(calibration: Calibration, facts: GalleryFacts) -> str | None:
    for what in ("matcher", "kind", "model"):
        if getattr(calibration, what) != getattr(facts, what):
            return f"of another {what}"
    return None if facts.counted else "for a gallery of which nobody says how many records it holds"


def _expired() -> ProbegateError:
    return ProbegateError(Reason.CALIBRATION_EXPIRED, "while in use")


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.CALIBRATION_INVALID, why)
