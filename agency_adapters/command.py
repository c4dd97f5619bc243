"""Answering one request to match, from its papers to the signed report.

The gate's rules (1) to (14) are in ``checks``; here they are applied in order, and then:

15. The gallery is searched exactly, off the event loop, and the probe's memory is wiped whatever
    came of it. (Bytes that a library returned cannot be wiped in Python; they are dropped at once.)
16. The answer, what its references stand for, what was acknowledged of the broker's log and the
    entry of the search log commit in one transaction, before anything is answered. A refusal is an
    entry too. If the log cannot take it, nothing is answered.
17. What is answered is the signed report. A person's name, or a template, is in none of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from weakref import WeakValueDictionary

from sqlalchemy import Connection

from agency_adapters import checks
from agency_adapters.galleries.matching import MATCHER, best_matches
from agency_adapters.galleries.store import Gallery, size_class
from agency_adapters.galleries.templates import Probe, wipe
from agency_adapters.models import (
    Capabilities,
    Dossier,
    Finding,
    FoundRecord,
    MatchAnswer,
    MatchParams,
    StoredMatch,
)
from agency_adapters.references import References
from agency_adapters.settings import AdapterSettings
from agency_adapters.state import AdapterState, keep_answer
from agency_adapters.wire import decode_dossier, encode_capabilities
from audit.checkpoints import Checkpoint
from audit.leaves import JsonValue
from audit.notes import VerifierKey
from audit.witness import Acknowledged, Admission, Witness
from audit.writer import LogWriter, NewEntry
from policy.decision import CompiledPolicy
from trust import dsse, telemetry
from trust.clock import Clock
from trust.directory import Directory, Member
from trust.errors import ProbegateError, Reason
from trust.keys import Opener, Signer
from trust.messages import (
    HIT_ONLY,
    TO_BE_RELEASED,
    Candidate,
    MatchReport,
    Obligations,
    OutcomeState,
)
from trust.payload_types import PayloadType
from trust.wire import encode_report

REPORT_ENTRY: Final = "match.report"
REFUSAL_ENTRY: Final = "match.refused"
_CANNOT_RECORD: Final = frozenset(
    {
        Reason.DISK_FULL,
        Reason.LOG_CORRUPT,
        Reason.LOG_UNAVAILABLE,
        Reason.SERVER_BUSY,
        Reason.STATE_UNAVAILABLE,
    }
)
"""Refusals that mean the log itself is in trouble; recording them is beside the point."""
_BAD_PROBE: Final = frozenset(
    {
        Reason.BAD_COMMITMENT,
        Reason.KEY_REVOKED,
        Reason.KEY_UNKNOWN,
        Reason.PROBE_INVALID,
        Reason.PROBE_MODEL,
        Reason.SEAL_INVALID,
    }
)
"""What opening a probe may fail with: answered with a signed report, not refused."""


class Witnesses:
    """One memory for each broker's search log, opened when it is first met."""

    def __init__(self, state: AdapterState) -> None:
        self._engine = state.engine
        self._open: dict[VerifierKey, Witness] = {}

    def of(self, log_key: VerifierKey) -> Witness:
        """Return the memory of the log with this key.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        if log_key not in self._open:
            self._open[log_key] = Witness.open(self._engine, log_key.name, log_key)
        return self._open[log_key]


@dataclass(slots=True)
class _Papers:
    """What is known of a request so far, for the record of its refusal."""

    admitted: checks.Admitted | None = None
    admission: Admission | None = None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True)
class MatchCommand:
    """Answers requests to match; free of transport.

    Attributes:
        settings: the adapter's settings.
        directory: returns the directory in force.
        policy: returns the agreements in force.
        gallery: returns the gallery's newest generation.
        state: the adapter's memory.
        witnesses: what is remembered of the brokers' logs.
        log: this agency's search log.
        signer: signs reports.
        openers: this agency's sealing keys, by key id.
        references: makes opaque references.
        clock: tells the time.
    """

    settings: AdapterSettings
    directory: Callable[[], Directory]
    policy: Callable[[], CompiledPolicy]
    gallery: Callable[[], Gallery]
    state: AdapterState
    witnesses: Witnesses
    log: LogWriter
    signer: Signer
    openers: Mapping[str, Opener] = field(repr=False)
    references: References
    clock: Clock
    _scanning: asyncio.Semaphore = field(init=False, repr=False)
    _one_at_a_time: WeakValueDictionary[bytes, asyncio.Lock] = field(
        default_factory=WeakValueDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Bound how many scans run at once."""
        slots = asyncio.Semaphore(self.settings.max_concurrent_matches)
        object.__setattr__(self, "_scanning", slots)

    async def execute(self, params: MatchParams, peer: Member) -> MatchAnswer:
        """Answer one request, or refuse it; either is on the record.

        Args:
            params: the request as it came.
            peer: the member on the channel.

        Raises:
            ProbegateError: whatever rules (1) to (10) raise, or the log's own failure.
        """
        papers = _Papers()
        try:
            checks.require_broker(peer)  # (1)
            dossier = decode_dossier(params.dossier)  # (2)
            papers.admitted = checks.admit_papers(  # (2) to (6), (10)
                dossier,
                agency=self.settings.id,
                broker=peer.id,
                directory=self.directory(),
                now=self.clock(),
                skew=timedelta(seconds=self.settings.clock_skew_s),
            )
            lock = self._one_at_a_time.setdefault(papers.admitted.order_sha256, asyncio.Lock())
            async with lock:
                return await self._answered(papers, papers.admitted, dossier, params, peer)
        except ProbegateError as error:
            if error.reason not in _CANNOT_RECORD:
                await self._record_refusal(papers, error)
            _count(error.reason.name)
            raise

    async def _answered(
        self,
        papers: _Papers,
        admitted: checks.Admitted,
        dossier: Dossier,
        params: MatchParams,
        peer: Member,
    ) -> MatchAnswer:
        now = self.clock()
        log_key = checks.search_log_key(self.directory(), peer.id, now)
        papers.checkpoint = checks.require_recorded(dossier, log_key)  # (7)
        witness = self.witnesses.of(log_key)
        papers.admission = witness.admit(dossier.checkpoint, params.consistency, now)  # (8)
        earlier = checks.require_not_replayed(  # (9)
            self.state.answered(admitted.order_sha256), admitted
        )
        if earlier is None:
            finding = await self._finding(admitted, params)  # (11) to (15)
            earlier = await self._recorded(papers.admission, admitted, finding)  # (16)
        return MatchAnswer(  # (17)
            report=earlier.report,
            acknowledged=papers.admission.acknowledged,
            agency_checkpoint=self.log.checkpoint.note,
            agency_leaf_index=earlier.leaf_index,
        )

    async def _finding(self, admitted: checks.Admitted, params: MatchParams) -> Finding:
        """Apply rules (11) to (15)."""
        now, gallery, policy = self.clock(), self.gallery(), self.policy()
        base = _BaseReport(self.settings.id, admitted, gallery, policy, now)
        duties = checks.decide(  # (11)
            admitted,
            agency=self.settings.id,
            kind=gallery.kind,
            policy=policy,
            owner_decision=self.state.owner_decision(admitted.order.request_id),
            now=now,
        )
        if isinstance(duties, checks.Denial):
            return Finding(
                base.report(
                    OutcomeState.DENIED, reason=duties.reason, failed_clauses=duties.failed_clauses
                )
            )
        try:
            probe = checks.open_probe(  # (12) to (14)
                admitted,
                sealed_key_id=params.sealed_key_id,
                sealed_probe=params.sealed_probe,
                agency=self.settings.id,
                openers=self.openers,
                directory=self.directory(),
                now=now,
                model=gallery.manifest.model,
                dims=gallery.manifest.dims,
            )
        except ProbegateError as error:
            if error.reason not in _BAD_PROBE:
                raise
            return Finding(base.report(OutcomeState.REJECTED, reason=error.reason.name))
        try:
            async with self._scanning:
                return await asyncio.to_thread(self._search, base, gallery, probe, duties)
        finally:
            wipe(probe)  # (15)

    def _search(
        self, base: _BaseReport, gallery: Gallery, probe: Probe, duties: Obligations
    ) -> Finding:
        """Search the gallery (15) and report as far as the duties allow."""
        started = time.perf_counter()
        eligible = gallery.eligibility(base.now.date(), self.settings.switches())
        found = best_matches(
            gallery.templates,
            eligible.mask,
            probe,
            threshold=duties.min_score,
            limit=duties.max_candidates,
        )
        _seconds(time.perf_counter() - started)
        searched = {
            "matcher": MATCHER,
            "threshold": duties.min_score,
            "gallery_class": size_class(eligible.count),
            "exact": True,
        }
        record_ids = gallery.record_ids([one.row for one in found])
        search_id = base.admitted.grant.search_id
        records = tuple(
            FoundRecord(self.references.reference(search_id, record_id), record_id, rank, one.score)
            for rank, (one, record_id) in enumerate(zip(found, record_ids, strict=True), start=1)
        )
        if duties.release_by_human:
            # Held whatever was found: that an answer waits must not say that there is one.
            return Finding(
                base.report(OutcomeState.HELD, reason=TO_BE_RELEASED, **searched), records
            )
        if not records:
            return Finding(base.report(OutcomeState.NO_CANDIDATE, **searched))
        if duties.hit_no_hit:
            hit = base.report(OutcomeState.CANDIDATES, reason=HIT_ONLY, **searched)
            return Finding(hit, records)
        listed = tuple(
            Candidate(reference=r.reference, score=r.score, rank=r.rank) for r in records
        )
        return Finding(base.report(OutcomeState.CANDIDATES, candidates=listed, **searched), records)

    async def _recorded(
        self, admission: Admission, admitted: checks.Admitted, finding: Finding
    ) -> StoredMatch:
        """Apply rule (16)."""
        report = finding.report
        envelope = dsse.sign(PayloadType.MATCH_REPORT, encode_report(report), self.signer)

        def stored(index: int) -> StoredMatch:
            return StoredMatch(
                order_sha256=admitted.order_sha256,
                grant_sha256=admitted.grant_sha256,
                search_id=report.search_id,
                report=envelope,
                leaf_index=index,
            )

        def also(connection: Connection, index: int) -> None:
            keep_answer(connection, stored(index), finding.found)
            admission.persist(connection)

        leaf = _leaf(REPORT_ENTRY, report.reported_at, admitted, admission.checkpoint)
        leaf |= {
            "report_sha256": hashlib.sha256(envelope.payload).hexdigest(),
            "state": report.state.value,
            "reason": report.reason,
            "policy_sha256": report.policy_sha256.hex(),
        }
        appended = await self.log.append(NewEntry(leaf=leaf, also=also))
        _count(report.state.value)
        telemetry.log("answered", search_id=report.search_id, state=report.state.value)
        return stored(appended.index)

    async def _record_refusal(self, papers: _Papers, error: ProbegateError) -> None:
        leaf = _leaf(REFUSAL_ENTRY, self.clock(), papers.admitted, papers.checkpoint)
        leaf["reason"] = error.reason.name
        also = None
        if papers.admission is not None:
            persist = papers.admission.persist

            def also(connection: Connection, _index: int) -> None:
                persist(connection)

        await self.log.append(NewEntry(leaf=leaf, also=also))
        telemetry.log("refused", reason=error.reason.name)

    def describe(self, peer: Member) -> tuple[dsse.Envelope, Acknowledged]:
        """Return the signed capabilities, and what is acknowledged of the caller's log.

        Raises:
            ProbegateError: ``CHANNEL_ROLE``, ``KEY_UNKNOWN`` or ``STATE_UNAVAILABLE``.
        """
        checks.require_broker(peer)
        now, gallery = self.clock(), self.gallery()
        stated = Capabilities(
            agency=self.settings.id,
            model=gallery.manifest.model,
            dims=gallery.manifest.dims,
            matcher=MATCHER,
            gallery_class=size_class(gallery.manifest.count),
            gallery_generation=gallery.manifest.generation,
            policy_sha256=self.policy().bundle.sha256,
        )
        payload = encode_capabilities(stated, now)
        envelope = dsse.sign(PayloadType.CAPABILITIES, payload, self.signer)
        log_key = checks.search_log_key(self.directory(), peer.id, now)
        return envelope, self.witnesses.of(log_key).acknowledged


