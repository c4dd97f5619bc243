"""A scheme with real keys, and a broker that signs whatever a test tells it to.

The broker here is not a double of ours: it is the peer that the force must not believe, holding the
broker's own signing and log keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import numpy as np

from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.leaves import canonical, stamp
from audit.merkle import inclusion_proof, leaf_hash, root_of
from audit.notes import note_signer
from audit.proofs import format_proof
from broker.combination import Received, combine
from force_client.models import (
    AgencyDecision,
    OrderDraft,
    ProbeFacts,
    ReceivedAnswer,
    ReceivedSearch,
    SearchState,
)
from force_client.orders import PreparedSearch, SignedOrder, prepare
from force_client.probes import Probe, load_probe
from force_client.verify import RESULT_ENTRY, Witness
from trust import dsse
from trust.ceremony import Scheme
from trust.directory import Directory, KeyUse, Role
from trust.dsse import Envelope
from trust.keys import FileSigner
from trust.messages import (
    Candidate,
    ExpectedFalse,
    Justification,
    MatchReport,
    Offence,
    Outcome,
    OutcomeState,
    Person,
    SearchLimits,
    SearchResult,
)
from trust.payload_types import PayloadType
from trust.wire import decode_report, encode_report, encode_result

FORCE, BROKER = "northshire", "broker"
AGENCIES = ("custody", "pnd", "passport")
SALT_KEY = bytes(range(32))
MODEL = "invented-face-1"
GRANT = sha256(b"grant").digest()


def template(seed: int = 0, dims: int = 64) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(dims)
    return (drawn / np.linalg.norm(drawn)).astype("<f4")


def probe(seed: int = 0) -> Probe:
    return load_probe(template(seed), model=MODEL)


def draft(agencies: Sequence[str] = AGENCIES, limits: SearchLimits | None = None) -> OrderDraft:
    return OrderDraft(
        officer=Person(id="ns-4411", role="facial_search_operator", rank="constable"),
        authoriser=Person(id="ns-2087", role="investigating_officer", rank="inspector"),
        justification=Justification(
            purpose="crime_investigation",
            legal_basis="pace_s64a",
            offence=Offence(code="Robbery", seriousness="serious_crime"),
            case_reference="NS/2026/004411",
            necessity="An unknown suspect of a robbery.",
        ),
        probe=ProbeFacts(source="cctv", quality=72),
        agencies=tuple(agencies),
        limits=limits or SearchLimits(),
    )


@dataclass(frozen=True)
class Scene:
    scheme: Scheme
    directory: Directory
    now: datetime

    def prepare(self, drafted: OrderDraft | None = None, seed: int = 0) -> PreparedSearch:
        return prepare(
            drafted or draft(),
            probe(seed),
            salt_key=SALT_KEY,
            signer=self.signer(FORCE),
            force=FORCE,
            directory=self.directory,
            request_id=str(uuid4()),
            now=self.now,
        )

    def signer(self, member: str) -> FileSigner:
        return self.scheme.member_folder(member).signer()

    def witness(self, order: SignedOrder) -> Witness:
        return Witness(order, self.directory, BROKER, self.now + timedelta(seconds=1))

    def report(
        self, order: SignedOrder, search_id: str, agency: str, /, **changes: object
    ) -> Envelope:
        """An agency's honest report, with changes, signed by that agency."""
        honest = MatchReport(
            search_id=search_id,
            agency=agency,
            order_sha256=order.sha256,
            grant_sha256=GRANT,
            state=OutcomeState.CANDIDATES,
            candidates=(
                Candidate(reference=f"{agency}-a", score=0.81, rank=1),
                Candidate(reference=f"{agency}-b", score=0.52, rank=2),
            ),
            matcher="exact 1.0",
            threshold=0.4,
            exact=True,
            reported_at=self.now,
        )
        changed = honest.model_copy(update=changes)
        return dsse.sign(PayloadType.MATCH_REPORT, encode_report(changed), self.signer(agency))

    def honest_answers(self, order: SignedOrder, search_id: str) -> list[ReceivedAnswer]:
        """Candidates, no candidate, and a time-out: one of each for the three agencies."""
        empty = {"state": OutcomeState.NO_CANDIDATE, "candidates": ()}
        made = {
            "custody": answer_of(self.report(order, search_id, "custody")),
            "pnd": answer_of(self.report(order, search_id, "pnd", **empty)),
            "passport": silent("passport"),
        }
        return [made[agency] for agency in order.order.agencies]

    def ended(
        self,
        order: SignedOrder,
        answers: Sequence[ReceivedAnswer] | None = None,
        *,
        search_id: str = "",
        result: Mapping[str, object] | None = None,
        leaf: Mapping[str, object] | None = None,
        log: str = "log_search",
        signed_by: str = BROKER,
    ) -> ReceivedSearch:
        """An ended search whose result and receipt the broker's real keys made."""
        search_id = search_id or str(uuid4())
        stated = self.honest_answers(order, search_id) if answers is None else answers
        outcomes = tuple(one.outcome for one in stated)
        missing = tuple(one.agency for one in outcomes if not one.state.is_answer)
        reports = [decode_report(one.report.payload) for one in stated if one.report is not None]
        combined = combine(Received(report, self.now) for report in reports)
        honest = SearchResult(
            search_id=search_id,
            order_sha256=order.sha256,
            outcomes=outcomes,
            complete=not missing,
            missing=missing,
            sufficient=order.order.limits.met_by(outcomes),
            finished_at=self.now,
            ranking=combined.ranking,
            lanes=combined.lanes,
        ).model_copy(update=dict(result or {}))
        payload = encode_result(honest)
        facts = {
            "v": 1,
            "type": RESULT_ENTRY,
            "search_id": search_id,
            "order_sha256": order.sha256.hex(),
            "result_sha256": sha256(payload).hexdigest(),
            "outcomes": [
                {
                    "agency": one.agency,
                    "state": one.state.value,
                    "reason": one.reason,
                    "report_sha256": one.report_sha256.hex(),
                    "checkpoint_sha256": "",
                }
                | ({"late_at": stamp(one.late_at)} if one.late_at else {})
                | ({"erased_at": stamp(one.erased_at)} if one.erased_at else {})
                for one in honest.outcomes
            ],
        } | dict(leaf or {})
        entry = canonical(facts)  # type: ignore[arg-type]
        denied = {
            one.agency: one.failed_clauses
            for one in honest.outcomes
            if one.state is OutcomeState.DENIED and one.decided_by == "broker"
        }
        return ReceivedSearch(
            search_id=search_id,
            request_id=order.order.request_id,
            state=SearchState.FINISHED,
            created_at=self.now,
            decisions=tuple(
                AgencyDecision(
                    agency=agency,
                    permitted=agency not in denied,
                    code="CLAUSES_FAILED" if agency in denied else "PERMITTED",
                    failed_clauses=denied.get(agency, ()),
                )
                for agency in order.order.agencies
            ),
            answers=tuple(stated),
            result=dsse.sign(PayloadType.SEARCH_RESULT, payload, self.signer(signed_by)),
            receipt=self.receipt(entry, log).encode(),
            receipt_leaf=entry,
        )

    def receipt(self, entry: bytes, log: str = "log_search") -> str:
        """A receipt for ``entry`` among others, under one of the broker's log keys."""
        folder = self.scheme.member_folder(BROKER)
        signer: FileSigner = getattr(folder, f"{log}_signer")()
        name = next(
            key.name
            for key in self.directory.keys(BROKER, KeyUse.LOG, self.now)
            if key.kid == signer.kid
        )
        leaves = [leaf_hash(one) for one in (b"a", b"b", entry, b"c", b"d")]

        def read(level: int, index: int) -> bytes:
            return root_of(leaves[index << level : (index + 1) << level])

        checkpoint = Checkpoint(str(name), len(leaves), root_of(leaves))
        note = note_signer(str(name), signer.sign, signer.public_key)
        signed = sign_checkpoint(checkpoint, note)
        return format_proof(2, inclusion_proof(read, 2, len(leaves)), signed.note)


