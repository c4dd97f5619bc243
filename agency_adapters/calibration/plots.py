"""Pictures of a calibration, as SVG or PNG: DET, Tippett, scores with their LRs, false matches.

What a picture says in colour it says in words or line styles too. The colours are Okabe and Ito's,
which colour-blind readers tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from scipy.special import ndtri

from agency_adapters.calibration.artefact import BandCalibration, Calibration
from agency_adapters.calibration.calibrating import QualityBand, in_band
from agency_adapters.calibration.fitting import fit_pav
from agency_adapters.calibration.scorefile import Scores, ScoreSet
from trust import files
from trust.errors import ProbegateError, Reason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PlotFormat = Literal["svg", "png"]

MAX_POINTS: Final = 1_000
"""Most points of one line, so that a picture of a million scores stays a small file."""
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MATED, _NON_MATED, _GREY = "#0072B2", "#D55E00", "#5f6b76"
_BINS: Final = 80
_PROBIT_TICKS: Final = (1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
_MOST_SHOWN: Final = 0.5
_LEAST_SHARE: Final = 1e-10
_STYLE: Final[Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": 150,
    "svg.hashsalt": "probegate",
}

_Band = tuple[BandCalibration, Scores, Scores]
"""A band with the mated and the non-mated scores it was fitted to."""


def write_plots(
    folder: Path, calibration: Calibration, data: ScoreSet, plot_format: PlotFormat = "svg"
) -> tuple[Path, ...]:
    """Write every picture into a folder and return their paths.

    Raises:
        ProbegateError: ``CONFIG_INVALID`` if the extra ``plots`` is not installed;
            ``FILE_UNWRITABLE`` or ``DISK_FULL``.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise ProbegateError(
            Reason.CONFIG_INVALID,
            "plots are asked for but the plots extra is not installed: "
            "pip install 'probegate[plots]'",
            option="plots",
        ) from None
    bands = [_with_scores(band, data) for band in calibration.bands]
    written = []
    for name, draw in _PICTURES.items():
        with mpl.rc_context(_STYLE):
            figure = Figure()
            draw(figure, bands)
            figure.suptitle(
                f"{calibration.name}: {calibration.matcher}", x=0.01, ha="left", fontsize=9
            )
            picture = io.BytesIO()
            # Without the date, the same data make the same file.
            dated = {"Date": None} if plot_format == "svg" else {}
            figure.savefig(picture, format=plot_format, metadata=dated)
        path = folder / f"{name}.{plot_format}"
        files.write_atomic(path, picture.getvalue())
        written.append(path)
    return tuple(written)


def _with_scores(band: BandCalibration, data: ScoreSet) -> _Band:
    rows = in_band(data, QualityBand(band.quality_from, band.quality_to))
    return band, data.scores[rows & data.mated], data.scores[rows & ~data.mated]


def _det(figure: Figure, bands: Sequence[_Band]) -> None:
    """Detection error trade-off, on probit axes (Martin et al., Eurospeech 1997)."""
    figure.set_size_inches(6.4, 5.2)
    axes = figure.add_subplot()
    axes.set_title("Detection error trade-off")
    axes.set_xlabel("False match rate (dotted: modelled)")
    axes.set_ylabel("False non-match rate")
    least = _MOST_SHOWN
    for colour, (band, mated, _) in zip(_colours(), bands, strict=False):
        ordered = np.sort(mated)
        at = _thinned(ordered)
        missed = (np.searchsorted(ordered, at, side="left") + 0.5) / (len(ordered) + 1)
        table = band.false_matches
        passed = np.array([table.at(float(score)).rate for score in at])
        shown = (passed >= _LEAST_SHARE) & (passed <= _MOST_SHOWN) & (missed <= _MOST_SHOWN)
        counted = shown & (at <= table.model_from)
        axes.plot(ndtri(passed[shown]), ndtri(missed[shown]), ":", color=colour)
        axes.plot(ndtri(passed[counted]), ndtri(missed[counted]), color=colour)
        axes.plot([], [], color=colour, label=_name(band))
        least = min(least, float(missed[0]))
    ticks = [tick for tick in _PROBIT_TICKS if tick >= least / 10]
    for axis, shares in ((axes.xaxis, _PROBIT_TICKS), (axes.yaxis, ticks)):
        axis.set_ticks(ndtri(shares), [_share(tick) for tick in shares])
    axes.set_ylim(ndtri(ticks[0]), ndtri(_MOST_SHOWN))
    axes.legend(title="Probe quality")


