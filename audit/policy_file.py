"""The C2SP tlog-policy file: which logs are known, and whose cosignatures a checkpoint needs.

The rules (c2sp.org/tlog-policy), as numbered in the code:

1. One statement a line, words apart by spaces and tabs alone; ``#`` opens a comment line. No
   control character but tab and newline.
2. ``log <vkey> [url]``: an Ed25519 key (0x01); its name is the log's origin.
3. ``witness <name> <vkey> [url]``: a cosignature/v1 key (0x04). A cosignature does not cover its
   cosigner's name, so two witnesses, or two logs, of one public key are refused.
4. ``group <name> all|any|<k> <member>...``: holds if k of its members do, 1 <= k <= members.
5. Witnesses and groups share one space of names, in which ``none`` is taken. A name is defined
   before it is used, once, and is a member of at most one group, so each witness counts once.
6. ``quorum <name>|none``, exactly once.
7. A name is compared as it is written: no case folding, no Unicode normalisation.
8. Whatever else a line says is refused: a policy read in part would ask for less than it says.

A checkpoint satisfies the policy if one of the logs signed it and the quorum holds for those
witnesses whose cosignatures verify. Groups are judged in the order of their definition, so depth
costs no stack.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.notes import SignatureType, VerifierKey, open_note
from trust import files
from trust.errors import ProbegateError, Reason

POLICY_MAX_BYTES: Final = 2**20
"""Longest policy file that is read."""
POLICY_MAX_NAMES: Final = 1024
"""Most logs, most witnesses and most groups of one file each (C2SP asks for at least 32)."""
NO_QUORUM: Final = "none"
_BLANK: Final = re.compile("[ \t]+")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_DECIMAL: Final = re.compile("[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log: its key, whose name is the log's origin, and where it may be reached."""

    vkey: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A witness: its name in this file, its key, and its submission prefix."""

    name: str
    vkey: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Holds if at least ``threshold`` of ``members`` (witnesses or earlier groups) do."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Satisfaction:
    """What a policy says of one checkpoint.

    Attributes:
        checkpoint: what was signed.
        holds: whether the quorum does.
        signed: the witnesses that cosigned, by name, each with the newest time it states, Unix
            seconds.
        missing: the witnesses of the policy that did not, in the file's order.
    """

    checkpoint: Checkpoint
    holds: bool
    signed: Mapping[str, int]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """A policy file as read; made by ``parse_policy``."""

    logs: tuple[KnownLog, ...]
    witnesses: tuple[KnownWitness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def holds(self, cosigned: Collection[str]) -> bool:
        """Whether the quorum holds if exactly the witnesses named in ``cosigned`` signed."""
        if self.quorum == NO_QUORUM:
            return True
        true = {one.name for one in self.witnesses if one.name in cosigned}
        for group in self.groups:
            if sum(member in true for member in group.members) >= group.threshold:  # (4)
                true.add(group.name)
        return self.quorum in true

    def log_keys(self, origin: str) -> tuple[VerifierKey, ...]:
        """Return the keys of the logs of that origin."""
        return tuple(one.vkey for one in self.logs if one.vkey.name == origin)

    def satisfied(self, note: bytes, logs: Sequence[VerifierKey] = ()) -> Satisfaction:
        """Judge a signed checkpoint.

        Args:
            note: the checkpoint with its cosignatures.
            logs: further log keys to accept, for a policy that lists none.

        Raises:
            ProbegateError: ``CHECKPOINT_INVALID`` if it is malformed, signed by none of the logs,
                or carries a signature in a known key's name that does not verify.
        """
        known = [*(one.vkey for one in self.logs), *logs]
        witnesses = {one.vkey: one.name for one in self.witnesses}
        keys = [*known, *witnesses]
        checkpoint = open_checkpoint(note, keys).checkpoint
        signed: dict[str, int] = {}
        for one in open_note(note, keys).signatures:
            if one.key in witnesses and one.timestamp is not None:
                name = witnesses[one.key]
                signed[name] = max(one.timestamp, signed.get(name, 0))
        missing = tuple(one.name for one in self.witnesses if one.name not in signed)
        return Satisfaction(checkpoint, self.holds(signed), signed, missing)


def read_policy(path: Path) -> LogPolicy:
    """Read a policy file.

    Raises:
        ProbegateError: ``FILE_MISSING``, or ``POLICY_FILE_INVALID`` with the line.
    """
    return parse_policy(files.read(path).decode("utf-8", "surrogateescape"))


def parse_policy(text: str) -> LogPolicy:
    """Read a policy.

    Raises:
        ProbegateError: ``POLICY_FILE_INVALID`` with the number of the line.
    """
    if len(text) > POLICY_MAX_BYTES:
        raise _refused(0, "the file is too long")
    reading = _Reading()
    for number, line in enumerate(text.split("\n"), 1):
        if _CONTROL.search(line):
            raise _refused(number, "a control character")  # (1)
        words = _BLANK.split(line.strip(" \t"))
        if words[0] and not words[0].startswith("#"):
            reading.line = number
            reading.take(words)
    return reading.finished()


@dataclass(slots=True)
class _Reading:
    """A file half read."""

    line: int = 0
    logs: list[KnownLog] = field(default_factory=list)
    witnesses: list[KnownWitness] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    names: set[str] = field(default_factory=lambda: {NO_QUORUM})
    members: set[str] = field(default_factory=set)
    quorum: str = ""

    def take(self, words: list[str]) -> None:
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                self._log(vkey, *url)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._witness(name, vkey, *url)
            case ["group", name, threshold, *members] if members:
                self._group(name, threshold, members)
            case ["quorum", name]:
                self._quorum(name)
            case _:
                raise self._wrong("not a statement of a policy")  # (8)

    def finished(self) -> LogPolicy:
        if not self.quorum:
            raise _refused(self.line, "there is no quorum line")  # (6)
        return LogPolicy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), self.quorum)

    def _log(self, vkey: str, url: str = "") -> None:
        key = self._key(vkey, SignatureType.ED25519)  # (2)
        if key.public_key in {one.vkey.public_key for one in self.logs}:
            raise self._wrong("another log has this public key")  # (3)
        self.logs.append(KnownLog(key, url))
        self._count(self.logs)

    def _witness(self, name: str, vkey: str, url: str = "") -> None:
        key = self._key(vkey, SignatureType.COSIGNATURE_V1)
        if key.public_key in {one.vkey.public_key for one in self.witnesses}:
            raise self._wrong("another witness has this public key")  # (3)
        self._define(name)
        self.witnesses.append(KnownWitness(name, key, url))
        self._count(self.witnesses)

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        for member in members:
            self._defined(member)
            if member in self.members:
                raise self._wrong("a member of this group is in a group already")  # (5)
            self.members.add(member)
        match threshold:
            case "any":
                needed = 1
            case "all":
                needed = len(members)
            case _ if _DECIMAL.fullmatch(threshold) and int(threshold) <= len(members):
                needed = int(threshold)
            case _:
                raise self._wrong("a group needs all, any, or some of its members")  # (4)
        self._define(name)
        self.groups.append(Group(name, needed, tuple(members)))
        self._count(self.groups)

    def _quorum(self, name: str) -> None:
        if self.quorum:
            raise self._wrong("a second quorum")  # (6)
        if name != NO_QUORUM:
            self._defined(name)
        self.quorum = name

    def _define(self, name: str) -> None:
        if name in self.names:
            raise self._wrong("the name is taken")  # (5)
        self.names.add(name)

    def _defined(self, name: str) -> None:
        if name == NO_QUORUM or name not in self.names:
            raise self._wrong("a name is used that no earlier line defines")  # (5)

    def _key(self, text: str, kind: SignatureType) -> VerifierKey:
        try:
            text.encode()
            key = VerifierKey.parse(text)
        except (ProbegateError, UnicodeEncodeError):
            raise self._wrong("malformed vkey") from None
        if key.kind is not kind:
            raise self._wrong(f"the vkey is not of type 0x{kind:02x}")
        return key

    def _count(self, defined: Sequence[object]) -> None:
        if len(defined) > POLICY_MAX_NAMES:
            raise self._wrong(f"more than {POLICY_MAX_NAMES} of these")

    def _wrong(self, why: str) -> ProbegateError:
        return _refused(self.line, why)


def _refused(line: int, why: str) -> ProbegateError:
    return ProbegateError(Reason.POLICY_FILE_INVALID, why, line=str(line))
