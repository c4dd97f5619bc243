"""One reviewer at the candidates of one search: blind to scores, agencies and other reviewers.

1. Candidates come in a random sequence of this sitting's own, under letters. Score, rank, agency
   and reference are not shown, and do not follow from the sequence.
2. The probe's image is read here, shown beside each candidate, and never sent: nothing that is
   signed holds it, its digest or its name.
3. Whoever did not have both images on view has compared nothing: then the opinion is inconclusive,
   and no other is taken. The same for a candidate that has no image.
4. Time at a candidate runs from ``look`` until ``record`` or until another is looked at, on a clock
   that only rises. Time is at one candidate at once, so it never adds up to more than the sitting.
5. What is signed is one review for each agency, all of one sitting, with a finding for every
   candidate; an agency learns of no other agency's candidates.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random, SystemRandom
from time import monotonic
from typing import Any, Final

from force_client.second_step.checks import Matter
from force_client.second_step.images import Picture
from trust import dsse, files
from trust.clock import Clock
from trust.dsse import Envelope
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.media import media_type_of
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.second_step import MAX_SECONDS_ON_TASK, Finding, Opinion, Review
from trust.wire import checked, encode

MAX_PROBE_IMAGE_BYTES: Final = 32 * 2**20
"""Largest probe image, bytes."""
_LETTERS: Final = 26


@dataclass(frozen=True, slots=True)
class BlindCandidate:
    """A candidate as a reviewer sees it."""

    label: str
    """Its letter in this sitting."""
    shown: int
    """Its place in this sitting, from 1."""
    has_image: bool


@dataclass(frozen=True, slots=True)
class Seat:
    """What a sitting knows of one candidate and does not show."""

    candidate: BlindCandidate
    agency: str
    reference: str
    picture: Picture | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Noted:
    """What is noted of one candidate so far."""

    seconds: float = 0.0
    looked: bool = False
    """Whether both images were on view."""
    opinion: Opinion | None = None
    reasons: str = ""
    disconfirming: str = ""


def label_of(place: int) -> str:
    """Return the letters of a place, from 1: A to Z, then AA, AB, and so on."""
    letters = ""
    while place:
        place, rest = divmod(place - 1, _LETTERS)
        letters = chr(ord("A") + rest) + letters
    return letters


def seated(
    matter: Matter, pictures: Mapping[tuple[str, str], Picture], random: Random | None = None
) -> tuple[Seat, ...]:
    """Return every candidate in a random sequence (1).

    Args:
        matter: the search.
        pictures: the images there are, by agency and reference.
        random: where the sequence comes from; the system's randomness by default.
    """
    shuffled = list(matter.candidates)
    (random or SystemRandom()).shuffle(shuffled)
    return tuple(
        Seat(
            BlindCandidate(label_of(place), place, (agency, reference) in pictures),
            agency,
            reference,
            pictures.get((agency, reference)),
        )
        for place, (agency, reference) in enumerate(shuffled, 1)
    )


class SittingNotes:
    """A reviewer's findings as they are made; ``Sitting`` adds sending them.

    Args:
        matter: the search.
        reviewer: the person.
        seats: the candidates, from ``seated``.
        probe: the probe's image, None if there is none to compare with.
        clock: the time.
        ticks: a clock that only rises, seconds.
    """

    def __init__(
        self,
        matter: Matter,
        reviewer: Person,
        seats: tuple[Seat, ...],
        probe: Picture | None,
        *,
        clock: Clock,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self.review_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
        self.reviewer = reviewer
        self.probe = probe
        self.started_at = clock()
        self._matter = matter
        self._seats = {one.candidate.label: one for one in seats}
        self._notes = {label: Noted() for label in self._seats}
        self._clock, self._ticks = clock, ticks
        self._began = ticks()
        self._on_view: tuple[str, float] | None = None

    def __repr__(self) -> str:
        return f"<sitting of {len(self._seats)} candidates, {len(self.open)} without a finding>"

    @property
    def search_id(self) -> str:
        """The broker's id of the search."""
        return self._matter.search_id

    @property
    def candidates(self) -> tuple[BlindCandidate, ...]:
        """Every candidate, in this sitting's sequence."""
        return tuple(one.candidate for one in self._seats.values())

    @property
    def open(self) -> tuple[BlindCandidate, ...]:
        """The candidates that have no finding yet."""
        return tuple(one for one in self.candidates if self._notes[one.label].opinion is None)

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Who the candidates are: for keeping the sitting, never for showing."""
        return tuple(self._seats.values())

    def look(self, candidate: BlindCandidate) -> Picture | None:
        """Show a candidate beside the probe: time at it begins (4).

        Returns None for a candidate that has no image.
        """
        seat = self._seat(candidate)
        self._leave()
        self._on_view = (seat.candidate.label, self._ticks())
        if seat.picture is not None and self.probe is not None:
            self._note(seat.candidate.label, looked=True)
        return seat.picture

    def put_away(self) -> None:
        """Let go of every image; findings stay."""
        self._leave()
        self.probe = None
        self._seats = {label: replace(one, picture=None) for label, one in self._seats.items()}

    def seconds_at(self, candidate: BlindCandidate) -> int:
        """Return the time at a candidate so far, whole seconds."""
        label = self._seat(candidate).candidate.label
        passed = self._notes[label].seconds
        if self._on_view is not None and self._on_view[0] == label:
            passed += max(self._ticks() - self._on_view[1], 0.0)
        return min(int(passed), MAX_SECONDS_ON_TASK)

    def record(
        self,
        candidate: BlindCandidate,
        opinion: Opinion,
        *,
        reasons: str,
        disconfirming: str = "",
    ) -> None:
        """Note what the reviewer makes of a candidate, in the place of what was noted before.

        Args:
            candidate: one of ``candidates``.
            opinion: the opinion.
            reasons: why, naming nobody.
            disconfirming: what speaks against it.

        Raises:
            ProbegateError: ``REVIEW_INVALID`` with the field, as where an opinion is given on what
                was not compared.
        """
        seat = self._seat(candidate)
        label = seat.candidate.label
        made = replace(
            self._notes[label], opinion=opinion, reasons=reasons, disconfirming=disconfirming
        )
        self._finding(seat, made, opinion)  # says at once what could not be signed later (3)
        if self._on_view is not None and self._on_view[0] == label:
            self._leave()
        self._note(label, opinion=opinion, reasons=reasons, disconfirming=disconfirming)

    def found(self) -> tuple[tuple[str, Opinion, Noted], ...]:
        """Return letter, opinion and what was noted, for every candidate; looking ends with it.

        Raises:
            ProbegateError: ``REVIEW_INVALID`` while a candidate has no finding.
        """
        if self.open:
            labels = ", ".join(one.label for one in self.open)
            raise _refused(f"no finding on {labels}", "findings")
        self._leave()
        notes = ((label, self._notes[label]) for label in self._seats)
        return tuple((label, noted.opinion, noted) for label, noted in notes if noted.opinion)

    def sign(self, signer: Signer) -> tuple[Envelope, ...]:
        """Sign a review for each agency, in the order's sequence (5).

        Raises:
            ProbegateError: ``REVIEW_INVALID`` while a candidate has no finding.
        """
        found = self.found()
        # Neither a clock that was set back nor a machine that slept makes the sitting too short.
        passed = timedelta(seconds=max(self._ticks() - self._began, 0.0))
        finished = max(self._clock(), self.started_at + passed)
        findings: dict[str, list[Finding]] = {agency: [] for agency in self._matter.reports}
        for label, opinion, noted in found:
            seat = self._seats[label]
            findings[seat.agency].append(self._finding(seat, noted, opinion))
        return tuple(
            self._signed(agency, tuple(made), finished, signer) for agency, made in findings.items()
        )

    def restore(
        self,
        review_id: str,
        started_at: datetime,
        noted: Mapping[str, Noted],
        *,
        compared: bool,
    ) -> None:
        """Take up a sitting that was held elsewhere, such as on a sheet.

        Args:
            review_id: its id.
            started_at: when it began.
            noted: what was noted, by letter.
            compared: whether the probe's image was there.

        Raises:
            ProbegateError: ``REVIEW_INVALID`` for a letter that this sitting does not have.
        """
        if not set(noted) <= set(self._notes):
            raise _refused("of another sitting", "findings")
        self.review_id, self.started_at = review_id, started_at
        for label, one in noted.items():
            both = one.looked and compared and self._seats[label].candidate.has_image  # (3)
            self._notes[label] = replace(one, looked=both)

    def _signed(
        self, agency: str, findings: tuple[Finding, ...], finished: datetime, signer: Signer
    ) -> Envelope:
        order = self._matter.order
        review = checked(
            Reason.REVIEW_INVALID,
            lambda: Review(
                review_id=self.review_id,
                search_id=self._matter.search_id,
                order_sha256=order.sha256,
                force=order.order.force,
                agency=agency,
                report_sha256=self._matter.reports[agency][0],
                reviewer=self.reviewer,
                findings=findings,
                started_at=self.started_at,
                finished_at=finished,
            ),
        )
        return dsse.sign(PayloadType.REVIEW, encode(review), signer)

    @staticmethod
    def _finding(seat: Seat, noted: Noted, opinion: Opinion) -> Finding:
        return checked(
            Reason.REVIEW_INVALID,
            lambda: Finding(
                reference=seat.reference,
                opinion=opinion,
                reasons=noted.reasons,
                disconfirming=noted.disconfirming,
                side_by_side=noted.looked,
                seconds=min(int(noted.seconds), MAX_SECONDS_ON_TASK),
                shown=seat.candidate.shown,
            ),
        )

    def _note(self, label: str, **changes: Any) -> None:
        self._notes[label] = replace(self._notes[label], **changes)

    def _leave(self) -> None:
        if self._on_view is not None:
            label, since = self._on_view
            passed = max(self._ticks() - since, 0.0)
            self._note(label, seconds=self._notes[label].seconds + passed)
            self._on_view = None

    def _seat(self, candidate: BlindCandidate) -> Seat:
        seat = self._seats.get(candidate.label)
        if seat is None or seat.candidate != candidate:
            raise _refused("not a candidate of this sitting", "candidate")
        return seat


def read_probe_image(path: Path) -> Picture:
    """Read the probe's image, which stays here (2).

    Raises:
        ProbegateError: ``FILE_MISSING``, or ``REVIEW_INVALID`` for what is no JPEG or PNG.
    """
    content = files.read(path)
    kind = media_type_of(content)
    if kind is None or len(content) > MAX_PROBE_IMAGE_BYTES:
        raise _refused(f"{path}: give a JPEG or PNG image", "probe_image")
    return Picture(kind, content)


def _refused(why: str, field_name: str) -> ProbegateError:
    return ProbegateError(Reason.REVIEW_INVALID, why, field=field_name)