def _tippett(figure: Figure, bands: Sequence[_Band]) -> None:
    """Share of comparisons whose LR is at least so strong (Evett and Buckleton, 1996)."""
    figure.set_size_inches(7.2, 4.4)
    axes = figure.add_subplot()
    axes.set_title("Tippett plot: how many comparisons have at least this LR")
    axes.set_xlabel("log10 LR")
    axes.set_ylabel("Share of comparisons")
    for colour, (band, mated, non_mated) in zip(_colours(), bands, strict=False):
        for scores, style, kind in ((mated, "-", "mated"), (non_mated, "--", "non-mated")):
            lrs = np.sort(band.log10_lrs(scores))
            at = _thinned(lrs)
            share = 1 - np.searchsorted(lrs, at, side="left") / len(lrs)
            ends = np.concatenate([[at[0]], at, [at[-1]]])
            shares = np.concatenate([[1.0], share, [0.0]])
            label = f"{_name(band)}, {kind}"
            axes.step(ends, shares, style, color=colour, where="pre", label=label)
    axes.axvline(0, color=_GREY, linewidth=0.8)
    axes.legend(title="Probe quality", loc="center left", bbox_to_anchor=(1.01, 0.5))


def _scores(figure: Figure, bands: Sequence[_Band]) -> None:
    """Scores of known truth, and the LR they are given beside PAV's."""
    figure.set_size_inches(7.2, 0.6 + 2.5 * len(bands))
    rows = figure.subplots(len(bands), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (band, mated, non_mated) in zip(rows, bands, strict=True):
        both = np.concatenate([mated, non_mated])
        edges = np.linspace(both.min(), both.max(), _BINS + 1)
        kinds = ((mated, _MATED, "mated"), (non_mated, _NON_MATED, "non-mated"))
        for scores, colour, kind in kinds:
            axes.hist(scores, edges, density=True, color=colour, alpha=0.45, label=kind)
        axes.set_title(
            f"Probe quality {_name(band)}: {len(mated):,} mated, {len(non_mated):,} non-mated"
        )
        axes.set_ylabel("Density of scores")
        beside = axes.twinx()
        beside.grid(visible=False)
        beside.spines["right"].set_visible(True)
        truth = np.arange(len(both)) < len(mated)
        pav = np.clip(
            fit_pav(both, truth).log10_lr(edges), band.lowest_log10_lr, band.highest_log10_lr
        )
        beside.step(
            edges, pav, color=_GREY, linewidth=1, linestyle="--", label="PAV, for comparison"
        )
        beside.plot(
            edges, band.log10_lrs(edges), color="#000000", label=f"log10 LR, {band.scale.method}"
        )
        beside.axhline(0, color=_GREY, linewidth=0.6)
        beside.set_ylabel("log10 LR")
        named = zip(*(one.get_legend_handles_labels() for one in (axes, beside)), strict=True)
        handles, labels = (list(chain.from_iterable(both)) for both in named)
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    rows[-1].set_xlabel("Score")


def _false_matches(figure: Figure, bands: Sequence[_Band]) -> None:
    """The false match rate at a score with its interval."""
    figure.set_size_inches(7.2, 4.4)
    axes = figure.add_subplot()
    axes.set_title("False match rate with its 95 % interval (dotted: modelled)")
    axes.set_xlabel("Score")
    axes.set_ylabel("Share of non-mated comparisons at or above")
    for colour, (band, _, _) in zip(_colours(), bands, strict=False):
        table = band.false_matches
        at, rate = np.array(table.scores), np.array(table.rate)
        axes.fill_between(at, table.low, table.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(at, rate, ":", color=colour)
        counted = at <= table.model_from
        axes.plot(at[counted], rate[counted], color=colour, label=_name(band))
    axes.set_yscale("log")
    axes.set_ylim(_LEAST_SHARE, 2)
    axes.legend(title="Probe quality")


_PICTURES: Final[dict[str, Callable[[Figure, Sequence[_Band]], None]]] = {
    "det": _det,
    "tippett": _tippett,
    "scores": _scores,
    "false-matches": _false_matches,
}


def _colours() -> Iterator[str]:
    while True:
        yield from _COLOURS


def _thinned(ordered: Scores) -> Scores:
    """Return at most ``MAX_POINTS`` of sorted values, both ends among them."""
    if len(ordered) <= MAX_POINTS:
        return ordered
    places = np.linspace(0, len(ordered) - 1, MAX_POINTS).round().astype(np.int64)
    return np.asarray(ordered[places], dtype=np.float64)


def _name(band: BandCalibration) -> str:
    return f"{band.quality_from}-{band.quality_to}"


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.0e}".replace("e-0", "e-")  # noqa: PLR2004
