"""Invented people and the face templates of their captures: nobody real is in here.

A stand-in for a face recogniser and a population, close enough to real ones that thresholds,
calibrations and false candidates behave as they should. Who somebody is, is a direction drawn from
a Gaussian whose spectrum decays (faces differ along few directions) around a small common mean;
most people belong to one of a few hundred clusters that resemble one another, which gives the
scores of strangers their heavy tail. A capture is that direction plus noise whose size its quality
sets.

Measured with seed 1: 400 probes of each band against 20,000 good captures. The largest score of a
stranger is given as median (tenth to ninetieth percentile) over the probes; all 1,200 probes found
their own mate first.

====  ===========================  ===================  ==================  =======  =======
band  mated mean, sd, smallest     non-mated mean, sd   largest of 20,000   FMR 0.3  FMR 0.4
====  ===========================  ===================  ==================  =======  =======
good  0.858, 0.023, 0.745          0.020, 0.095         0.39 (0.34 - 0.45)  1.5e-3   5e-5
fair  0.721, 0.040, 0.601          0.016, 0.083         0.34 (0.29 - 0.39)  3e-4     5e-6
poor  0.560, 0.051, 0.409          0.013, 0.071         0.28 (0.25 - 0.33)  4e-5     3e-7
====  ===========================  ===================  ==================  =======  =======
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

MODEL: Final = "invented-face-1"
"""The template model's id."""
DIMS: Final = 512
"""Dimensions of a template."""
LATENT_DIMS: Final = 192
"""Directions along which invented people differ."""
MAX_PEOPLE: Final = 500_000
"""How many people there are; their invented identifiers are unique up to here."""
AS_OF: Final = date(2026, 11, 1)
"""The day the invented records were drawn up."""
YOUNGEST_BORN: Final = date(2012, 12, 31)
"""Nobody invented is born later."""

Templates = NDArray[np.float32]
Numbers = Sequence[int] | NDArray[np.int64]


