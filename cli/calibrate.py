r"""``probegate adapter calibrate``: find out what scores are worth, and sign it.

::

    probegate adapter calibrate scores.csv --name custody-2026-11 --config adapter.toml \
        --band 20-44 --band 45-69 --band 70-100 --threshold 0.42 --plots plots \
        --out calibration.json

Then name the file in the adapter's settings: ``calibration = "calibration.json"``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cli.output import console, print_json, text

if TYPE_CHECKING:
    from agency_adapters.calibration.artefact import Calibration
    from agency_adapters.calibration.calibrating import Subject
    from agency_adapters.calibration.errors_at import ErrorRate, ErrorsAt
    from agency_adapters.calibration.report import CalibrationReport
    from agency_adapters.settings import AdapterSettings

DEFAULT_DAYS: Final = 365
"""How long a new calibration may be used, days."""
SHOWN_REJECTED: Final = 20
"""Most rejected rows that are shown one by one; the JSON report has all."""


class MethodOption(StrEnum):
    """How log10 LR depends on the score."""

    LOGISTIC = "logistic"
    PAV = "pav"


class FormatOption(StrEnum):
    """What plots are written as."""

    SVG = "svg"
    PNG = "png"


def calibrate(
    scores: Annotated[
        Path,
        typer.Argument(
            metavar="SCORES",
            help="CSV with the columns score, mated and, if there are any, quality and group; "
            "or .npz with the arrays scores, mated, quality, group.",
        ),
    ],
    name: Annotated[str, typer.Option(help="What the calibration is called in reports.")],
    config: Annotated[Path, typer.Option(help="The adapter's settings, whose agency signs.")],
    out: Annotated[Path, typer.Option(help="The signed calibration to write.")],
    band: Annotated[
        list[str] | None,
        typer.Option(help="A band of probe quality, such as 45-69; repeatable. [default: 0-100]"),
    ] = None,
    method: Annotated[
        MethodOption, typer.Option(help="How log10 LR depends on the score.")
    ] = MethodOption.LOGISTIC,
    matcher: Annotated[
        str | None, typer.Option(help="The matcher's name and version; the gallery's by default.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The template model; the gallery's by default.")
    ] = None,
    valid_days: Annotated[
        int, typer.Option(min=1, max=3 * 366, help="How many days it may be used.")
    ] = DEFAULT_DAYS,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="An operational threshold to report error rates at; repeatable."),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="A folder to write plots to.")] = None,
    plot_format: Annotated[
        FormatOption, typer.Option(help="What plots are written as.")
    ] = FormatOption.SVG,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,  # noqa: FBT002
) -> None:
    """Fit likelihood ratios and false match rates to scores of known truth, and sign them.

    What would mislead is not signed: too few scores, or LRs that do not stand on scores they have
    not seen.
    """
    from agency_adapters.calibration.calibrating import WHOLE_RANGE, QualityBand
    from agency_adapters.calibration.calibrating import calibrate as fit
    from agency_adapters.calibration.plots import write_plots
    from agency_adapters.calibration.report import report_on
    from agency_adapters.calibration.scorefile import read_scores
    from agency_adapters.calibration.signing import sign_calibration
    from agency_adapters.settings import AdapterSettings
    from trust import files
    from trust.ceremony import MemberFolder
    from trust.clock import utc_now
    from trust.config import load_settings

    settings = load_settings(AdapterSettings, config)
    bands = [QualityBand.parse(one) for one in band or ()] or [WHOLE_RANGE]
    data = read_scores(scores)
    calibration = fit(
        data,
        _subject(settings, name, matcher, model),
        method=method.value,
        bands=bands,
        fitted_at=utc_now(),
        lifetime=timedelta(days=valid_days),
    )
    report = report_on(calibration, data, threshold or ())
    drawn = write_plots(plots, calibration, data, plot_format.value) if plots else ()
    signed = sign_calibration(calibration, MemberFolder(settings.member_folder).signer())
    files.write_atomic(out, signed)
    if as_json:
        print_json(report.as_json())
        return
    _show(report)
    for path in (*drawn, out):
        console().print(f"Wrote {path}.")


def _subject(
    settings: AdapterSettings, name: str, matcher: str | None, model: str | None
) -> Subject:
    from agency_adapters.calibration.calibrating import Subject
    from agency_adapters.galleries.opening import open_gallery
    from agency_adapters.registry import kind_named

    kind = kind_named(settings.kind)
    if matcher is None or model is None:

        async def look() -> tuple[str, str]:
            gallery = await open_gallery(settings.gallery, kind)
            facts = gallery.facts
            await gallery.close()
            return facts.matcher, facts.model

        found_matcher, found_model = asyncio.run(look())
        matcher, model = matcher or found_matcher, model or found_model
    return Subject(name=name, agency=settings.id, matcher=matcher, kind=kind.name, model=model)


def _show(report: CalibrationReport) -> None:
    screen, whole = console(), report.calibration
    screen.print(
        text(
            f"{whole.name}: {whole.method}, of {whole.agency}'s {whole.kind} gallery, matcher "
            f"{whole.matcher}, model {whole.model}; until {whole.expires_at:%d %B %Y}."
        )
    )
    screen.print(_bands(whole))
    screen.print(
        "From, to: log10 LR, bounded where the data end. Cllr: 0 is perfect, 1 says "
        "nothing; unseen, on scores held out from the fit."
    )
    if report.errors:
        screen.print(_errors(report.errors))
    for one in report.disparities:
        ratios = " and ".join(
            f"{words} {'unknown' if ratio is None else f'{ratio:.3g}'}"
            for words, ratio in (
                ("highest to lowest group", one.highest_to_lowest),
                ("highest to geometric mean", one.highest_to_mean),
            )
        )
        screen.print(f"{one.error.upper()} at {one.threshold:g}: {ratios}.")
    if report.data.group is not None and not report.errors:
        screen.print("Error rates by group are reported at each --threshold.")
    if report.outside_bands:
        screen.print(f"Rows of no band, not used: {report.outside_bands:,}.")
    for row in report.data.rejected[:SHOWN_REJECTED]:
        screen.print(text(f"row {row.row}: {row.reason}"))
    if report.data.rejected:
        screen.print(f"Rows that made no sense, left out: {len(report.data.rejected):,}.")


def _bands(whole: Calibration) -> Table:
    # Nine columns fit a terminal of 80 only without lines between them.
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("Quality")
    for title in ("Mated", "Non-mated", "from", "to", "Cllr", "min", "cal", "unseen"):
        table.add_column(title, justify="right")
    for one in whole.bands:
        table.add_row(
            f"{one.quality_from}-{one.quality_to}",
            f"{one.mated:,}",
            f"{one.non_mated:,}",
            f"{one.lowest_log10_lr:.2f}",
            f"{one.highest_log10_lr:.2f}",
            f"{one.fitted.cllr:.4f}",
            f"{one.fitted.cllr_min:.4f}",
            f"{one.fitted.cllr_cal:.4f}",
            f"{one.held_out.cllr:.4f}",
        )
    return table


def _errors(errors: Sequence[ErrorsAt]) -> Table:
    table = Table("Threshold", "Group", "FMR (95 %)", "FNMR (95 %)", box=SIMPLE_HEAD)
    for one in errors:
        group = text(one.group) if one.group else text("everybody", "bold")
        table.add_row(f"{one.threshold:g}", group, _rate(one.fmr), _rate(one.fnmr))
    return table


def _rate(one: ErrorRate) -> str:
    if one.rate is None:
        return "no comparison"
    return f"{one.rate:.2g} ({one.low:.2g} to {one.high:.2g})"
