"""``probegate review``: compare faces, alone and blind, and have it recorded.

::

    probegate review sheet SEARCH --reviewer ns-3310 --probe-image still.jpg --out sheet.html
    probegate review submit SEARCH --reviewer ns-3310 --findings findings.json
    probegate review interactive SEARCH --reviewer ns-3310 --probe-image still.jpg
    probegate review submit SEARCH --reviewer ns-3310 --sitting ID
    probegate review status SEARCH
    probegate review revoke ns-3310 --since 2026-07-01 --person ns-2087 --reasons "..."
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli import facts, reviewing
from cli.following import unbelieved_of
from cli.output import OneLineErrors, console, print_json, text
from cli.people import presented
from cli.second_step import (
    SearchId,
    TokenFile,
    person_and_tokens,
    show_status,
    status_document,
)
from force_client import (
    LEAD_ONLY,
    AsyncForceClient,
    Part,
    ReviewStatus,
    read_findings,
    render_sheet,
)
from trust import files
from trust.errors import ProbegateError, Reason

app = typer.Typer(
    name="review",
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Compare faces, alone and blind, and have it recorded.",
)

Reviewer = Annotated[
    str, typer.Option(metavar="ID", help="Who reviews: neither officer nor authoriser.")
]
ProbeImage = Annotated[
    Path, typer.Option(metavar="FILE", help="The probe's image (JPEG or PNG); it stays here.")
]
Reasons = Annotated[
    str, typer.Option(metavar="TEXT", help="Why images are needed, where an agreement asks.")
]


@app.command()
def sheet(
    search: SearchId,
    *,
    reviewer: Reviewer,
    probe_image: ProbeImage,
    reasons: Reasons = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to (default: review-ID.html).")
    ] = None,
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Write a review sheet: one page with both images of each candidate, to work on alone.

    Candidates are in a random sequence without score, rank or agency. The page saves a file of
    findings for `probegate review submit`. It holds faces: it is yours alone to read (0600).
    """
    made = asyncio.run(_sheet(search, reviewer, token_file, probe_image, reasons, out, config))
    if as_json:
        print_json(made | {"notice": LEAD_ONLY})
        return
    screen = console()
    screen.print(text(f"Wrote {made['sheet']}: {made['candidates']} candidates.", "green"))
    if made["without_image"]:
        without = f"{made['without_image']} of them have no image here."
        hint = "" if reasons else " Some agreements want --reasons before they send any."
        screen.print(text(without + hint, "yellow"))
    screen.print("Open it in a browser, save the findings, then `probegate review submit`.")


@app.command()
def submit(
    search: SearchId,
    *,
    reviewer: Reviewer,
    findings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the sheet saved.")
    ] = None,
    sitting: Annotated[
        str | None, typer.Option(metavar="ID", help="Or a sitting whose findings are kept here.")
    ] = None,
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Sign the findings of a sheet, or of a sitting in the terminal, and have them recorded.

    Repeated after a fault it sends what was signed before: it is recorded once.
    """
    if (findings is None) == (sitting is None):
        raise ProbegateError(Reason.USAGE, "give --findings or --sitting", option="findings")

    async def run() -> ReviewStatus:
        made = None if findings is None else await asyncio.to_thread(read_findings, findings)
        async with AsyncForceClient(facts.settings_from(config)) as client:
            if made is None:
                made = await client.kept_findings(sitting or "")
            if made.search_id != search:
                raise ProbegateError(Reason.REVIEW_INVALID, "of another search", field="findings")
            person, token = presented(client, reviewer, token_file, Part.REVIEWER)
            return await client.submit_findings(made, reviewer=person, reviewer_token=token)

    _show(asyncio.run(run()), as_json=as_json)


@app.command()
def interactive(
    search: SearchId,
    *,
    reviewer: Reviewer,
    probe_image: ProbeImage,
    reasons: Reasons = "",
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Review in the terminal: the images are files for your viewer until the end, then gone.

    What was found is kept until it is recorded; `probegate review submit --sitting` submits it
    later.
    """

    async def run() -> ReviewStatus:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            person, tokens = person_and_tokens(client, reviewer, token_file, Part.REVIEWER)
            async with client.review(
                search,
                reviewer=person,
                reviewer_token=tokens,
                probe_image=probe_image,
                reasons=reasons,
            ) as sitting:
                reviewing.converse(sitting, probe_image, client.settings.state_dir)
                return await reviewing.submit(
                    sitting, lambda path: presented(client, reviewer, path, Part.REVIEWER)[1]
                )

    _show(asyncio.run(run()), as_json=as_json)


@app.command()
def status(search: SearchId, config: facts.Config = None, as_json: facts.AsJson = False) -> None:  # noqa: FBT002 - typer's flag
    """Show how the reviews stand; opinions only once no more are needed.

    Recalls are read first; one that does not verify is told of afterwards.
    """

    async def run() -> tuple[ReviewStatus, ProbegateError | None]:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            unbelieved = await unbelieved_of(client.take_recalls())
            return await client.review_status(search), unbelieved

    stands, unbelieved = asyncio.run(run())
    _show(stands, as_json=as_json)
    if unbelieved is not None:
        raise unbelieved


@app.command()
def revoke(
    reviewer: Annotated[str, typer.Argument(metavar="REVIEWER", help="The reviewer's id.")],
    *,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Reviews from then on do not count, ISO 8601.")
    ],
    person: Annotated[str, typer.Option(metavar="ID", help="Who revokes.")],
    reasons: Annotated[str, typer.Option(metavar="TEXT", help="Why.")],
    token_file: TokenFile = None,
    config: facts.Config = None,
    as_json: facts.AsJson = False,
) -> None:
    """Withdraw a reviewer's reviews: what stands on them is open again."""
    from_then = facts.instant(since, "since")
    if from_then is None:
        raise ProbegateError(Reason.USAGE, "say from when", option="since")

    async def run() -> int:
        async with AsyncForceClient(facts.settings_from(config)) as client:
            who, token = presented(client, person, token_file, Part.AUTHORISER)
            return await client.revoke_reviewer(
                reviewer, since=from_then, reasons=reasons, person=who, person_token=token
            )

    gone = asyncio.run(run())
    if as_json:
        print_json({"reviewer": reviewer, "since": from_then.isoformat(), "reviews": gone})
        return
    console().print(text(f"Revoked: {gone} reviews of {reviewer} count no more.", "green"))


async def _sheet(
    search: str,
    reviewer: str,
    token_file: Path | None,
    probe_image: Path,
    reasons: str,
    out: Path | None,
    config: Path | None,
) -> dict[str, object]:
    async with AsyncForceClient(facts.settings_from(config)) as client:
        person, tokens = person_and_tokens(client, reviewer, token_file, Part.REVIEWER)
        async with client.review(
            search,
            reviewer=person,
            reviewer_token=tokens,
            probe_image=probe_image,
            reasons=reasons,
        ) as sitting:
            path = out or Path(f"review-{sitting.review_id}.html")
            page = render_sheet(sitting, LEAD_ONLY)
            await asyncio.to_thread(files.write_private, path, page.encode())
            await sitting.keep()
            return {
                "search_id": search,
                "review_id": sitting.review_id,
                "sheet": str(path),
                "candidates": len(sitting.candidates),
                "without_image": sum(not one.has_image for one in sitting.candidates),
            }


def _show(status: ReviewStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(status_document(status))
    else:
        show_status(status, console())
