"""Drawn faces: the same for the same capture, alike for one person, different for two."""

from __future__ import annotations

from dataclasses import astuple
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from deploy.local.faces import HEIGHT, WIDTH, face_png, features
from deploy.local.people import Band, Population

PEOPLE = range(40, 46)


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(1)


def pixels(png: bytes) -> np.ndarray:
    """Return the middle of the picture, where the face is, as numbers."""
    image = Image.open(BytesIO(png)).convert("RGB").crop((30, 25, WIDTH - 30, HEIGHT - 35))
    return np.asarray(image.resize((25, 35)), np.float64)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def test_a_face_is_a_png_of_the_stated_size_and_always_the_same(population: Population) -> None:
    template = population.capture(40, Band.GOOD, 0)
    png = face_png(template)
    assert png == face_png(template.copy())
    image = Image.open(BytesIO(png))
    assert (image.format, image.size, image.mode) == ("PNG", (WIDTH, HEIGHT), "RGB")


def test_captures_of_one_person_look_alike_and_people_differ(population: Population) -> None:
    first = [pixels(face_png(population.capture(n, Band.GOOD, 0))) for n in PEOPLE]
    again = [pixels(face_png(population.capture(n, Band.FAIR, 1))) for n in PEOPLE]
    mated = [distance(one, other) for one, other in zip(first, again, strict=True)]
    non_mated = [distance(one, other) for one, other in combinations(first, 2)]
    assert np.mean(mated) < 0.6 * np.mean(non_mated)


@pytest.mark.parametrize("band", Band)
def test_features_are_shares_that_stay_near_over_captures(
    population: Population, band: Band
) -> None:
    people = range(2_000, 2_100)
    gallery = np.array([astuple(features(population.capture(n, Band.GOOD, 0))) for n in people])
    probes = np.array([astuple(features(population.capture(n, band, 1))) for n in people])
    assert 0 <= gallery.min() <= gallery.max() <= 1
    mated = np.abs(gallery - probes).mean()
    non_mated = np.abs(gallery - np.roll(probes, 1, axis=0)).mean()
    assert mated < non_mated / 2


def test_a_bad_capture_is_a_worse_picture_of_the_same_face(population: Population) -> None:
    template = population.capture(41, Band.GOOD, 0)
    clean, slight, bad = (pixels(face_png(template, noise)) for noise in (0.0, 0.2, 1.0))
    assert 0 < distance(clean, slight) < distance(clean, bad)