@dataclass(frozen=True, slots=True)
class _BaseReport:
    """What every report of one request has in common."""

    agency: str
    admitted: checks.Admitted
    gallery: Gallery
    policy: CompiledPolicy
    now: datetime

    def report(self, state: OutcomeState, **more: Any) -> MatchReport:
        return MatchReport(
            search_id=self.admitted.grant.search_id,
            agency=self.agency,
            order_sha256=self.admitted.order_sha256,
            grant_sha256=self.admitted.grant_sha256,
            state=state,
            gallery_generation=self.gallery.manifest.generation,
            policy_sha256=self.policy.bundle.sha256,
            reported_at=self.now,
            **more,
        )


def _leaf(
    kind: str, at: datetime, admitted: checks.Admitted | None, checkpoint: Checkpoint | None
) -> dict[str, JsonValue]:
    """Say what is certain of a request, in digests; nothing in it is personal."""
    return {
        "v": 1,
        "type": kind,
        "at": at.isoformat(timespec="microseconds"),
        "search_id": admitted.grant.search_id if admitted else "",
        "order_sha256": admitted.order_sha256.hex() if admitted else "",
        "grant_sha256": admitted.grant_sha256.hex() if admitted else "",
        "broker_checkpoint": (
            {
                "origin": checkpoint.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
            }
            if checkpoint
            else None
        ),
    }


_outcomes = telemetry.meter().create_counter("probegate.adapter.searches")
_scans = telemetry.meter().create_histogram("probegate.adapter.match.seconds", unit="s")


def _count(state: str) -> None:
    _outcomes.add(1, {"state": state})


def _seconds(elapsed: float) -> None:
    _scans.record(elapsed)
