"""Kill switches: what an operator turns off at once, without a release and on the record.

1. Turned off, a switch denies from before its log entry is written: late would be the unsafe side.
2. Turned on again, it permits only once that entry is durable.
3. Only what exists can be switched: a slip of the pen must not look like a switch that is off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from policy.codes import REGISTRY
from policy.ledger.book import Ledger
from policy.standing import SWITCH_PATTERN, SwitchKind
from trust.directory import Directory, Role
from trust.errors import ProbegateError, Reason

SWITCHED_OFF: Final = "switch.off"
SWITCHED_ON: Final = "switch.on"
_SWITCH: Final = re.compile(SWITCH_PATTERN)


@dataclass(frozen=True, slots=True)
class SwitchClerk:
    """Carries out the entries that turn a switch; others are none of its business."""

    ledger: Ledger

    def before(self, leaf: Mapping[str, Any]) -> None:
        """Turn off (1)."""
        if leaf["type"] == SWITCHED_OFF:
            self.ledger.switched(leaf["switch"], off=True)

    def also(self, connection: Connection, index: int, leaf: Mapping[str, Any]) -> None:
        """Keep the switch with its entry."""
        if leaf["type"] in {SWITCHED_OFF, SWITCHED_ON}:
            off = leaf["type"] == SWITCHED_OFF
            self.ledger.write_switch(connection, leaf["switch"], off=off, leaf_index=index)

    def after(self, leaf: Mapping[str, Any]) -> None:
        """Turn on (2)."""
        if leaf["type"] == SWITCHED_ON:
            self.ledger.switched(leaf["switch"], off=False)


def checked_switch(name: str, directory: Directory) -> str:
    """Return a switch's name if there is such a thing (3).

    Args:
        name: ``agency:ID``, ``force:ID``, ``purpose:CODE`` or ``matcher:MODEL``.
        directory: the members there are.

    Raises:
        ProbegateError: ``USAGE``.
    """
    kind, _, what = name.partition(":")
    if _SWITCH.fullmatch(name) is None:
        raise ProbegateError(Reason.USAGE, "a switch is agency:, force:, purpose: or matcher:NAME")
    known = {
        SwitchKind.AGENCY: {member.id for member in directory.members(Role.AGENCY)},
        SwitchKind.FORCE: {member.id for member in directory.members(Role.FORCE)},
        SwitchKind.PURPOSE: set(REGISTRY["purpose"].codes),
        # A template model is named by its agency alone; the directory does not list them.
        SwitchKind.MATCHER: {what},
    }[SwitchKind(kind)]
    if what not in known:
        raise ProbegateError(Reason.USAGE, f"there is no {kind} {what!r}")
    return name
