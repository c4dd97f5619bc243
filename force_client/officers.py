"""The force's people as its officers file lists them, and tokens for them where that is allowed.

A force's identity provider issues officer tokens. A force that keeps its identity key in its member
folder (every demonstration does) is its own provider, and this module then issues them.

The file::

    northshire.4411:
      role: facial_search_operator
      rank: constable
      unit: major-crime
      accreditation: face-examiner-2
      accreditation_expires: 2027-06-30
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from force_client.settings import MAX_OFFICERS_FILE_BYTES, MAX_TOKEN_FILE_BYTES
from trust import files, strict_json
from trust.errors import ProbegateError, Reason
from trust.member_folder import MemberFolder
from trust.messages import Code, Identifier, OptionalCode, Person
from trust.tokens import Part


class OfficerRecord(BaseModel):
    """What the force knows of one person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Code
    rank: Code
    unit: OptionalCode = ""
    accreditation: OptionalCode = ""
    accreditation_expires: date | None = None

    def person(self, officer_id: str) -> Person:
        """Return the person as an order names them."""
        return Person(
            id=officer_id,
            role=self.role,
            rank=self.rank,
            accreditation=self.accreditation,
            accreditation_expires=self.accreditation_expires,
        )


_FILE = TypeAdapter(dict[Identifier, OfficerRecord])


class _StrictLoader(yaml.SafeLoader):
    """Refuses a person who is listed twice, and anchors, which could swell a small file."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        built = super().construct_mapping(node, deep)
        if len(built) != len(node.value):
            raise yaml.YAMLError("a key appears twice")
        return built


@dataclass(frozen=True, slots=True)
class Officers:
    """The officers file, read."""

    by_id: Mapping[str, OfficerRecord]

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read the file; without one nobody is known.

        Raises:
            ProbegateError: ``FILE_MISSING``, or ``CONFIG_INVALID`` with the field's place.
        """
        if path is None:
            return cls({})
        content = files.read(path)
        try:
            if len(content) > MAX_OFFICERS_FILE_BYTES:
                raise yaml.YAMLError("too large")  # noqa: TRY301 - one way out for a bad file
            loaded = yaml.load(content, _StrictLoader)  # noqa: S506 - a SafeLoader, only stricter
            return cls(_FILE.validate_python(loaded or {}))
        except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
            raise ProbegateError(Reason.CONFIG_INVALID, _place(error), file=path.name) from None

    def person(self, officer_id: str, *, option: str) -> Person:
        """Return a person by id.

        Args:
            officer_id: the id at the force.
            option: how the caller names this person's part, for the error.

        Raises:
            ProbegateError: ``ORDER_INVALID`` if the file does not list them.
        """
        record = self.by_id.get(officer_id)
        if record is None:
            raise ProbegateError(Reason.ORDER_INVALID, "not in the officers file", field=option)
        return record.person(officer_id)


def issue_token(folder: MemberFolder, person: Person, unit: str, part: Part, now: datetime) -> str:
    """Issue a person's token as this force's own identity provider.

    Raises:
        ProbegateError: ``FILE_MISSING`` where the identity key is kept elsewhere, as it should be
            outside demonstrations.
    """
    return folder.issue_token(
        officer=person.id,
        part=part,
        role=person.role,
        rank=person.rank,
        unit=unit,
        accreditation=person.accreditation or None,
        accreditation_expires=person.accreditation_expires,
        now=now,
    )


def read_token(path: Path) -> str:
    """Read a token that an identity provider wrote to a file.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``OFFICER_TOKEN_INVALID``.
    """
    content = files.read(path)
    if len(content) > MAX_TOKEN_FILE_BYTES or not content.isascii() or not content.strip():
        raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check="format", file=path.name)
    return content.decode().strip()


def person_of_token(token: str) -> Person:
    """Return the person as a token names them, for an order that must say the same.

    The token is not verified here: the broker does that, and the order is refused if they differ.

    Raises:
        ProbegateError: ``OFFICER_TOKEN_INVALID``.
    """
    try:
        part = token.split(".")[1]
        claims = strict_json.parse(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        expires = claims.get("accreditation_expires")
        return Person(
            id=claims["sub"],
            role=claims.get("role", ""),
            rank=claims.get("rank", ""),
            accreditation=claims.get("accreditation") or "",
            accreditation_expires=date.fromisoformat(expires) if expires else None,
        )
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, check="format") from None


def _place(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        # The first step of the place is a person's id, which has no business in an error.
        return f"{'.'.join(str(step) for step in first['loc'][1:]) or 'id'}: {first['msg']}"
    return type(error).__name__