def calibrated(
    scene: Scene, *strengths: float, expires_in: timedelta = timedelta(days=30)
) -> dict[str, object]:
    """What makes a report a calibrated one: a candidate for each log10 LR, best first."""
    return {
        "calibration": "invented 1",
        "calibration_sha256": sha256(b"calibration").digest(),
        "calibration_expires_at": scene.now + expires_in,
        "candidates": tuple(
            Candidate(
                reference=f"ref-{rank}",
                score=0.9 - rank / 100,
                rank=rank,
                log10_lr=strength,
                expected_false=ExpectedFalse(expected=0.3 * rank, low=0.1, high=0.9 * rank),
            )
            for rank, strength in enumerate(strengths, 1)
        ),
    }


def answer_of(report: Envelope, **changes: object) -> ReceivedAnswer:
    """The outcome that honestly goes with a report, with changes."""
    said = decode_report(report.payload)
    outcome = Outcome(
        agency=said.agency,
        state=said.state,
        reason=said.reason,
        failed_clauses=said.failed_clauses,
        decided_by="agency" if said.state is OutcomeState.DENIED else "",
        report_sha256=sha256(report.payload).digest(),
        latency_ms=12.5,
    ).model_copy(update=changes)
    return ReceivedAnswer(outcome, report)


def expired(answer: ReceivedAnswer, at: datetime) -> ReceivedAnswer:
    """An answer of which what was found was erased."""
    return ReceivedAnswer(answer.outcome.model_copy(update={"erased_at": at}))


def silent(
    agency: str,
    state: OutcomeState = OutcomeState.TIMED_OUT,
    reason: str = "DEADLINE_PASSED",
    **more: object,
) -> ReceivedAnswer:
    return ReceivedAnswer(
        Outcome(agency=agency, state=state, reason=reason).model_copy(update=dict(more))
    )


def make_scene(folder: Path, endpoint: str = "127.0.0.1:1") -> Scene:
    now = datetime.now(UTC).replace(microsecond=0)
    scheme = Scheme.create(folder, "Test scheme", "probegate.test")
    scheme.add_member(FORCE, Role.FORCE)
    scheme.add_member(BROKER, Role.BROKER, endpoint=endpoint)
    for agency in AGENCIES:
        scheme.add_member(agency, Role.AGENCY, endpoint="127.0.0.1:2")
    for member in (FORCE, BROKER):
        scheme.issue_certificate(member)
    return Scene(scheme, scheme.publish_directory(), now)


def at(scene: Scene, now: datetime) -> Scene:
    return replace(scene, now=now)
