"""People on the command line: as the officers file or their own token names them."""

from __future__ import annotations

from pathlib import Path

from force_client import AsyncForceClient, Part, read_token
from force_client.officers import person_of_token
from trust.errors import ProbegateError, Reason
from trust.messages import Person


def presented(
    client: AsyncForceClient, person_id: str, token_file: Path | None, part: Part
) -> tuple[Person, str]:
    """Return a person as the order names them, and their token."""
    if token_file is None:
        person = client.officers.person(person_id, option=part.value)
        return person, client.issue_token(person_id, part)
    token = read_token(token_file)
    person = person_of_token(token)
    if person.id != person_id:
        raise ProbegateError(Reason.OFFICER_TOKEN_INVALID, "another person's", check=part.value)
    return person, token
