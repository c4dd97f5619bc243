"""``probegate policy sign``, ``show`` and ``activate``: from a folder of agreements to a server.

A bundle is made and signed by one party, signed by every other, and then activated at each server:
checked as that server will check it, put in its place, and seen on its admin log.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from cli.output import console, print_json
from policy.bundle import build_bundle, countersign, open_bundle
from policy.yaml_source import read_file
from trust import files
from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.errors import ProbegateError, Reason
from trust.keys import FileSigner

DEFAULT_DAYS: Final = 90
"""How long a new bundle is valid, days."""
ACTIVATION_PATIENCE_S: Final = 30.0
"""How long ``activate`` waits for a running server to log the bundle, seconds."""
POLL_S: Final = 0.2
"""How often it looks, seconds."""

Bundle = Annotated[Path, typer.Argument(metavar="FILE", help="A bundle file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def sign(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A folder of agreements, or a bundle to sign too."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The bundle file to write.")],
    signer: Annotated[
        list[Path],
        typer.Option("--signer", help="A member's folder, which holds keys/sign.pem; repeatable."),
    ],
    version: Annotated[
        int | None, typer.Option(min=1, help="For a folder: higher than any before.")
    ] = None,
    set_id: Annotated[
        str, typer.Option(help="For a folder: the name of this set of agreements.")
    ] = "scheme",
    not_before: Annotated[
        datetime | None,
        typer.Option(help="For a folder: from when it is valid, UTC; now by default."),
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, help="For a folder: how many days it is valid.")
    ] = DEFAULT_DAYS,
) -> None:
    """Make a bundle of the agreements in a folder and sign it, or sign one that another made.

    Before signing another party's bundle, read it with `show`, `explain` and `diff`.
    """
    signers = _signers(signer)
    if source.is_dir():
        if version is None:
            raise ProbegateError(Reason.USAGE, "a folder needs --version")
        start = (utc_now() if not_before is None else not_before.replace(tzinfo=UTC)).replace(
            microsecond=0
        )
        raw = build_bundle(
            source,
            *signers,
            set_id=set_id,
            version=version,
            not_before=start,
            not_after=start + timedelta(days=days),
        )
    else:
        if version is not None:
            raise ProbegateError(Reason.USAGE, "a bundle that is made has its version already")
        raw = countersign(read_file(source), *signers)
    files.write_atomic(out, raw)
    opened = open_bundle(raw)
    typer.echo(
        f"Wrote {out}: version {opened.manifest.version}, {len(opened.agreements)} agreements, "
        f"{len(opened.envelope.signatures)} signatures."
    )


def show(bundle: Bundle, as_json: AsJson = False) -> None:  # noqa: FBT002 - typer's way to declare a flag
    """List a bundle's agreements; the signatures are not checked."""
    opened = open_bundle(read_file(bundle))
    manifest = opened.manifest
    if as_json:
        print_json(
            {
                "signatures_checked": False,
                "set_id": manifest.set_id,
                "version": manifest.version,
                "not_before": manifest.not_before.isoformat(),
                "not_after": manifest.not_after.isoformat(),
                "sha256": opened.sha256.hex(),
                "signed_with": [one.keyid for one in opened.envelope.signatures],
                "agreements": [
                    {
                        "file": file.name,
                        "sha256": file.sha256.hex(),
                        "id": file.agreement.id,
                        "version": file.agreement.version,
                        "agency": file.agreement.agency,
                        "forces": file.agreement.forces,
                        "until": file.agreement.in_force.to.isoformat(),
                    }
                    for file in opened.agreements
                ],
            }
        )
        return
    screen = console()
    screen.print(f"{manifest.set_id} version {manifest.version}, signatures not checked")
    screen.print(f"valid {manifest.not_before.isoformat()} to {manifest.not_after.isoformat()}")
    screen.print(f"sha256 {opened.sha256.hex()}", soft_wrap=True)
    table = Table("Agreement", "Version", "Agency", "Forces", "Until")
    for file in opened.agreements:
        agreement = file.agreement
        forces = "all that sign" if agreement.forces == "all" else ", ".join(agreement.forces)
        until = agreement.in_force.to.isoformat()
        table.add_row(agreement.id, str(agreement.version), agreement.agency, forces, until)
    screen.print(table)


