"""The scheme that is measured: real members, real agreements, and searches ready to be sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from probegate.broker.v1 import search_service_pb2 as broker_pb
from probegate.common.v1 import envelope_pb2, search_pb2

from tests.world import (
    AGENCIES,
    AUTHORISER,
    FORCES,
    OFFICER,
    Request,
    World,
    copied_examples,
    custody_agreements,
    edit_agreement,
)
from trust.dsse import Envelope
from trust.messages import Person
from trust.tokens import Part

FORCE: Final = FORCES[0]
WAIT_MS: Final = 20_000
"""How long a call waits for its search, milliseconds: one call is one search."""
NOT_ASKED_HERE: Final = frozenset(
    {"nhs.owner-decision", "nhs.authoriser-rank"}
    | {"dwp.owner-decision", "dwp.authoriser-rank", "dwp.named-individual"}
)
"""Clauses of the examples by which every police search is denied; the benchmark's parties have
agreed to do without them, so that all six agencies are asked."""


def make_world(root: Path, agencies: int) -> World:
    """Make a scheme under ``root`` whose agreements permit the benchmark's search everywhere.

    Beyond the six agencies of the examples, all of them are custody galleries.
    """
    if agencies > len(AGENCIES):
        names = tuple(f"custody-{number:02}" for number in range(1, agencies + 1))
        folder = custody_agreements(root / "agreements", names)
        for path in folder.glob("*/*.yaml"):
            edit_agreement(path, _let_through)
        return World.make(root, agreements=folder, forces=(FORCE,), agencies=names)
    agreements = copied_examples(root / "agreements")
    for path in agreements.glob("*/*.yaml"):
        if path.name != "cases.yaml":
            edit_agreement(path, _let_through)
    names = AGENCIES[:agencies]
    for name in AGENCIES[agencies:]:
        for path in (agreements / name).iterdir():
            path.unlink()
    return World.make(root, agreements=agreements, forces=(FORCE,), agencies=names)


def _let_through(agreement: dict[str, Any]) -> None:
    agreement["clauses"] = [c for c in agreement["clauses"] if c["id"] not in NOT_ASKED_HERE]
    for gateway in agreement["gateways"]:
        gateway["requester_bases"] = ["common_law_policing"]
    # Every agency answers with candidates: a hit without a reference is less work for the broker.
    duties = agreement["obligations"]
    duties["hit_no_hit"] = False
    duties["max_candidates"] = max(duties["max_candidates"], 5)
    # A benchmark makes more searches in an hour than one officer lawfully could in a month.
    agreement.pop("quotas", None)
    agreement.pop("urgent", None)


class Orders:
    """Makes the encoded requests of searches, each signed and sealed, each good for one use.

    Args:
        world: the scheme.
        searches_per_token: how many searches a pair of officer's tokens serves.
    """

    def __init__(self, world: World, searches_per_token: int) -> None:
        self._world = world
        self._per_token = searches_per_token

    def make(self, count: int) -> list[bytes]:
        """Return ``count`` encoded ``CreateSearchRequest``, fresh as of now."""
        now = datetime.now(UTC) - timedelta(seconds=1)
        made = []
        tokens = ("", "")
        for number in range(count):
            request = Request(self._world, force=FORCE, agencies=self._world.agencies, now=now)
            if number % self._per_token == 0:
                tokens = (_token(request, OFFICER), _token(request, AUTHORISER))
            made.append(_encoded(request, tokens))
        return made


def _token(request: Request, person: Person) -> str:
    return request.token(person, Part.OFFICER if person is OFFICER else Part.AUTHORISER)


def _encoded(request: Request, tokens: Sequence[str]) -> bytes:
    envelope = request.envelope()
    digest = hashlib.sha256(envelope.payload).digest()
    sealed = [request.sealed(agency, digest) for agency in request.agencies]
    return broker_pb.CreateSearchRequest(
        order=_message(envelope),
        probes=[
            search_pb2.SealedProbe(agency=p.agency, key_id=p.key_id, ciphertext=p.ciphertext)
            for p in sealed
        ],
        officer_token=tokens[0],
        authoriser_token=tokens[1],
        wait_ms=WAIT_MS,
    ).SerializeToString()


def _message(envelope: Envelope) -> envelope_pb2.Envelope:
    return envelope_pb2.Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        signatures=[
            envelope_pb2.Signature(key_id=s.keyid, signature=s.sig) for s in envelope.signatures
        ],
    )


def failures_in(answers: Sequence[bytes], agencies: int) -> int:
    """Return how many answers are not finished searches in which every agency found candidates."""
    return sum(not _is_whole(answer, agencies) for answer in answers)


def _is_whole(answer: bytes, agencies: int) -> bool:
    search = broker_pb.CreateSearchResponse.FromString(answer).search
    found = [a for a in search.answers if a.outcome.state == search_pb2.OUTCOME_STATE_CANDIDATES]
    finished = search.state == broker_pb.SEARCH_STATE_FINISHED
    return finished and len(found) == agencies and bool(search.receipt)
