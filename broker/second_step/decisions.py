"""Whether an owner's decision on a request for disclosure may be believed.

1. It is signed by keys that the directory lists for this agency, now.
2. It is about this very request: its digest, id, search, agency and reference.
3. It is of this moment: made after the request and not in the future, within clock skew, and what
   is released has an end that lies after the decision.
4. What is released comes with it: sealed bytes of a sensible size with the digest it states, to a
   key of this force. What is refused comes with nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from broker.second_step.models import Disclosure, Released
from trust import dsse
from trust.directory import Directory, KeyUse
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType
from trust.second_step import ReleaseDecision
from trust.wire import decode

MAX_SEALED_BYTES: Final = 128 * 1024
"""Largest sealed details, bytes: 32 fields of 500 characters of four, caveats, the seal."""


def decision_of(
    came: Released,
    record: Disclosure,
    directory: Directory,
    now: datetime,
    skew: timedelta,
) -> ReleaseDecision:
    """Return an owner's decision.

    Raises:
        ProbegateError: an envelope's or key's reason, ``RESULT_INVALID``, or ``OUTCOME_INVALID``
            with the field's name.
    """
    if came.decision is None:
        raise _unfit("decision")
    resolve = directory.resolver(record.agency, KeyUse.SIGN, now)
    dsse.verify(came.decision, PayloadType.RELEASE_DECISION, resolve)  # (1)
    said = decode(ReleaseDecision, came.decision.payload)
    if (
        said.request_sha256,
        said.request_id,
        said.search_id,
        said.agency,
        said.reference,
    ) != (  # (2)
        record.request_sha256,
        record.request_id,
        record.search_id,
        record.agency,
        record.reference,
    ):
        raise _unfit("request_sha256")
    if not record.created_at - skew <= said.decided_at <= now + skew:  # (3)
        raise _unfit("decided_at")
    if said.expires_at is None:
        if came.sealed:  # (4)
            raise _unfit("sealed_disclosure")
        return said
    if said.expires_at <= said.decided_at:
        raise _unfit("expires_at")
    if not 0 < len(came.sealed) <= MAX_SEALED_BYTES:  # (4)
        raise _unfit("sealed_disclosure")
    if sha256(came.sealed).digest() != said.sealed_sha256:
        raise _unfit("sealed_sha256")
    directory.resolver(record.force, KeyUse.SEAL, said.decided_at)(said.sealed_key_id)
    return said


def _unfit(field: str) -> ProbegateError:
    return ProbegateError(Reason.OUTCOME_INVALID, "not the decision on this request", field=field)
