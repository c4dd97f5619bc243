"""What goes to a vendor's matcher over OSIA ABIS 1.6 and what comes back, as models.

Copyright © Secure Identity Alliance (2022) for the interface that this speaks.

1. Nothing a matcher says is believed before it has passed here: JSON without repeated keys, NaN or
   infinity; the fields of the specification and no others; no more candidates than were asked for,
   none twice, none below the threshold, ranks in the order of scores.
2. What is wrong is said by a field's name, never with its content.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agency_adapters.agency import RecordId
from agency_adapters.galleries.gallery import Scored
from agency_adapters.galleries.templates import Probe
from trust import strict_json
from trust.errors import ProbegateError, Reason

MAX_TASK_CHARS: Final = 256
"""Longest id of a matcher's task, characters."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Candidate(_Message):
    """One candidate as the matcher states it (OSIA ``Candidate``)."""

    personId: RecordId  # noqa: N815 - the specification's name
    rank: Annotated[int, Field(ge=0, le=2**31 - 1)]
    score: float
    scores: list[Any] | None = None
    others: dict[str, Any] | None = None


class Task(_Message):
    """A task whose answer comes by callback (OSIA ``TaskId``)."""

    taskId: Annotated[str, Field(min_length=1, max_length=MAX_TASK_CHARS)]  # noqa: N815
    others: dict[str, Any] | None = None


_CANDIDATES: Final = TypeAdapter(list[Candidate])


def identify_request(
    probe: Probe,
    *,
    constant_filter: dict[str, Any],
    template_format: str,
    algorithm: str,
    vendor: str,
) -> dict[str, Any]:
    """Return an ``IdentifyRequest``; the template is little-endian float32 in base64.

    Args:
        probe: float64, shape ``(dims,)``, unit length.
        constant_filter: the operator's constant ``filter``.
        template_format: the proprietary format agreed with the vendor.
        algorithm: of the template.
        vendor: of the template.
    """
    return {
        "filter": constant_filter,
        "biometricData": [
            {
                "biometricType": "FACE",
                "template": base64.b64encode(probe.astype("<f4").tobytes()).decode("ascii"),
                "templateFormat": template_format,
                "algorithm": algorithm,
                "vendor": vendor,
            }
        ],
    }


def read_task(data: bytes) -> str:
    """Return the task's id.

    Raises:
        ProbegateError: ``GALLERY_UNAVAILABLE``.
    """
    try:
        return Task.model_validate(strict_json.parse(data)).taskId
    except (ValueError, RecursionError):
        raise unbelievable("task") from None


def read_candidates(data: bytes, *, threshold: float, limit: int) -> tuple[Scored, ...]:
    """Return the candidates, best first, ties in the order of record ids (1).

    Raises:
        ProbegateError: ``GALLERY_UNAVAILABLE`` with the field's name (2).
    """
    try:
        said = _CANDIDATES.validate_python(strict_json.parse(data))
    except ValidationError as error:
        where = error.errors(include_url=False, include_input=False)[0]["loc"]
        raise unbelievable(str(where[-1]) if where else "candidates") from None
    except (ValueError, RecursionError):
        raise unbelievable("candidates") from None
    if len(said) > limit or len({one.personId for one in said}) < len(said):
        raise unbelievable("candidates")
    if any(one.score < threshold for one in said):
        raise unbelievable("score")
    by_rank = sorted(said, key=lambda one: one.rank)
    if [one.score for one in by_rank] != sorted((one.score for one in said), reverse=True):
        raise unbelievable("rank")
    ordered = sorted(said, key=lambda one: (-one.score, one.personId))
    return tuple(Scored(one.personId, one.score) for one in ordered)


def unbelievable(field: str) -> ProbegateError:
    """Return what is said of an answer that cannot be believed."""
    return ProbegateError(Reason.GALLERY_UNAVAILABLE, f"the matcher's answer: {field[:64]}")
