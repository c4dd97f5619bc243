"""Answering one request to match, from its papers to the signed report.

The gate's rules (1) to (14) are in ``checks`` and ``ruling``; here they are applied in order, then:

15. The gallery is searched exactly, off the event loop, and the probe's memory is wiped whatever
    came of it. (Bytes that a library returned cannot be wiped in Python; they are dropped at once.)
16. The answer, what its references stand for, what was acknowledged of the broker's log, what this
    agency's own records keep and the entry of the search log commit in one transaction, before
    anything is answered (``recording``). A refusal is an entry too. If the log cannot take it,
    nothing is answered. What nobody foresaw is a refusal as any other: the gallery may have been
    searched by then. Nobody can ask twice at once under one request id, and so under one order or
    one decision of the owner, nor under one search's id: the second waits, until an entry that is
    on its way is durable or has failed, even if the first has gone away.
17. What is answered is the signed report, and where this agency searched and said what came of it,
    its signed statement that it did. A person's name, or a template, is in none of it. Beside a
    report that lists candidates come their link tokens (``linking``), for the broker alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from weakref import WeakValueDictionary

from agency_adapters import checks
from agency_adapters.calibration.describing import expected_by_quality
from agency_adapters.calibration.signing import TrustedCalibration
from agency_adapters.evidence import Against
from agency_adapters.galleries.gallery import Found, Gallery, Query
from agency_adapters.galleries.store import size_class
from agency_adapters.galleries.templates import wipe
from agency_adapters.linking import Linker
from agency_adapters.models import (
    Capabilities,
    Dossier,
    Finding,
    MatchAnswer,
    MatchParams,
    StoredMatch,
)
from agency_adapters.recording import Recorder, Seen
from agency_adapters.references import References
from agency_adapters.registry import kind_named
from agency_adapters.reporting import Reporting
from agency_adapters.ruling import Ruling
from agency_adapters.settings import AdapterSettings
from agency_adapters.shelf import Shelf
from agency_adapters.state import AdapterState
from agency_adapters.wire import decode_dossier, encode_capabilities
from audit.leaves import JsonValue
from audit.notes import VerifierKey
from audit.organisation import CANNOT_RECORD
from audit.witness import Acknowledged, Admission, Witness
from policy.decision import CompiledPolicy
from trust import dsse, telemetry
from trust.clock import Clock
from trust.directory import Directory, Member
from trust.errors import ProbegateError, Reason
from trust.keys import Opener
from trust.messages import OutcomeState
from trust.payload_types import PayloadType
from trust.rpc import catalogued

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
    checkpoint: Mapping[str, JsonValue] | None = None


@dataclass(slots=True)
class _UnderWay:
    """How many calls are being served now."""

    calls: int = 0


@dataclass(frozen=True, slots=True)
class MatchCommand:
    """Answers requests to match; free of transport.

    Attributes:
        settings: the adapter's settings.
        directory: returns the directory in force.
        policy: returns the agreements in force.
        shelf: holds the gallery's generation in use.
        calibration: returns the calibration in use, if there is one.
        state: the adapter's memory.
        witnesses: what is remembered of the brokers' logs.
        recorder: puts what becomes of requests on this agency's search log.
        openers: this agency's sealing keys, by key id.
        references: makes opaque references.
        linker: makes link tokens.
        clock: tells the time.
    """

    settings: AdapterSettings
    directory: Callable[[], Directory]
    policy: Callable[[], CompiledPolicy]
    shelf: Shelf
    calibration: Callable[[], TrustedCalibration | None]
    state: AdapterState
    witnesses: Witnesses
    recorder: Recorder
    openers: Mapping[str, Opener] = field(repr=False)
    references: References
    linker: Linker
    clock: Clock
    _under_way: _UnderWay = field(default_factory=_UnderWay, init=False, repr=False)
    _one_at_a_time: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(
        default_factory=WeakValueDictionary, init=False, repr=False
    )

    async def execute(self, params: MatchParams, peer: Member) -> MatchAnswer:
        """Answer one request, or refuse it; either is on the record.

        Args:
            params: the request as it came.
            peer: the member on the channel.

        Raises:
            ProbegateError: whatever rules (1) to (10) raise, or the log's own failure;
                ``UNEXPECTED`` for what nobody foresaw.
        """
        papers = _Papers()
        self._under_way.calls += 1
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
            request = self._alone("request", papers.admitted.order.request_id)  # (16)
            search = self._alone("search", papers.admitted.grant.search_id)
            async with request, search:
                return await self._answered(papers, papers.admitted, dossier, params, peer)
        except Exception as error:
            failure = error if isinstance(error, ProbegateError) else catalogued(error, "match")
            if failure.reason not in CANNOT_RECORD:
                await self.recorder.refusal(
                    failure.reason,
                    self.clock(),
                    papers.admitted,
                    papers.checkpoint,
                    papers.admission,
                )
            _count(failure.reason.name)
            if failure is error:
                raise
            raise failure from error
        finally:
            self._under_way.calls -= 1

    def _alone(self, what: str, name: str) -> asyncio.Lock:
        """Return what keeps a second call under one request's or search's id waiting (16)."""
        return self._one_at_a_time.setdefault((what, name), asyncio.Lock())

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
            checks.require_own_search(self.state.order_of(admitted.grant.search_id), admitted)
            seen = Seen(papers.admission, papers.checkpoint)
            earlier = await self._answered_anew(admitted, params, seen, peer.id)
        report = earlier.there
        return MatchAnswer(  # (17)
            report=report,
            statement=self.recorder.statement(report, admitted.order, earlier.said),
            acknowledged=papers.admission.acknowledged,
            agency_checkpoint=self.recorder.log.checkpoint.note,
            agency_leaf_index=earlier.leaf_index,
            links=earlier.links,
        )

    async def _answered_anew(
        self, admitted: checks.Admitted, params: MatchParams, seen: Seen, broker: str
    ) -> StoredMatch:
        """Apply rules (11) to (16)."""
        now, policy = self.clock(), self.policy()
        facts = self.shelf.gallery.facts
        kind = kind_named(facts.kind)
        ruling = await self.recorder.records.rule(  # (11)
            admitted,
            params.evidence,
            Against(
                order=admitted.order,
                order_sha256=admitted.order_sha256.hex(),
                checkpoint=seen.admission.checkpoint,
                directory=self.directory(),
                now=now,
                skew=timedelta(seconds=self.settings.clock_skew_s),
            ),
            kind=kind,
            matcher=facts.matcher,
            policy=policy,
            owner_decision=self.state.owner_decision(
                admitted.order.request_id, admitted.order.force, admitted.order_sha256
            ),
        )
        trusted, quality = self.calibration(), admitted.order.probe.quality

        async def found(gallery: Gallery) -> Finding:
            reporting = Reporting(
                agency=self.settings.id,
                admitted=admitted,
                gallery=gallery.facts,
                policy_sha256=policy.bundle.sha256,
                now=now,
                broker=broker,
                owner_reviewers=kind.defaults.owner_reviewers,
                decide_within=timedelta(hours=self.settings.decide_within_h),
                scale=trusted.for_search(gallery.facts, quality, now) if trusted else None,
            )
            finding = await self._finding(reporting, gallery, ruling, params)  # (12) to (15)
            return await self.linker.linked(finding, gallery, admitted.grant.issued_at)

        try:
            finding = await self.shelf.while_whole(found)
        except BaseException:
            ruling.release()
            raise
        answer = await self.recorder.answer(seen, admitted, ruling, finding)  # (16)
        _count(finding.report.state.value)
        return answer

    async def _finding(
        self, reporting: Reporting, gallery: Gallery, ruling: Ruling, params: MatchParams
    ) -> Finding:
        """Apply rules (12) to (15), or report the denial."""
        facts, outcome = gallery.facts, ruling.outcome
        if isinstance(outcome, checks.Denial):
            return Finding(
                reporting.report(
                    OutcomeState.DENIED,
                    reason=outcome.reason,
                    failed_clauses=outcome.failed_clauses,
                )
            )
        try:
            probe = checks.open_probe(  # (12) to (14)
                reporting.admitted,
                sealed_key_id=params.sealed_key_id,
                sealed_probe=params.sealed_probe,
                agency=self.settings.id,
                openers=self.openers,
                directory=self.directory(),
                now=reporting.now,
                model=facts.model,
                dims=facts.dims,
            )
        except ProbegateError as error:
            if error.reason not in _BAD_PROBE:
                raise
            ruling.release()
            return Finding(reporting.report(OutcomeState.REJECTED, reason=error.reason.name))
        query = Query(
            probe=probe,
            threshold=outcome.duties.min_score,
            limit=outcome.duties.max_candidates,
            day=reporting.now.date(),
            switches=self.settings.switches(),
            deadline=params.deadline,
            company=self._under_way.calls,
        )
        started = time.perf_counter()
        try:
            found = await gallery.search(query)
        finally:
            wipe(probe)  # (15)
        _seconds(time.perf_counter() - started)
        ask = await to_ask(gallery, found)
        return reporting.finding(found, outcome.duties, self.references, ask)

    def describe(self, peer: Member) -> tuple[dsse.Envelope, Acknowledged]:
        """Return the signed capabilities, and what is acknowledged of the caller's log.

        Raises:
            ProbegateError: ``CHANNEL_ROLE``, ``KEY_UNKNOWN`` or ``STATE_UNAVAILABLE``.
        """
        checks.require_broker(peer)
        now, facts = self.clock(), self.shelf.gallery.facts
        calibration = self.calibration()
        if calibration is not None and not calibration.holds(facts, now):
            calibration = None
        stated = Capabilities(
            agency=self.settings.id,
            model=facts.model,
            dims=facts.dims,
            matcher=facts.matcher,
            exact=facts.exact,
            gallery_class=size_class(facts.count) if facts.counted else "",
            gallery_generation=facts.generation,
            gallery_changed_at=facts.changed_at,
            policy_sha256=self.policy().bundle.sha256,
            calibration=calibration.calibration.name if calibration else "",
            calibration_expires_at=calibration.calibration.expires_at if calibration else None,
            expected_false=expected_by_quality(calibration, facts.count) if calibration else (),
        )
        payload = encode_capabilities(stated, now)
        envelope = dsse.sign(PayloadType.CAPABILITIES, payload, self.recorder.signer)
        log_key = checks.search_log_key(self.directory(), peer.id, now)
        return envelope, self.witnesses.of(log_key).acknowledged


async def to_ask(gallery: Gallery, found: Found) -> tuple[str, ...]:
    """Return who must be asked before what was found is released, in alphabetical order."""
    kind = kind_named(gallery.facts.kind)
    if not kind.release:
        return ()
    names: set[str] = set()
    for one in found.candidates:
        record = await gallery.record(one.record_id)
        # A record that was erased since is nobody's to release; it is left out in the end.
        names.update(kind.to_ask(record) if record is not None else ())
    return tuple(sorted(names))


_outcomes = telemetry.meter().create_counter("probegate.adapter.searches")
_scans = telemetry.meter().create_histogram("probegate.adapter.match.seconds", unit="s")


def _count(state: str) -> None:
    _outcomes.add(1, {"state": state})


def _seconds(elapsed: float) -> None:
    _scans.record(elapsed)
