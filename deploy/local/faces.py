"""Draws an invented face from a template, so that people have something to look at and compare.

The drawing's proportions and colours follow the template's most telling directions, each of them
continuously: two captures of one person look alike, however good, and two people differ. Clothing,
background, pose and light follow the capture, as they would. Nothing here resembles anybody real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter
from scipy.special import ndtr

from deploy.local.people import Templates, latent

WIDTH: Final = 160
"""Width of an image, pixels."""
HEIGHT: Final = 200
"""Height of an image, pixels."""

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

_SHAVEN: Final = 0.1  # hair shorter than this does not show behind the head
_SCALE: Final = 4  # drawn larger and reduced, which smooths every edge
_CANVAS: Final = (WIDTH * _SCALE, HEIGHT * _SCALE)
_CENTRE: Final = WIDTH / 2

_SKIN: Final = ((247, 219, 196), (232, 190, 158), (205, 152, 112), (158, 106, 72), (98, 64, 46))
_HAIR: Final = (
    (28, 24, 26),
    (66, 44, 32),
    (112, 70, 40),
    (150, 72, 38),
    (206, 168, 104),
    (172, 170, 168),
)
_IRIS: Final = ((70, 44, 28), (108, 78, 40), (92, 118, 70), (74, 112, 150), (120, 134, 144))
_BACKDROPS: Final = ((214, 219, 224), (196, 206, 214), (222, 216, 206), (188, 194, 190))
_CLOTHES: Final = (
    (48, 62, 88),
    (98, 40, 46),
    (46, 82, 68),
    (86, 86, 92),
    (148, 128, 92),
    (36, 36, 42),
)


@dataclass(frozen=True, slots=True)
class Features:
    """What makes a drawn face this one; each from 0 to 1, evenly spread over the population."""

    hair_length: float
    skin: float
    hair: float
    face_width: float
    jaw: float
    beard: float
    eye_size: float
    eye_spacing: float
    iris: float
    brow_weight: float
    brow_tilt: float
    nose: float
    mouth_width: float
    lips: float
    fringe: float
    ears: float


def features(template: Templates) -> Features:
    """Return the features of one template of shape (512,)."""
    leading = latent(template)[: len(Features.__slots__)]
    return Features(*(float(value) for value in ndtr(leading.astype(np.float64))))


def face_png(template: Templates, capture_noise: float = 0.15) -> bytes:
    """Draw one template.

    Args:
        template: shape (512,), unit length.
        capture_noise: how bad the image is, 0 (studio) to 1 (a distant camera at night): pose,
            light, grain and blur.

    Returns:
        A PNG, 160 by 200 pixels, the same bytes for the same arguments.
    """
    # The capture's own accidents follow from the template's bytes: no state, no clock.
    digest = hashlib.sha256(np.ascontiguousarray(template, "<f4").tobytes()).digest()
    accidents = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    clothes = _CLOTHES[accidents.integers(len(_CLOTHES))]
    backdrop = _BACKDROPS[accidents.integers(len(_BACKDROPS))]
    portrait = _Portrait(features(template), clothes, backdrop).draw()
    image = _photograph(portrait, backdrop, capture_noise, accidents)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class _Portrait:
    """One face on a large canvas; coordinates are in pixels of the finished image."""

    def __init__(self, face: Features, clothes: Colour, backdrop: Colour) -> None:
        self._face = face
        self._clothes = clothes
        self._image = Image.new("RGB", _CANVAS, backdrop)
        self._skin = _between(_SKIN, face.skin)
        self._hair = _between(_HAIR, face.hair)
        self._half_width = 35 + 12 * face.face_width
        self._top, self._chin = 46.0, 148 + 8 * face.jaw
        self._eye_line = 98.0
        self._outline = self._head_outline()

    def draw(self) -> Image.Image:
        """Draw from back to front."""
        self._backdrop_light()
        self._hair_behind()
        self._neck_and_shoulders()
        self._ears()
        self._fill(self._outline, self._skin)
        self._modelling()
        self._beard()
        self._nose()
        self._mouth()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
        self._hair_in_front()
        return self._image

    def _head_outline(self) -> Points:
        """An ellipse above the eyes; below, a curve from pointed to square as the jaw has it."""
        angle = np.linspace(0, 2 * np.pi, 160, endpoint=False)
        across, down = np.cos(angle), np.sin(angle)
        middle = 96.0
        squareness = 1.05 - 0.55 * self._face.jaw
        below = down > 0
        width = np.where(below, np.sign(across) * np.abs(across) ** squareness, across)
        height = np.where(below, (self._chin - middle) * down, (middle - self._top) * down)
        return _points(_CENTRE + self._half_width * width, middle + height)

    def _backdrop_light(self) -> None:
        self._shade([(20, 10), (140, 10), (150, 120), (10, 120)], (255, 255, 255), 60, 24)

    def _neck_and_shoulders(self) -> None:
        half = self._half_width * 0.52
        neck: Points = [
            (80 - half, 130),
            (80 + half, 130),
            (80 + half + 3, 178),
            (80 - half - 3, 178),
        ]
        self._fill(neck, _mixed(self._skin, (40, 20, 20), 0.18))
        reach = 56 + 12 * self._face.face_width
        angle = np.linspace(np.pi, 2 * np.pi, 60)
        shoulders = _points(80 + reach * np.cos(angle), 206 + 38 * np.sin(angle))
        self._fill(shoulders, self._clothes)
        collar = self._box(80, 171, half + 4, 9)
        self._pen().ellipse(collar, fill=_mixed(self._skin, (40, 20, 20), 0.12))
        self._shade([(12, 206), (40, 180), (58, 206)], (0, 0, 0), 50, 8)

    def _ears(self) -> None:
        size = 7 + 4 * self._face.ears
        for side in (-1, 1):
            x = 80 + side * (self._half_width + 1)
            self._pen().ellipse(
                self._box(x, 104, size * 0.62, size), fill=_mixed(self._skin, (120, 40, 30), 0.1)
            )
            self._pen().ellipse(
                self._box(x, 104, size * 0.3, size * 0.6),
                fill=_mixed(self._skin, (90, 30, 25), 0.28),
            )

    def _modelling(self) -> None:
        """Light from the upper left: a shaded side, cheeks, and the hollow under the brows."""
        half = self._half_width
        side: Points = [
            (80 + half * 0.62, 60),
            (80 + half * 1.2, 70),
            (80 + half * 1.2, 140),
            (80 + half * 0.3, 160),
        ]
        self._shade(side, (50, 20, 20), 62, 9, inside=True)
        lit: Points = [
            (80 - half * 0.7, 66),
            (80 + half * 0.1, 58),
            (80, 84),
            (80 - half * 0.6, 90),
        ]
        self._shade(lit, (255, 246, 232), 54, 9, inside=True)
        for sign in (-1, 1):
            cheek = self._oval(80 + sign * half * 0.52, 116, 9, 7)
            self._shade(cheek, (214, 84, 74), 46, 6, inside=True)
            socket = self._oval(80 + sign * self._eye_offset, self._eye_line - 1, 11, 8)
            self._shade(socket, (70, 34, 30), 52, 4, inside=True)
        self._shade(self._oval(80, self._chin, half * 0.6, 7), (60, 25, 20), 56, 5, inside=True)

    @property
    def _eye_offset(self) -> float:
        return self._half_width * (0.40 + 0.12 * self._face.eye_spacing)

    def _eye(self, side: int) -> None:
        x, y = 80 + side * self._eye_offset, self._eye_line
        wide, high = 6.6 + 2.4 * self._face.eye_size, 2.9 + 2.3 * self._face.eye_size
        almond = self._almond(x, y, wide, high)
        self._fill(almond, (246, 243, 238))
        iris = _between(_IRIS, self._face.iris)
        pen = self._pen()
        inner = Image.new("L", _CANVAS, 0)
        ImageDraw.Draw(inner).polygon(_scaled(almond), fill=255)
        ball = Image.new("RGB", _CANVAS, (246, 243, 238))
        ball_pen = ImageDraw.Draw(ball)
        ball_pen.ellipse(self._box(x, y - 0.2, 4.2, 4.2), fill=_mixed(iris, (0, 0, 0), 0.35))
        ball_pen.ellipse(self._box(x, y - 0.2, 3.5, 3.5), fill=iris)
        ball_pen.ellipse(self._box(x, y - 0.2, 1.7, 1.7), fill=(18, 14, 14))
        ball_pen.ellipse(self._box(x - 1.3, y - 1.6, 0.9, 0.9), fill=(255, 255, 255))
        self._image.paste(ball, (0, 0), inner)
        upper = almond[: len(almond) // 2 + 1]
        pen.line(_scaled(upper), fill=_mixed(self._hair, (20, 12, 12), 0.7), width=6, joint="curve")
        lower = almond[len(almond) // 2 :]
        pen.line(_scaled(lower), fill=_mixed(self._skin, (90, 40, 36), 0.5), width=3, joint="curve")
        crease = [(a, b - 3.2) for a, b in upper[4:-4]]
        pen.line(
            _scaled(crease), fill=_mixed(self._skin, (80, 36, 32), 0.38), width=3, joint="curve"
        )

    def _brow(self, side: int) -> None:
        weight = 1.3 + 2.7 * self._face.brow_weight
        tilt = 4.5 * (self._face.brow_tilt - 0.5)
        along = np.linspace(-1, 1, 24)
        x = 80 + side * (self._eye_offset + 10.5 * along)
        arch = self._eye_line - 12.5 - self._face.eye_size * 2 - 2.6 * (1 - along**2) - tilt * along
        thickness = weight * (1 - 0.72 * np.clip(along, 0, 1) ** 1.5)
        shape = _points(x, arch - thickness / 2) + _points(x, arch + thickness / 2)[::-1]
        self._fill(shape, _mixed(self._hair, (30, 22, 20), 0.35))

    def _nose(self) -> None:
        foot = self._eye_line + 19 + 9 * self._face.nose
        wide = 5.2 + 4.4 * self._face.nose
        dark = _mixed(self._skin, (80, 34, 28), 0.42)
        bridge: Points = [(82, 92), (82 + wide * 0.7, foot - 4), (82 + wide, foot), (81, foot - 1)]
        self._shade(bridge, (70, 30, 26), 74, 2.4)
        self._shade(self._oval(79, foot - 5, 2.4, 8), (255, 250, 240), 60, 2.5)
        angle = np.linspace(0.15 * np.pi, 0.85 * np.pi, 20)
        base = _points(80 + wide * 0.62 * np.cos(angle), foot - 1.5 + 2.6 * np.sin(angle))
        self._pen().line(_scaled(base), fill=dark, width=5, joint="curve")
        for side in (-1, 1):
            wing = np.linspace(-0.5 * np.pi, 0.4 * np.pi, 16)
            curve = _points(
                80 + side * (wide * 0.6 + 2.2 * np.cos(wing)), foot - 2 + 3 * np.sin(wing)
            )
            self._pen().line(_scaled(curve), fill=dark, width=4, joint="curve")

    def _mouth(self) -> None:
        y = self._eye_line + 36 + 3 * self._face.jaw
        wide = 11 + 7 * self._face.mouth_width
        full = 2.0 + 3.6 * self._face.lips
        colour = _mixed(self._skin, (168, 52, 58), 0.48)
        along = np.linspace(-1, 1, 40)
        x = 80 + wide * along
        line = y + 1.6 * along**2 * (0.2 - self._face.lips)
        bow = full * 0.8 * (1 - along**2) * (1 - 0.28 * np.exp(-((along / 0.18) ** 2)))
        self._fill(
            _points(x, line - bow) + _points(x, line)[::-1], _mixed(colour, (60, 10, 20), 0.16)
        )
        self._fill(_points(x, line + full * (1 - along**2)) + _points(x, line)[::-1], colour)
        self._pen().line(
            _scaled(_points(x, line)), fill=_mixed(colour, (40, 8, 12), 0.6), width=4, joint="curve"
        )
        self._shade(self._oval(80, y + full + 4, wide * 0.5, 1.6), (60, 24, 20), 60, 1.8)

    def _beard(self) -> None:
        """From none over stubble to full, always continuously."""
        strength = max(0.0, self._face.beard - 0.55) / 0.45
        if not strength:
            return
        y = self._eye_line + 36 + 3 * self._face.jaw
        half = self._half_width
        cover: Points = [
            (80 - half - 4, 112),
            (80 - half * 0.72, 124),
            (80 - 15, y - 11),
            (80, y - 9),
        ]
        cover += [(160 - a, b) for a, b in cover[::-1]]
        cover += [(80 + half + 4, 170), (80 - half - 4, 170)]
        self._shade(cover, self._hair, int(235 * strength**0.7), 3, inside=True)

    def _hair_behind(self) -> None:
        """The mass of hair behind the head; it reaches further down the longer it is."""
        length = self._face.hair_length
        end = 104 + 84 * max(0.0, length - 0.35) / 0.65
        half = self._half_width + 3 + 5 * self._face.fringe * length + 9 * max(0.0, length - 0.4)
        angle = np.linspace(np.pi, 2 * np.pi, 60)
        crown = _points(
            80 + half * np.cos(angle), 90 + (60 + 6 * self._face.fringe) * np.sin(angle)
        )
        tips: Points = [
            (80 + half, 90),
            (80 + half, end - 14),
            (80 + half * 0.94, end - 2),
            (80 + half * 0.6, end),
        ]
        tips = _smooth([*tips, *((160 - x, y) for x, y in tips[::-1])])
        if length > _SHAVEN:
            self._fill(crown + tips, _mixed(self._hair, (0, 0, 0), 0.22))

    def _hair_in_front(self) -> None:
        """The hairline: it sits lower and sweeps further aside with the fringe."""
        length = self._face.hair_length
        thickness = min(1.0, length / 0.2)
        half = self._half_width + 2 + 2.5 * thickness
        line = 60 + 15 * self._face.fringe + 4 * thickness
        temple = min(line + 8 + 14 * length, 88.0)
        angle = np.linspace(np.pi, 2 * np.pi, 60)
        rise = 46 + 5 * thickness + 4 * self._face.fringe
        crown = _points(80 + half * np.cos(angle), temple + (rise - 90 + temple) * np.sin(angle))
        parting = 80 + 26 * (self._face.fringe - 0.5)
        hairline: Points = [
            (80 + half, temple),
            (80 + half - 5, temple),
            (80 + half - 9, line + 8),
            (parting + 16, line + 2),
            (parting, line - 7),
            (parting - 14, line + 1),
            (80 - half + 9, line + 8),
            (80 - half + 5, temple),
            (80 - half, temple),
        ]
        shape = crown + _smooth(hairline)
        self._shade(shape, self._hair, int(255 * min(1.0, 0.35 + thickness)), 0.6)
        sheen = _points(
            80 + half * 0.72 * np.cos(angle[12:34]), 88 + rise * 0.78 * np.sin(angle[12:34])
        )
        sheen += _points(
            80 + half * 0.6 * np.cos(angle[12:34]), 88 + rise * 0.66 * np.sin(angle[12:34])
        )[::-1]
        self._shade(sheen, (255, 246, 230), int(46 * thickness), 3)

    def _almond(self, x: float, y: float, wide: float, high: float) -> Points:
        along = np.linspace(-1, 1, 25)
        upper = _points(x + wide * along, y - high * (1 - along**2) ** 0.8)
        lower = _points(x + wide * along, y + high * 0.72 * (1 - along**2))
        return upper + lower[::-1]

    def _pen(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self._image)

    def _fill(self, shape: Points, colour: Colour) -> None:
        self._pen().polygon(_scaled(shape), fill=colour)

    def _shade(
        self, shape: Points, colour: Colour, strength: int, blur: float, *, inside: bool = False
    ) -> None:
        """Lay a soft-edged tint over the picture, on request within the head's outline only."""
        mask = Image.new("L", _CANVAS, 0)
        ImageDraw.Draw(mask).polygon(_scaled(shape), fill=strength)
        mask = mask.filter(ImageFilter.GaussianBlur(blur * _SCALE))
        if inside:
            head = Image.new("L", _CANVAS, 0)
            ImageDraw.Draw(head).polygon(_scaled(self._outline), fill=255)
            mask = ImageChops.multiply(mask, head)
        self._image.paste(Image.new("RGB", _CANVAS, colour), (0, 0), mask)

    @staticmethod
    def _box(x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
        left, top, right, bottom = x - wide, y - high, x + wide, y + high
        return left * _SCALE, top * _SCALE, right * _SCALE, bottom * _SCALE

    @staticmethod
    def _oval(x: float, y: float, wide: float, high: float) -> Points:
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        return _points(x + wide * np.cos(angle), y + high * np.sin(angle))


def _photograph(
    portrait: Image.Image, backdrop: Colour, noise: float, accidents: np.random.Generator
) -> Image.Image:
    """Give a portrait the pose, light, grain and blur of one capture."""
    tilt, left, top, light = accidents.uniform(-1, 1, 4) * noise
    image = portrait.rotate(
        7 * tilt,
        Image.Resampling.BICUBIC,
        translate=(int(12 * _SCALE * left), int(8 * _SCALE * top)),
        fillcolor=backdrop,
    )
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    image = image.filter(ImageFilter.GaussianBlur(1.7 * noise**1.5))
    image = ImageEnhance.Brightness(image).enhance(1 - 0.25 * noise + 0.2 * light)
    image = ImageEnhance.Color(image).enhance(1 - 0.5 * noise)
    grain = accidents.normal(0, 13 * noise, (HEIGHT, WIDTH, 1))
    pixels = np.asarray(image, np.float64) + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _between(palette: Sequence[Colour], place: float) -> Colour:
    """Return the colour at ``place`` (0 to 1) along a palette."""
    step = min(max(place, 0.0), 1.0) * (len(palette) - 1)
    first = min(int(step), len(palette) - 2)
    return _mixed(palette[first], palette[first + 1], step - first)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    both = np.broadcast_arrays(x, y)
    return list(zip(both[0].tolist(), both[1].tolist(), strict=True))


def _scaled(shape: Points) -> Points:
    return [(x * _SCALE, y * _SCALE) for x, y in shape]


def _smooth(corners: Points, rounds: int = 3) -> Points:
    """Round a polyline's corners (Chaikin), keeping its ends."""
    for _ in range(rounds):
        cut = [corners[0]]
        for (ax, ay), (bx, by) in pairwise(corners):
            cut += [(0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by)]
            cut += [(0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by)]
        corners = [*cut, corners[-1]]
    return corners
