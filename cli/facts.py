"""The facts of a search on the command line, the same for ``search`` and ``preview``.

Nothing that a person answers for has a default: purpose, legal basis, case, people and agencies
must be said. What is left out otherwise is left out of the order, and an agreement that asks for it
then denies and names the clause.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.output import PROGRAM
from force_client import AsyncForceClient, ForceSettings, OrderDraft, ProbeFacts
from force_client.settings import ENV_PREFIX
from trust.errors import ProbegateError, Reason
from trust.messages import (
    MAX_TIMEOUT_MS,
    Completeness,
    Justification,
    Offence,
    Person,
    SearchLimits,
)
from trust.wire import checked

CONFIG_VARIABLE: Final = "PROBEGATE_CONFIG"
DEMO_CONFIG: Final = Path(".probegate/demo/northshire.toml")
"""Where a local demonstration leaves its force's settings."""
ALL_AGENCIES: Final = "all"
NOT_STATED: Final = "not_stated"
"""The probe source of an order that states none: an unknown word, which every agreement denies."""

_BASIS: Final = "Why it is lawful"
_PROBE: Final = "The probe"
_PEOPLE: Final = "Who"
_LIMITS: Final = "Limits"
_SETUP: Final = "Setup and output"

Purpose = Annotated[
    str, typer.Option(metavar="CODE", rich_help_panel=_BASIS, help="Code of the purpose.")
]
LegalBasis = Annotated[
    str, typer.Option(metavar="CODE", rich_help_panel=_BASIS, help="Code of the gateway in law.")
]
Case = Annotated[
    str, typer.Option(metavar="REF", rich_help_panel=_BASIS, help="The case reference.")
]
OffenceCode = Annotated[
    str, typer.Option("--offence", metavar="TEXT", rich_help_panel=_BASIS, help="The offence.")
]
Seriousness = Annotated[
    str, typer.Option(metavar="CODE", rich_help_panel=_BASIS, help="Its seriousness class.")
]
Aim = Annotated[
    str, typer.Option(metavar="CODE", rich_help_panel=_BASIS, help="What the search aims at.")
]
SubjectCategory = Annotated[
    str, typer.Option(metavar="CODE", rich_help_panel=_BASIS, help="Who is searched for.")
]
Schedule8 = Annotated[
    str, typer.Option(metavar="CODE", rich_help_panel=_BASIS, help="DPA 2018 Sch 8 condition.")
]
Necessity = Annotated[
    str, typer.Option(metavar="TEXT", rich_help_panel=_BASIS, help="Why it is strictly necessary.")
]
Proportionality = Annotated[
    str, typer.Option(metavar="TEXT", rich_help_panel=_BASIS, help="Why it is proportionate.")
]
TriedFirst = Annotated[
    list[str],
    typer.Option(metavar="CODE", rich_help_panel=_BASIS, help="What was tried; repeat or a,b."),
]
Urgent = Annotated[
    bool, typer.Option("--urgent", rich_help_panel=_BASIS, help="Use the urgent route.")
]
Officer = Annotated[
    str, typer.Option(metavar="ID", rich_help_panel=_PEOPLE, help="The officer who searches.")
]
Authoriser = Annotated[
    str, typer.Option(metavar="ID", rich_help_panel=_PEOPLE, help="Who authorised it: another.")
]
AuthorisedAt = Annotated[
    str,
    typer.Option(metavar="TIME", rich_help_panel=_PEOPLE, help="When, ISO 8601 (default: now)."),
]
Agencies = Annotated[
    list[str],
    typer.Option(
        "--agency", metavar="ID", rich_help_panel=_PEOPLE, help="Whom to ask; repeat, a,b or all."
    ),
]
ProbeSource = Annotated[
    str, typer.Option(metavar="CODE", rich_help_panel=_PROBE, help="Source, such as cctv.")
]
ProbeQuality = Annotated[
    int,
    typer.Option(min=0, max=100, rich_help_panel=_PROBE, help="Unified quality."),
]
ProbeEdits = Annotated[
    list[str],
    typer.Option(
        "--probe-edit", metavar="CODE", rich_help_panel=_PROBE, help="An edit made; repeat or a,b."
    ),
]
CapturedAt = Annotated[
    str, typer.Option(metavar="TIME", rich_help_panel=_PROBE, help="When captured, ISO 8601.")
]
ModelId = Annotated[
    str, typer.Option("--model", metavar="ID", rich_help_panel=_PROBE, help="Template model.")
]
MaxCandidates = Annotated[
    int, typer.Option(metavar="N", rich_help_panel=_LIMITS, help="Most from one agency.")
]
MinScore = Annotated[
    float | None, typer.Option(metavar="X", rich_help_panel=_LIMITS, help="Lowest raw score.")
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", rich_help_panel=_LIMITS, help="An agency's time.")
]
SearchId = Annotated[str, typer.Argument(metavar="SEARCH", help="The search's id.")]
Enough = Annotated[
    str,
    typer.Option(
        "--completeness",
        metavar="HOW",
        rich_help_panel=_LIMITS,
        help="What is enough: all, min:N agencies that searched, or best-effort. It is only "
        "judged by; nothing is dropped.",
    ),
]
BEST_EFFORT: Final = Completeness.BEST_EFFORT.value
Config = Annotated[
    Path | None,
    typer.Option(
        envvar=CONFIG_VARIABLE, metavar="FILE", rich_help_panel=_SETUP, help="Settings (TOML)."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=_SETUP, help="Print one JSON document.")
]