def activate(
    bundle: Bundle,
    config: Annotated[
        Path, typer.Option(help="The server's settings (TOML), a broker's or an adapter's.")
    ],
    as_json: AsJson = False,  # noqa: FBT002 - typer's way to declare a flag
) -> None:
    """Put a bundle in a server's place, once it is sure that the server will take it up.

    A running server writes it to its admin log and decides by it from then on, without a restart;
    this waits until it has. A bundle that the server would refuse is not put in its place.
    """
    settings = server_settings(config)
    raw, now = read_file(bundle), utc_now()
    checked = _checked(raw, settings, now)
    logs = settings.logs_dir / "admin"
    running, already = _running(logs), _entries(logs)
    in_place = settings.bundle.exists() and files.read(settings.bundle) == raw
    files.write_atomic(settings.bundle, raw)
    index = None
    if running:
        # The same manifest once more (a signature was added) gives another entry.
        index = asyncio.run(_logged(logs, checked.sha256.hex(), 0 if in_place else already))
    if as_json:
        print_json(
            {
                "version": checked.version,
                "sha256": checked.sha256.hex(),
                "agreements": len(checked.agreements),
                "running": running,
                "admin_log_entry": index,
            }
        )
        return
    screen = console()
    screen.print(
        f"Version {checked.version} with {len(checked.agreements)} agreements is in place at "
        f"{settings.id}."
    )
    screen.print(
        f"It decides from entry {index} of the admin log on."
        if running
        else "The server is not running: it takes the bundle up at its start."
    )


def server_settings(config: Path) -> Any:
    """Return the settings of the broker or adapter that a file is for.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``CONFIG_INVALID``.
    """
    from trust.config import load_settings

    try:
        kinds = tomllib.loads(files.read(config).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        kinds = {}  # said in full by what reads it next
    if "kind" in kinds:
        from agency_adapters.settings import AdapterSettings

        return load_settings(AdapterSettings, config)
    from broker.settings import BrokerSettings

    return load_settings(BrokerSettings, config)


def _checked(raw: bytes, settings: Any, now: datetime) -> Any:
    """Return the bundle as the server would load it."""
    from policy.store import check_bundle
    from trust.directory_store import DirectoryStore

    directory = DirectoryStore.of(settings).load(now)
    return check_bundle(raw, directory, now, settings.state_dir / "bundle.json")


def _running(logs: Path) -> bool:
    from audit.publisher import in_use

    return in_use(logs)


def _entries(logs: Path) -> int:
    from audit.reader import LogReader

    try:
        return LogReader(logs).size
    except ProbegateError:  # no log yet
        return 0


async def _logged(logs: Path, sha256: str, after: int) -> int:
    """Return the newest entry from ``after`` on by which the server took the bundle up.

    Raises:
        ProbegateError: ``LOG_UNAVAILABLE`` if it did not in time.
    """
    from audit.reader import LogReader

    for _ in range(int(ACTIVATION_PATIENCE_S / POLL_S)):
        try:
            found = [
                index
                for index, leaf in LogReader(logs).facts(after)
                if leaf["type"] == "bundle.activated" and leaf["sha256"] == sha256
            ]
        except ProbegateError:  # being written at this moment
            found = []
        if found:
            return found[-1]
        await asyncio.sleep(POLL_S)
    raise ProbegateError(Reason.LOG_UNAVAILABLE, "the running server did not take it up in time")


def _signers(folders: Iterable[Path]) -> list[FileSigner]:
    return [MemberFolder(folder).signer() for folder in folders]
