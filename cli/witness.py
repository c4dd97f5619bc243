"""``probegate audit witness``: cosign logs for others, and have one's own log cosigned.

::

    probegate audit witness key witness.key --name witness.example
    probegate audit witness serve --name witness.example --policy logs.policy --key witness.key \
        --state state
    probegate audit witness show --state state
    probegate audit witness push logs/search --policy scheme.policy
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.notes import SignatureType, VerifierKey
from audit.policy_file import Satisfaction, read_policy
from audit.quorum import listed_key, witnessed
from audit.witness_push import STORE_FOLDER, WitnessedStore, push_to_all
from cli.output import OneLineErrors, console, print_json, text
from trust.clock import utc_now
from trust.errors import ProbegateError, Reason
from trust.keys import FileSigner

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = typer.Typer(
    cls=OneLineErrors,
    name="witness",
    help="Cosign logs for others, and have a log cosigned.",
    no_args_is_help=True,
)

PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="Policy file: whose cosignatures the checkpoint needs."),
]
Config = Annotated[
    Path | None,
    typer.Option(help="Settings as TOML; PROBEGATE_WITNESS_SERVER_* in the environment fill in."),
]
State = Annotated[Path, typer.Option("--state", help="Where the witness keeps its database.")]
Database = Annotated[str, typer.Option(help="Its SQLAlchemy URL, if it is not in that folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="Where the private key goes.")],
    name: Annotated[str, typer.Option(help="The witness's name, such as its address.")],
) -> None:
    """Make a witness's key and print the vkey that policy files need."""
    public = FileSigner.generate(file).public_key
    typer.echo(str(VerifierKey(name, SignatureType.COSIGNATURE_V1, public)))


