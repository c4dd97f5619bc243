"""Kill switches on the command line, the same at the broker and at an adapter."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated, Protocol

import typer

from cli.output import console, print_json, text


class OffOn(StrEnum):
    """Which way a switch is turned."""

    OFF = "off"
    ON = "on"


Turn = Annotated[OffOn, typer.Argument(help="off denies at once; on permits again.")]
Name = Annotated[
    str,
    typer.Argument(metavar="SWITCH", help="agency:ID, force:ID, purpose:CODE or matcher:MODEL."),
]
Reference = Annotated[
    str,
    typer.Option(help="Your reference of the incident or decision; it is logged. Name nobody."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Operator(Protocol):
    """Who turns switches, at either server."""

    async def switch(self, name: str, *, off: bool, reference: str) -> int:
        """Turn a switch and return its entry's index."""

    @property
    def switched_off(self) -> frozenset[str]:
        """Every switch that is off."""


def turn_and_say(operator: Operator, turn: OffOn, name: str, reference: str) -> None:
    """Turn a switch and print how."""
    off = turn is OffOn.OFF
    index = asyncio.run(operator.switch(name, off=off, reference=reference))
    said = "off: what it names is denied from now on" if off else "on again"
    console().print(text(f"{name} is {said} (entry {index} of the admin log)."))


def show(operator: Operator, *, as_json: bool) -> None:
    """Print every switch that is off."""
    names = sorted(operator.switched_off)
    if as_json:
        print_json({"switched_off": names})
    elif not names:
        console().print("Nothing is switched off.")
    for name in names if not as_json else ():
        console().print(text(f"off: {name}", "bold red"))
