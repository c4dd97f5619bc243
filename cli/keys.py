"""``probegate keys``: the key ceremony, one command for each step.

A whole scheme::

    probegate keys scheme demo --name "Demo scheme" --trust-domain probegate.example
    probegate keys member demo northshire --role force
    probegate keys member demo broker --role broker --endpoint 127.0.0.1:7400
    probegate keys member demo custody --role agency --endpoint 127.0.0.1:7401
    probegate keys cert demo northshire
    probegate keys link-key demo
    probegate keys directory demo
    probegate keys show demo
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from audit.notes import VerifierKey
from cli.output import OneLineErrors, console, indented, print_json, text
from trust import files
from trust.algorithms import Algorithm
from trust.ceremony import DIRECTORY_LIFETIME, MemberFolder, Scheme
from trust.clock import utc_now
from trust.directory import KeyUse, Member, MemberKey, Role
from trust.errors import ProbegateError, Reason
from trust.link_keys import LINK_KEY_LIFETIME
from trust.pki import CERTIFICATE_LIFETIME
from trust.tokens import MAX_TOKEN_AGE, Part

app = typer.Typer(
    name="keys",
    cls=OneLineErrors,
    no_args_is_help=True,
    help="Make and publish keys, certificates and the directory.",
)

SchemeFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The scheme's folder.")]
MemberId = Annotated[str, typer.Argument(metavar="ID", help="The member's directory id.")]


@app.command()
def scheme(
    folder: SchemeFolder,
    name: Annotated[str, typer.Option(help="The scheme's name.")],
    trust_domain: Annotated[str, typer.Option(help="The SPIFFE trust domain, a DNS name.")],
) -> None:
    """Make a scheme: its signing key, its certificate authority and the pinned key file."""
    made = Scheme.create(folder, name, trust_domain)
    typer.echo(f"Made scheme {name!r}; give {made.pinned_path} to every member.")


@app.command()
def member(
    folder: SchemeFolder,
    member_id: MemberId,
    role: Annotated[Role, typer.Option(help="What the member is; decides which keys it has.")],
    endpoint: Annotated[str | None, typer.Option(help="Where it listens, host:port.")] = None,
    title: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    suite: Annotated[
        Algorithm, typer.Option(help="The sealing key's suite: X25519 or MLKEM768_X25519.")
    ] = Algorithm.X25519,
) -> None:
    """Make a member's keys for its role, and its public card."""
    made = Scheme.open(folder).add_member(
        member_id, role, endpoint=endpoint, title=title, suite=suite
    )
    typer.echo(f"Made {len(made.member().keys)} keys in {made.keys}")


@app.command()
def cert(
    folder: SchemeFolder,
    member_id: MemberId,
    days: Annotated[int, typer.Option(help="How long it is valid.", min=1)] = (
        CERTIFICATE_LIFETIME.days
    ),
    loopback: Annotated[
        bool | None,
        typer.Option(help="Also stand for localhost; by default where the member listens there."),
    ] = None,
) -> None:
    """Issue a member's TLS certificate, replacing the one it has."""
    made = Scheme.open(folder).issue_certificate(
        member_id, lifetime=timedelta(days=days), loopback=loopback
    )
    typer.echo(f"Issued {made.tls_cert}")


@app.command()
def directory(
    folder: SchemeFolder,
    days: Annotated[int, typer.Option(help="How long it is valid.", min=1)] = (
        DIRECTORY_LIFETIME.days
    ),
) -> None:
    """Collect the cards, raise the version, sign, and write the directory."""
    opened = Scheme.open(folder)
    published = opened.publish_directory(lifetime=timedelta(days=days))
    typer.echo(f"Published version {published.version} as {opened.directory_path}")


@app.command()
def rotate(
    folder: SchemeFolder,
    member_id: MemberId,
    use: Annotated[KeyUse, typer.Argument(help="Which key: sign, seal or identity.")],
) -> None:
    """Give a member a new key; publish the directory afterwards."""
    made = Scheme.open(folder).rotate_key(member_id, use)
    typer.echo(f"New {use} key {made.kid}; now run `probegate keys directory {folder}`.")


@app.command("link-key")
def link_key(
    folder: SchemeFolder,
    *,
    days: Annotated[int, typer.Option(help="How long it is valid.", min=1)] = (
        LINK_KEY_LIFETIME.days
    ),
    replace: Annotated[
        bool, typer.Option("--replace", help="Withdraw all others, because one leaked.")
    ] = False,
) -> None:
    """Make the next key that agencies share to link candidates; publish the directory afterwards.

    Neither the broker nor any force can open it. The first one is valid at once, a
    later one in three days, so that every agency has the directory by then.
    """
    made = Scheme.open(folder).add_link_key(lifetime=timedelta(days=days), replace=replace)
    typer.echo(
        f"New link key {made.id}, valid {made.not_before:%Y-%m-%d} to {made.not_after:%Y-%m-%d}; "
        f"now run `probegate keys directory {folder}`."
    )