@app.command()
def serve(
    config: Config = None,
    name: Annotated[str | None, typer.Option(help="The witness's name.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file, whose logs are watched.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option("--key", help="The private key.")] = None,
    listen: Annotated[str | None, typer.Option(help="Address to serve on, host:port.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Where the witness keeps its database.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for HTTPS, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key, PEM.")] = None,
    port_file: Annotated[Path | None, typer.Option(help="Where to write the port.")] = None,
) -> None:
    """Cosign what is consistent until told to stop (SIGTERM or Ctrl-C)."""
    from audit.settings import WitnessServerSettings
    from audit.witness_process import run
    from trust import telemetry
    from trust.config import load_settings

    settings = load_settings(
        WitnessServerSettings,
        config,
        name=name,
        policy=policy,
        key=key_file,
        listen=listen,
        state_dir=state,
        tls_cert=tls_cert,
        tls_key=tls_key,
        port_file=port_file,
    )
    telemetry.configure_logging("probegate-witness")
    telemetry.setup("probegate-witness")
    asyncio.run(run(settings))


@app.command()
def show(
    state: State = Path(),
    database_url: Database = "",
    as_json: Json = False,  # noqa: FBT002 - an option's default
) -> None:
    """Show what the witness remembers of each log, and the evidence it keeps."""
    from audit.cosigner_memory import survey

    with _memory(state, database_url) as engine:
        logs = survey(engine)
    if as_json:
        print_json([one.as_json() for one in logs])
        return
    out = console()
    for log in logs:
        newest = log.newest
        out.print(text(newest.origin, "bold"))
        when = f", cosigned {_utc(newest.cosigned_at)}" if newest.note else ", nothing cosigned yet"
        out.print(f"  size {newest.size}{when}")
        for found in log.evidence:
            state_now = "dealt with" if found.resolved_at is not None else "STANDS"
            out.print(text(f"EVIDENCE of {_utc(found.seen_at)}: {state_now}", "bold red"))
            for note in found.notes:
                for line in note.decode().splitlines():
                    out.print(text(f"  | {line}"))


@app.command()
def resolve(
    origin: Annotated[str, typer.Argument(help="The log's origin.")],
    state: State = Path(),
    database_url: Database = "",
) -> None:
    """Trust a log again once people have dealt with the evidence, which stays kept."""
    from audit.tables import state_storage
    from audit.witness import resolve_evidence

    with _memory(state, database_url) as engine, state_storage():
        count = resolve_evidence(engine, origin, utc_now())
    typer.echo(f"resolved: {count}")


@app.command()
def push(
    log: Annotated[str, typer.Argument(help="The log's folder, or its http(s) address.")],
    policy: Annotated[
        Path, typer.Option(help="Policy file with the log's key and the witnesses' addresses.")
    ],
    witness: Annotated[
        list[str] | None, typer.Option(help="Only this witness of the file; may be repeated.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help=f"Where cosigned checkpoints are kept; LOG/{STORE_FOLDER} for a folder."),
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Authorities for HTTPS, PEM.")] = None,
) -> None:
    """Have witnesses cosign a log's newest checkpoint, and keep what they sign."""
    if store is None:
        if not Path(log).is_dir():
            raise ProbegateError(Reason.CONFIG_INVALID, "an address needs it", setting="--store")
        store = Path(log) / STORE_FOLDER
    read = read_policy(policy)
    done, refused = push_to_all(log, read, WitnessedStore(store), witness or (), ca_file)
    for one in done:
        when = _utc(one.timestamp)
        typer.echo(f"{one.witness} cosigned size {one.checkpoint.size} at {when}")
    for name, error in refused:
        console(stderr=True).print(text(f"{name}: {error.line()}"))
    if refused:
        raise refused[0][1]


def pinned_key(folder: Path, policy: Path | None, key: VerifierKey | None) -> VerifierKey | None:
    """Return the key to verify a log with: the one given, or the policy's for this log.

    Raises:
        ProbegateError: ``POLICY_FILE_INVALID``; ``CHECKPOINT_INVALID`` if the policy lists none.
    """
    return listed_key(folder, read_policy(policy)) if policy and not key else key


@dataclass(frozen=True, slots=True)
class Quorum:
    """What a policy file says of a log that was verified; nothing, if none is given."""

    found: Satisfaction | None = None

    @classmethod
    def of(cls, folder: Path, policy: Path | None, vkey: str) -> Quorum:
        """Judge the checkpoints of a folder that verifies under a key.

        Raises:
            ProbegateError: what ``audit.quorum`` raises.
        """
        if policy is None:
            return cls()
        return cls(witnessed(folder, read_policy(policy), VerifierKey.parse(vkey)))

    def as_json(self) -> dict[str, Any]:
        """Return what is added to the report."""
        if self.found is None:
            return {}
        found = self.found
        return {
            "quorum": {
                "holds": found.holds,
                "size": found.checkpoint.size,
                "signed": dict(found.signed),
                "missing": list(found.missing),
            }
        }

    def print(self) -> None:
        """Print who cosigned and who did not."""
        if self.found is None:
            return
        out, found = console(), self.found
        verdict = "the quorum holds" if found.holds else "THE QUORUM DOES NOT HOLD"
        out.print(text(f"witnessed {verdict} at size {found.checkpoint.size}"))
        for name, when in found.signed.items():
            out.print(text(f"  cosigned by {name} at {_utc(when)}"))
        for name in found.missing:
            out.print(text(f"  missing {name}"))

    def require(self) -> None:
        """Raise QUORUM_MISSING unless the policy is satisfied."""
        if self.found is not None and not self.found.holds:
            missing = json.dumps(list(self.found.missing))
            raise ProbegateError(Reason.QUORUM_MISSING, f"not cosigned by {missing}")


@contextmanager
def _memory(state: Path, url: str) -> Iterator[Engine]:
    """Open a witness's database, which must be there."""
    from audit.cosigner_memory import DATABASE, open_memory

    if not url and not (state / DATABASE).exists():
        raise ProbegateError(Reason.FILE_MISSING, "no witness was run there", file=DATABASE)
    engine = open_memory(state, url)
    try:
        yield engine
    finally:
        engine.dispose()


def _utc(seconds: int) -> str:
    with suppress(OverflowError, ValueError, OSError):
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{seconds} s"
