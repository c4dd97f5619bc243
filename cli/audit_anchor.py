"""``probegate audit anchor``: have an authority outside say since when a log's entries exist."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from audit.anchoring import STORE_FOLDER, Judged, Stamped, anchor, judge, read_authorities, tokens
from audit.notes import VerifierKey
from cli.audit_keys import read_vkey
from cli.output import console, print_json, text
from trust.errors import ProbegateError, Reason

_SHOWN: Final = 10
TsaCert = Annotated[
    Path | None,
    typer.Option("--tsa-cert", help="Certificates of timestamping authorities you trust, PEM."),
]


def anchor_command(
    *,
    log: Annotated[Path, typer.Option(help="The log's folder.")],
    tsa: Annotated[str, typer.Option(help="The authority's address, http(s).")],
    tsa_cert: Annotated[Path, typer.Option(help="Its certificates, or its root's, PEM.")],
    vkey: Annotated[Path | None, typer.Option(help="The log's public key.")] = None,
    store: Annotated[
        Path | None, typer.Option(help=f"Where the token goes; LOG/{STORE_FOLDER} by default.")
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Authorities for HTTPS, PEM.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Have a log's newest checkpoint timestamped (RFC 3161), and keep the token beside the log.

    The authority learns a hash. `probegate audit verify --tsa-cert` checks what is kept.
    """
    key = None if vkey is None else read_vkey(vkey)
    authorities = read_authorities(tsa_cert)
    done = anchor(log, tsa, authorities, key=key, store=store, ca_file=ca_file)
    if as_json:
        print_json(_document(done))
    else:
        console().print(text(_sentence(done)))


@dataclass(frozen=True, slots=True)
class Anchors:
    """The timestamps beside a log that was verified; what they prove, if anybody is trusted."""

    unchecked: int = 0
    judged: tuple[Judged, ...] = ()
    trusted: bool = False

    @classmethod
    def of(cls, folder: Path, vkey: str, tsa_cert: Path | None) -> Anchors:
        """Judge the tokens in a log's folder, or count them if no authority is trusted.

        Raises:
            ProbegateError: what reading raises.
        """
        if tsa_cert is None:
            return cls(unchecked=sum(1 for _ in tokens(folder / STORE_FOLDER)))
        return cls(
            judged=judge(folder, VerifierKey.parse(vkey), read_authorities(tsa_cert)),
            trusted=True,
        )

    def as_json(self) -> dict[str, Any]:
        """Return what is added to the report."""
        if self.unchecked:
            return {"timestamps_not_checked": self.unchecked}
        if not self.judged:
            return {}
        return {
            "timestamps": [
                {"file": one.file, "ok": one.stamped is not None}
                | (_document(one.stamped) if one.stamped else {"why": _why(one)})
                for one in self.judged
            ]
        }

    def print(self) -> None:
        """Print what the tokens prove."""
        out = console()
        if self.unchecked:
            said = f"{self.unchecked:,} timestamps are not checked: give --tsa-cert"
            out.print(text(f"anchored  {said}", "yellow"))
        stamped = [one.stamped for one in self.judged if one.stamped is not None]
        if len(stamped) > _SHOWN:
            out.print(text(f"anchored  {len(stamped):,} timestamps, of which the newest:"))
        for one in stamped[-_SHOWN:]:
            out.print(text(f"anchored  {_sentence(one)}"))
        for wrong in self.judged:
            if wrong.stamped is None:
                out.print(text(f"anchored  {wrong.file} DOES NOT COUNT: {_why(wrong)}", "red"))

    def require(self) -> None:
        """Raise ANCHOR_INVALID if a token does not count, or there is none to be judged."""
        if self.trusted and not self.judged:
            raise ProbegateError(Reason.ANCHOR_INVALID, "there is no timestamp")
        wrong = [one for one in self.judged if one.stamped is None]
        if wrong:
            raise ProbegateError(Reason.ANCHOR_INVALID, f"{len(wrong)} timestamps")


def _sentence(one: Stamped) -> str:
    return (
        f"the first {one.checkpoint.size:,} entries existed by {_utc(one.at)}, says {one.authority}"
    )


def _document(one: Stamped) -> dict[str, Any]:
    return {
        "origin": one.checkpoint.origin,
        "size": one.checkpoint.size,
        "at": one.at.isoformat(),
        "authority": one.authority,
    }


def _why(one: Judged) -> str:
    return one.error.detail if one.error is not None else ""


def _utc(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