@app.command()
def revoke(
    folder: SchemeFolder,
    member_id: MemberId,
    kid: Annotated[str, typer.Argument(metavar="KID", help="The key's id.")],
) -> None:
    """Mark a member's key as revoked from now on; publish the directory afterwards."""
    Scheme.open(folder).revoke_key(member_id, kid)
    typer.echo(f"Revoked {kid}; now run `probegate keys directory {folder}`.")


@app.command()
def token(
    folder: SchemeFolder,
    member_id: MemberId,
    officer: Annotated[str, typer.Option(help="The person's id at the force.")],
    rank: Annotated[str, typer.Option(help="The person's rank code.")],
    role: Annotated[str, typer.Option(help="The person's role code.")],
    part: Annotated[Part, typer.Option(help="The part the person plays in the search.")],
    unit: Annotated[str, typer.Option(help="The person's unit code.")] = "",
    accreditation: Annotated[str | None, typer.Option(help="The accreditation's code.")] = None,
    accreditation_expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day it is valid.")
    ] = None,
    seconds: Annotated[int, typer.Option(help="How long it is valid.", min=1)] = int(
        MAX_TOKEN_AGE.total_seconds()
    ),
) -> None:
    """Print an officer token bound to the force's certificate, as its identity provider would."""
    force = Scheme.open(folder).existing(member_id)
    typer.echo(
        force.issue_token(
            officer=officer,
            part=part,
            rank=rank,
            role=role,
            now=utc_now(),
            unit=unit,
            accreditation=accreditation,
            accreditation_expires=accreditation_expires and accreditation_expires.date(),
            lifetime=timedelta(seconds=seconds),
        )
    )


@app.command()
def show(
    folder: SchemeFolder,
    as_json: Annotated[  # noqa: FBT002 - typer's flag
        bool, typer.Option("--json", help="Write JSON to standard output.")
    ] = False,
) -> None:
    """Show the members, their keys and their certificates as the cards have them."""
    opened = Scheme.open(folder)
    now = utc_now()
    ends = {one.id: _certificate_end(opened.member_folder(one.id)) for one in opened.members()}
    if as_json:
        print_json(
            {
                "scheme": opened.name,
                "trust_domain": opened.trust_domain,
                "members": [_document(one, ends[one.id], now) for one in opened.members()],
            }
        )
        return
    screen = console()
    screen.print(text(f"{opened.name} ({opened.trust_domain})"))
    for one in opened.members():
        screen.print()
        screen.print(text(one.id, "bold"))
        end = ends[one.id]
        certificate = "no certificate" if end is None else f"certificate until {end:%Y-%m-%d}"
        where = "" if one.endpoint is None else f" at {one.endpoint}"
        screen.print(indented(f"{one.role.value}{where}, {certificate}"))
        for key in one.keys:
            screen.print(indented(f"{_key_name(key)} {key.kid} {_key_state(key, now)}"))


@app.command()
def vkey(
    folder: SchemeFolder,
    member_id: MemberId,
    log: Annotated[str, typer.Argument(metavar="LOG", help="search, admin or witness.")],
) -> None:
    """Print the public key of a member's log, for `probegate audit verify --vkey`."""
    for key in Scheme.open(folder).existing(member_id).member().keys:
        if key.name is not None and key.name.endswith(f"/{log}"):
            typer.echo(str(VerifierKey.listed(key)))
            return
    raise ProbegateError(Reason.KEY_UNKNOWN, f"{member_id!r} has no {log!r} log")


def _key_state(key: MemberKey, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    return f"until {key.not_after:%Y-%m-%d}" if key.valid_at(now) else "not valid"


def _key_name(key: MemberKey) -> str:
    return f"{key.use}" if key.name is None else f"{key.use} {key.name.rpartition('/')[2]}"


def _certificate_end(folder: MemberFolder) -> datetime | None:
    if not folder.tls_cert.exists():
        return None
    return x509.load_pem_x509_certificate(files.read(folder.tls_cert)).not_valid_after_utc


def _document(one: Member, certificate_end: datetime | None, now: datetime) -> dict[str, Any]:
    return {
        "id": one.id,
        "role": one.role.value,
        "endpoint": one.endpoint,
        "certificate_until": certificate_end.isoformat() if certificate_end else None,
        "keys": [
            {
                "use": key.use.value,
                "name": key.name,
                "kid": key.kid,
                "algorithm": key.algorithm.value,
                "not_before": key.not_before.isoformat(),
                "not_after": key.not_after.isoformat(),
                "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
                "valid": key.valid_at(now),
            }
            for key in one.keys
        ],
    }
