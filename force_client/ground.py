"""What every check of the force stands on: the members, their broker, and instants of its own.

1. Keys of what a search ends with are judged at instants of this force's own (when what is checked
   can have begun, or now), never at one that a message states of itself.
2. Keys of what an agency says afterwards, which may be weeks later, are judged at the instant that
   is proved for it and at the one that it states, and must be valid at both: so a key that came and
   went since still counts for what was said with it, and a revoked one counts for nothing after.
3. A receipt counts under the broker's search-log key alone, and proves an entry that states what
   was expected of it.
4. Any failure is ``RESULT_INVALID`` with the failed ``check`` and, where it is one agency's, the
   ``agency``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from audit.leaves import parse_leaf
from audit.notes import VerifierKey
from audit.proofs import verify_receipt
from force_client.settings import MAX_CLOCK_SKEW
from trust import dsse
from trust.directory import Directory, KeyUse, MemberKey
from trust.errors import ProbegateError, Reason
from trust.member_folder import LOG_SEARCH

_SEARCH_LOG: Final = f"/{LOG_SEARCH.name_part}"
"""The end of a search log's name, by which it is told from the administration log."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The members, their broker, and the two instants.

    Attributes:
        directory: the members and their keys.
        broker: the broker's id.
        now: this force's clock.
        since: when what is checked can have begun: when the order or the request was made.
    """

    directory: Directory
    broker: str
    now: datetime
    since: datetime

    def in_time(self, moment: datetime) -> bool:
        """Whether something was made since then and not in the future."""
        return self.since - MAX_CLOCK_SKEW <= moment <= self.now + MAX_CLOCK_SKEW

    def resolver(self, member: str) -> dsse.Resolve:
        """Return a member's signing keys as they stood then, or stand now (1)."""
        first, second = (
            self.directory.resolver(member, KeyUse.SIGN, at) for at in (self.since, self.now)
        )

        def resolve(kid: str) -> bytes:
            try:
                return first(kid)
            except ProbegateError:
                return second(kid)

        return resolve

    def require_valid(self, member: str, kids: Iterable[str], *instants: datetime) -> None:
        """Require that signing keys of a member were valid at each of some instants (2).

        Raises:
            ProbegateError: ``KEY_UNKNOWN`` or ``KEY_REVOKED``.
        """
        for at in instants:
            resolve = self.directory.resolver(member, KeyUse.SIGN, at)
            for kid in kids:
                resolve(kid)

    def proved(self, receipt: bytes, leaf: bytes, expected: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an entry says that a receipt proves (3).

        Args:
            receipt: the proof, as the broker gave it.
            leaf: the entry.
            expected: what it must say.

        Raises:
            ProbegateError: ``RESULT_INVALID`` of the check ``receipt`` or ``receipt_leaf``.
        """
        with failing("receipt"):
            signed = verify_receipt(_text(receipt), self._log_keys(), leaf)
            said = parse_leaf(leaf)
        if not signed.checkpoint.origin.endswith(_SEARCH_LOG):
            raise invalid("of another log", "receipt")
        for name, value in ({"v": 1} | dict(expected)).items():
            if said.get(name) != value:
                raise invalid(f"the entry states another {name}", "receipt_leaf")
        return said

    def _log_keys(self) -> list[VerifierKey]:
        known: dict[str, MemberKey] = {}
        for at in (self.since, self.now):
            for key in self.directory.keys(self.broker, KeyUse.LOG, at):
                if key.name is not None and key.name.endswith(_SEARCH_LOG):
                    known[key.kid] = key
        return [VerifierKey.listed(key) for key in known.values()]


def recorded_at(leaf: bytes) -> datetime:
    """Return when an entry says that it was made; nothing is verified.

    Raises:
        ProbegateError: ``RESULT_INVALID`` with ``check`` ``receipt_leaf``.
    """
    with failing("receipt_leaf"):
        at = parse_leaf(leaf).get("at")
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise invalid("no time", "receipt_leaf")
    return moment


@contextmanager
def failing(check: str, agency: str = "") -> Iterator[None]:
    """Turn whatever is refused inside into ``RESULT_INVALID`` (4)."""
    try:
        yield
    except ProbegateError as error:
        raise invalid(f"{error.reason.name} {error.detail}".strip(), check, agency) from None


def invalid(why: str, check: str, agency: str = "") -> ProbegateError:
    """Return the one error of a check that failed (4)."""
    metadata = {"check": check} | ({"agency": agency} if agency else {})
    return ProbegateError(Reason.RESULT_INVALID, why, **metadata)


def _text(receipt: bytes) -> str:
    try:
        return receipt.decode()
    except UnicodeDecodeError:
        raise ProbegateError(Reason.LOG_PROOF_INVALID, "not text") from None