class Band(StrEnum):
    """How good a capture is."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"

    @property
    def quality(self) -> int:
        """A unified quality score typical of the band, 0 to 100."""
        return _QUALITY[self]


_QUALITY: Final = {Band.GOOD: 84, Band.FAIR: 57, Band.POOR: 31}
# Noise power, relative to the direction's. Two captures of powers a and b have a cosine of about
# 1 / sqrt((1 + a)(1 + b)); these aim at 0.86, 0.72 and 0.56 against a good one.
_NOISE_POWER: Final = {Band.GOOD: 0.160, Band.FAIR: 0.652, Band.POOR: 1.72}
_NOISE_SPREAD: Final = 0.12  # captures of one band differ: standard deviation of log amplitude
_SPECTRUM_KNEE: Final = 28.0
_SPECTRUM_DECAY: Final = 1.6
_COMMON_MEAN: Final = 0.15  # length, relative to the spread between people
_CLUSTERS: Final = 400
_CLUSTERED_SHARE: Final = 0.8
_CLUSTER_PULL: Final = 0.26  # cosine between two people of one cluster, about

_BLOCK: Final = 512  # people drawn at once, so that one and many are drawn alike
_CACHED_BLOCKS: Final = 64  # at 1 MiB each
_MODEL_SEED: Final = 1
_CLUSTER_STREAM, _PERSON_STREAM, _CAPTURE_STREAM = range(3)


@dataclass(frozen=True, slots=True)
class Person:
    """One invented person: the same facts in every gallery that holds them.

    The numbers cannot be anybody's: NHS numbers begin 999 (kept for tests) and National Insurance
    numbers begin ZZ (never issued); the passport and PNC numbers carry letters that real ones lack.
    """

    number: int
    given_names: str
    family_name: str
    date_of_birth: date
    place_of_birth: str
    nationality: str
    passport_number: str
    ni_number: str
    nhs_number: str
    pnc_id: str


class Population:
    """Invented people, numbered from 0; the same seed always gives the same people.

    Attributes:
        seed: chooses the people; all populations share one template model.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def identity(self, number: int) -> Person:
        """Return the facts of one person.

        Raises:
            ValueError: there is no person of that number.
        """
        return self.identities([number])[0]

    def identities(self, people: Numbers) -> list[Person]:
        """Return the facts of many people, in the sequence asked for."""
        numbers = _checked(people)
        draws = [hashed(self.seed, fact, numbers).tolist() for fact in _FACTS]
        return [
            _person(number, *drawn) for number, *drawn in zip(numbers.tolist(), *draws, strict=True)
        ]

    def capture(self, person: int, band: Band, capture_no: int) -> Templates:
        """Return one template, shape (512,), float32, unit length.

        Args:
            person: the person's number.
            band: how good the capture is.
            capture_no: which capture of that band, from 0; each has noise of its own.
        """
        template: Templates = self.captures([person], band, capture_no)[0]
        return template

    def captures(self, people: Numbers, band: Band, capture_no: int) -> Templates:
        """Return a template for each person, shape (n, 512); row i is what ``capture`` gives.

        Quickest where the people's numbers lie close together.
        """
        numbers = _checked(people)
        templates = np.empty((len(numbers), DIMS), np.float32)
        order = np.argsort(numbers // _BLOCK, kind="stable")
        blocks, starts = np.unique(numbers[order] // _BLOCK, return_index=True)
        for block, rows in zip(blocks.tolist(), np.split(order, starts[1:]), strict=True):
            drawn = _capture_block(self.seed, band, capture_no, block)
            templates[rows] = drawn[numbers[rows] % _BLOCK]
        return templates


def latent(templates: Templates) -> Templates:
    """Return how templates lie along the model's directions, most telling first, shape (n, 192).

    Each column has a mean near 0 and a standard deviation near 1 over the population, whatever the
    captures' quality, so that two captures of one person have nearly the same leading values.
    """
    basis, spread, mean = _model()
    inside = templates @ basis.T
    inside /= np.linalg.norm(inside, axis=-1, keepdims=True)
    return np.asarray((inside - mean) / spread, np.float32)


def hashed(seed: int, stream: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a well-mixed 64-bit value for each number (SplitMix64), without drawing the others."""
    start = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed += np.uint64(start)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _checked(people: Numbers) -> NDArray[np.int64]:
    numbers = np.asarray(people, np.int64)
    if numbers.ndim != 1 or (numbers.size and not 0 <= numbers.min() <= numbers.max() < MAX_PEOPLE):
        raise ValueError(f"people are numbered from 0 to {MAX_PEOPLE - 1}")
    return numbers


@lru_cache(maxsize=1)
def _model() -> tuple[Templates, Templates, Templates]:
    """Return the model's directions (192, 512), the spread along each and the common mean."""
    generator = np.random.default_rng(_MODEL_SEED)
    basis = np.linalg.qr(generator.standard_normal((DIMS, LATENT_DIMS)))[0].T
    power = (1 + np.arange(LATENT_DIMS) / _SPECTRUM_KNEE) ** -_SPECTRUM_DECAY
    spread = np.sqrt(power / power.sum())
    mean = generator.standard_normal(LATENT_DIMS) * spread
    mean *= _COMMON_MEAN / np.linalg.norm(mean)
    return basis.astype(np.float32), spread.astype(np.float32), mean.astype(np.float32)


@lru_cache(maxsize=4)
def _clusters(seed: int) -> Templates:
    generator = np.random.default_rng((seed, _CLUSTER_STREAM))
    return generator.standard_normal((_CLUSTERS, LATENT_DIMS), np.float32)


@lru_cache(maxsize=_CACHED_BLOCKS)
def _direction_block(seed: int, block: int) -> Templates:
    """Return who the people of one block are: unit vectors, shape (512, 512)."""
    basis, spread, mean = _model()
    generator = np.random.default_rng((seed, _PERSON_STREAM, block))
    own = generator.standard_normal((_BLOCK, LATENT_DIMS), np.float32)
    cluster = _clusters(seed)[generator.integers(_CLUSTERS, size=_BLOCK)]
    pull = np.where(generator.random((_BLOCK, 1)) < _CLUSTERED_SHARE, _CLUSTER_PULL, 0.0)
    pull = pull.astype(np.float32)
    person = np.sqrt(1 - pull) * own + np.sqrt(pull) * cluster
    return _unit((person * spread + mean) @ basis)


def _capture_block(seed: int, band: Band, capture_no: int, block: int) -> Templates:
    stream = (seed, _CAPTURE_STREAM, list(Band).index(band), capture_no, block)
    generator = np.random.default_rng(stream)
    size = np.exp(_NOISE_SPREAD * generator.standard_normal((_BLOCK, 1), np.float32))
    size *= np.float32(np.sqrt(_NOISE_POWER[band] / DIMS))
    noise = generator.standard_normal((_BLOCK, DIMS), np.float32)
    return _unit(_direction_block(seed, block) + size * noise)


def _unit(vectors: Templates) -> Templates:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


_FACTS: Final = range(5)
_OLDEST_BORN: Final = date(1942, 1, 1)
_BIRTH_DAYS: Final = (YOUNGEST_BORN - _OLDEST_BORN).days + 1
_GIVEN: Final = [
    first + last
    for first in ("Ab", "Bri", "Cal", "Dru", "El", "Fen", "Gwi", "Hol", "Iv", "Jor", "Kes", "Lum")
    for last in ("ana", "bert", "dra", "eth", "ika", "lin", "mo", "or", "sa", "wyn")
]
_FAMILY: Final = [
    first + middle + last
    for first in ("Ash", "Brom", "Cray", "Dun", "Ester", "Fal", "Grim", "Hather", "Ink", "Quill")
    for middle in ("a", "el", "in", "o", "un")
    for last in ("borough", "combe", "dale", "fold", "mere", "quist", "thwaite", "zard")
]
_PLACES: Final = [
    first + last
    for first in ("Great Ember", "Little Ember", "Nether Quay", "Over Quay", "Sunder", "Mock")
    for last in ("bridge", "ford", "ham", "stead", "wick")
]
_NATIONS: Final = ("Northmark", "Southmark", "Ostvale", "Westvale", "Isle of Reed")


def _person(number: int, given: int, middle: int, family: int, born: int, place: int) -> Person:
    return Person(
        number=number,
        given_names=f"{_GIVEN[given % len(_GIVEN)]} {_GIVEN[middle % len(_GIVEN)]}",
        family_name=_FAMILY[family % len(_FAMILY)],
        date_of_birth=_OLDEST_BORN + timedelta(days=born % _BIRTH_DAYS),
        place_of_birth=_PLACES[place % len(_PLACES)],
        nationality=_NATIONS[(place >> 32) % len(_NATIONS)],
        passport_number=f"ZZX{number:06d}",
        ni_number=f"ZZ{number:06d}A",
        nhs_number=_nhs_number(number),
        pnc_id=f"ZZ/{number:06d}Y",
    )


def _nhs_number(number: int) -> str:
    """Return a number of the test range with its check digit (modulus 11).

    A body whose check would be 10 is not used. Bodies that differ by one in the last digit differ
    by two in the check, so of an even body and the next one at least one can be used.
    """
    body = 999_000_000 + 2 * number
    check = _nhs_check(body)
    if check == 10:  # noqa: PLR2004 -- the scheme's own word for "no such number"
        body += 1
        check = _nhs_check(body)
    return f"{body}{check}"


def _nhs_check(body: int) -> int:
    """Return the check digit of nine digits; 10 means that the body cannot be used."""
    return -sum(weight * int(digit) for weight, digit in enumerate(str(body)[::-1], 2)) % 11
