"""Plots as SVG inside a page: columns over time, and stacked bars. No script, nothing fetched.

What is hidden is hatched: in a bar all of it together, as long as the rest of a total that is
shown, otherwise a stub. What a plot shows is in a table of the same page too, so a plot is one
image with one name to whoever cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from audit.suppression import HIDDEN

WIDTH: Final = 900
"""Units of every plot's width; a page scales it."""
COLOURS: Final = (
    "#1f6f8b",
    "#9ccbd8",
    "#c98a1b",
    "#f0d08a",
    "#7d7f84",
    "#6a4c93",
    "#b5a3cf",
    "#3f7d4e",
    "#a9cfb2",
    "#55616d",
    "#cfd4da",
    "#b4483c",
    "#e3a49c",
)
"""Light and dark in turn, so that neighbours differ without colour."""
HATCH: Final = (
    '<svg width="0" height="0" aria-hidden="true"><defs><pattern id="hidden" width="6" '
    'height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" '
    'height="6" fill="#fff"/><rect width="2" height="6" fill="#8b949e"/></pattern></defs></svg>'
)
"""Defines what hidden numbers are filled with; once in a page, before its plots."""
_HEIGHT: Final = 220
_FOOT: Final = 26
_HEAD: Final = 22
_SIDE: Final = 180
_BAR: Final = 24
_STEP: Final = 36
_STUB: Final = 26
_LABELS_MAX: Final = 14
_WORD_FITS: Final = 9.0
_NAME_MAX: Final = 24
_COLUMN_MAX: Final = 90


@dataclass(frozen=True, slots=True)
class Bar:
    """One stacked bar: a name, a number for each series (None is hidden), and their total."""

    name: str
    numbers: Sequence[int | None]
    total: int | None

    @property
    def shown(self) -> int:
        """The sum of what is not hidden."""
        return sum(number or 0 for number in self.numbers)

    @property
    def length(self) -> int:
        """The length of the bar, as a number."""
        return self.shown if self.total is None else self.total


def colour(at: int) -> str:
    """Return the colour of a series."""
    return COLOURS[at % len(COLOURS)]


def columns(title: str, values: Sequence[tuple[str, int | None]]) -> str:
    """Draw one column for each name.

    Args:
        title: what it is, for whoever cannot see it.
        values: names and numbers; None is hidden.
    """
    most = max((number or 0 for _, number in values), default=0) or 1
    step = WIDTH / max(1, len(values))
    wide = min(step * 0.72, _COLUMN_MAX)
    room = _HEIGHT - _FOOT - _HEAD
    every = -(-len(values) // _LABELS_MAX)
    parts = []
    for at, (name, number) in enumerate(values):
        middle = step * (at + 0.5)
        tall = _STUB if number is None else room * number / most
        fill = "url(#hidden)" if number is None else COLOURS[0]
        top = _HEIGHT - _FOOT - tall
        parts.append(_rect(middle - wide / 2, top, wide, tall, fill))
        if at % every == 0:
            parts.append(_text(middle, _HEIGHT - 8, name, "middle"))
            parts.append(_text(middle, top - 6, _said(number), "middle"))
    base = _HEIGHT - _FOOT
    parts.append(f'<line x1="0" y1="{base}" x2="{WIDTH}" y2="{base}" stroke="#55616d"/>')
    return _svg(title, _HEIGHT, parts)


def stacked(title: str, bars: Sequence[Bar]) -> str:
    """Draw a bar for each name, made of a segment for each series.

    Args:
        title: what it is, for whoever cannot see it.
        bars: their numbers.
    """
    room = WIDTH - _SIDE - _STUB
    scale = room / (max((bar.length for bar in bars), default=0) or 1)
    parts = []
    for row, bar in enumerate(bars):
        top = row * _STEP + 6
        parts.append(_text(_SIDE - 12, top + _BAR * 0.7, _short(bar.name), "end"))
        left = float(_SIDE)
        for at, number in enumerate(bar.numbers):
            if number:
                parts += _segment(left, top, number * scale, number, at)
                left += number * scale
        if None in bar.numbers:
            rest = _STUB if bar.total is None else (bar.total - bar.shown) * scale
            parts += _segment(left, top, rest, None, 0)
    return _svg(title, len(bars) * _STEP + 6, parts)


def legend(series: Iterable[str]) -> str:
    """Return what each colour of ``stacked`` stands for, as HTML."""
    keys = [
        f'<li><span class="key" style="background:{colour(at)}"></span>{escape(name)}</li>'
        for at, name in enumerate(series)
    ]
    keys.append('<li><span class="key hidden"></span>hidden</li>')
    return f'<ul class="legend">{"".join(keys)}</ul>'


def _svg(title: str, height: int, parts: Iterable[str]) -> str:
    name = escape(title)
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">'
        f"{''.join(parts)}</svg>"
    )


def _rect(left: float, top: float, wide: float, tall: float, fill: str) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
        f'fill="{fill}" stroke="#fff" stroke-width="1"/>'
    )


def _text(left: float, base: float, said: str, anchor: str, style: str = "") -> str:
    return (
        f'<text x="{left:.1f}" y="{base:.1f}" text-anchor="{anchor}"{style}>{escape(said)}</text>'
    )


def _segment(left: float, top: float, long: float, number: int | None, at: int) -> list[str]:
    fill, said = ("url(#hidden)", HIDDEN) if number is None else (colour(at), _said(number))
    drawn = [_rect(left, top, long, _BAR, fill)]
    if long >= _WORD_FITS * len(said) + 6:
        light = number is not None and _is_dark(fill)
        style = ' class="on-hatch"' if number is None else ' fill="#fff"' if light else ""
        drawn.append(_text(left + long / 2, top + _BAR * 0.7, said, "middle", style))
    return drawn


def _is_dark(hexadecimal: str) -> bool:
    red, green, blue = (int(hexadecimal[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140  # noqa: PLR2004 - ITU-R BT.601 luma


def _said(number: int | None) -> str:
    return HIDDEN if number is None else f"{number:,}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_MAX else name[: _NAME_MAX - 1] + "…"