def settings_from(config: Path | None) -> ForceSettings:
    """Return the settings: of the file named, else the demonstration's, else the environment's.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``CONFIG_INVALID``.
    """
    if config is not None:
        return ForceSettings.load(config)
    if DEMO_CONFIG.is_file():
        return ForceSettings.load(DEMO_CONFIG)
    if not any(name.startswith(ENV_PREFIX) for name in os.environ):
        raise ProbegateError(
            Reason.CONFIG_INVALID,
            f"give --config or {CONFIG_VARIABLE}, or start `{PROGRAM} demo up` here",
            field="config",
        )
    return ForceSettings.from_environment()


def listed(values: Sequence[str]) -> tuple[str, ...]:
    """Return the items of repeated options that may each hold several with commas between."""
    return tuple(item.strip() for value in values for item in value.split(",") if item.strip())


def agencies_from(values: Sequence[str], client: AsyncForceClient) -> tuple[str, ...]:
    """Return the agencies named; ``all`` stands for every one of the directory."""
    named = listed(values)
    return client.agencies if named == (ALL_AGENCIES,) else named


def instant(value: str, option: str) -> datetime | None:
    """Read a date or time in ISO 8601, UTC where it does not say; nothing for an empty text.

    Raises:
        ProbegateError: ``USAGE`` with the option's name.
    """
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ProbegateError(Reason.USAGE, "not an ISO 8601 date or time", option=option) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def enough_from(value: str) -> tuple[Completeness, int]:
    """Read ``all``, ``min:N`` or ``best-effort``: how much is enough, and how many with the second.

    Raises:
        ProbegateError: ``USAGE``.
    """
    name, _, number = value.partition(":")
    try:
        completeness, least = Completeness(name), int(number) if number else 0
    except ValueError:
        completeness, least = Completeness.MIN_N, 0
    if (completeness is Completeness.MIN_N) != (least > 0):
        why = "one of all, min:N and best-effort"
        raise ProbegateError(Reason.USAGE, why, option="completeness")
    return completeness, least


Drafting = Callable[[Person, Person, tuple[str, ...]], OrderDraft]


def drafting(
    *,
    purpose: str,
    legal_basis: str,
    case: str,
    offence: str,
    seriousness: str,
    aim: str,
    subject_category: str,
    schedule8: str,
    necessity: str,
    proportionality: str,
    tried_first: Sequence[str],
    urgent: bool,
    authorised_at: str,
    probe_source: str,
    probe_quality: int,
    probe_edits: Sequence[str],
    captured_at: str,
    max_candidates: int,
    min_score: float | None,
    timeout: float,
    enough: str = BEST_EFFORT,
) -> Drafting:
    """Return what makes the draft of these facts for two people and some agencies.

    The facts are read at once, so that a typing error shows before anything is opened.

    Raises:
        ProbegateError: ``ORDER_INVALID`` or ``USAGE`` with the field or option.
    """
    authorised, captured = (
        instant(authorised_at, "authorised-at"),
        instant(captured_at, "captured-at"),
    )
    completeness, min_answers = enough_from(enough)
    why = checked(
        Reason.ORDER_INVALID,
        lambda: Justification(
            purpose=purpose,
            legal_basis=legal_basis,
            schedule8_condition=schedule8,
            aim=aim,
            subject_category=subject_category,
            offence=Offence(code=offence, seriousness=seriousness),
            case_reference=case,
            necessity=necessity,
            proportionality=proportionality,
            tried_first=listed(tried_first),
            urgent=urgent,
        ),
    )
    facts = checked(
        Reason.ORDER_INVALID,
        lambda: ProbeFacts(
            source=probe_source,
            quality=probe_quality,
            captured_at=captured,
            edits=listed(probe_edits),
        ),
    )
    limits = checked(
        Reason.ORDER_INVALID,
        lambda: SearchLimits(
            max_candidates=max_candidates,
            min_score=min_score,
            timeout_ms=round(min(timeout * 1000, MAX_TIMEOUT_MS + 1)),
            completeness=completeness,
            min_answers=min_answers,
        ),
    )

    def draft(officer: Person, authoriser: Person, agencies: tuple[str, ...]) -> OrderDraft:
        return checked(
            Reason.ORDER_INVALID,
            lambda: OrderDraft(
                officer=officer,
                authoriser=authoriser,
                authorised_at=authorised,
                justification=why,
                probe=facts,
                agencies=agencies,
                limits=limits,
            ),
        )

    return draft
