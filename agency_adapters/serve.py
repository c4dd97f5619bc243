"""The adapter assembled: what it opens at start, keeps fresh while it runs, and closes at the end.

1. Nothing is served before the directory, the bundle, the gallery, the logs and the database are
   open and agree; the kill switches that are off are read before that, too.
2. A new directory, bundle or gallery is on the admin log before a request sees it decide anything.
3. One that cannot be trusted is refused whole; the one in use stays, until it expires by itself.
   A calibration is the exception: without one that can be trusted scores are raw, and the admin log
   says since when and why.
4. An urgent search that was not confirmed in time is put on the search log, once; so is a held
   answer, or a request for details, that nobody decided in time.
5. What the agency's people decided about a held answer or about details, and what they recalled, is
   carried out, whoever was up at the time.
6. What answers found is erased when its time is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import grpc
from opentelemetry.metrics import CallbackOptions, Observation

from agency_adapters import wire
from agency_adapters.calibration.signing import CalibrationStore
from agency_adapters.collect import CollectCommand
from agency_adapters.command import MatchCommand, Witnesses
from agency_adapters.deciding import Deciding
from agency_adapters.galleries.files import DEFAULT_LIMITS, ScanLimits
from agency_adapters.galleries.opening import open_gallery
from agency_adapters.holding import HeldAnswers
from agency_adapters.identities import Identities
from agency_adapters.lifetimes import KeptFor
from agency_adapters.linking import Linker
from agency_adapters.operators import clerks
from agency_adapters.recording import Recorder, record_unconfirmed
from agency_adapters.references import References
from agency_adapters.registry import kind_named, place_of
from agency_adapters.retention import AnswerRetention
from agency_adapters.ruling import Records
from agency_adapters.second_step.assembly import SecondStep
from agency_adapters.second_step.servicer import ReleaseServicer
from agency_adapters.servicer import MatchServicer
from agency_adapters.settings import AdapterSettings
from agency_adapters.shelf import Shelf
from agency_adapters.state import AdapterState
from agency_adapters.tables import open_engine
from audit import wire as audit_wire
from audit.desk import Desk
from audit.leaves import stamp
from audit.organisation import Logs, open_logs
from audit.scrubbing import Scrubber
from audit.servicer import AuditServicer
from policy.decision import CompiledPolicy
from policy.ledger import Ledger
from policy.store import BundleStore
from trust import files, telemetry
from trust.ceremony import MemberFolder
from trust.chores import beside, keep_doing
from trust.clock import Clock, utc_now
from trust.directory import Role
from trust.directory_store import DirectoryStore
from trust.garbage import spare_the_collector
from trust.mtls import server_credentials
from trust.rpc import Surroundings
from trust.server import RunningServer, ServerLimits, serve, until_stopped


@dataclass(slots=True)
class Adapter:
    """Everything one adapter process holds open."""

    settings: AdapterSettings
    state: AdapterState
    ledger: Ledger
    desk: Desk
    directories: DirectoryStore
    policies: BundleStore
    shelf: Shelf
    calibrations: CalibrationStore
    logs: Logs
    command: MatchCommand
    collect: CollectCommand
    deciding: Deciding
    second_step: SecondStep
    retention: AnswerRetention
    clock: Clock

    @classmethod
    async def open(cls, settings: AdapterSettings, clock: Clock = utc_now) -> Adapter:
        """Open everything (1).

        Raises:
            ProbegateError: whatever cannot be trusted or reached.
        """
        now = clock()
        kind = kind_named(settings.kind)
        folder = MemberFolder(settings.member_folder)
        directories = DirectoryStore.of(settings)
        directory = directories.load(now)
        directory.member(settings.id, Role.AGENCY)
        policies = BundleStore(settings.bundle, settings.state_dir / "bundle.json")
        policies.load(directory, now)
        limits = ScanLimits(
            settings.scan_threads or DEFAULT_LIMITS.threads,
            settings.probes_per_pass,
            settings.max_waiting_probes,
            settings.gather_patience_s,
        )
        gallery = await open_gallery(settings.gallery, kind, limits, settings)
        # Who is eligible is worked out before any request waits for it.
        await gallery.eligible(clock().date(), settings.switches())
        calibrations = CalibrationStore(settings.calibration, settings.id)
        state = AdapterState(open_engine(settings.state_dir))
        kept_for = timedelta(days=settings.values_retain_days)
        ledger = Ledger.open(state.engine)
        desk = Desk.open(state.engine, values_kept_for=kept_for)
        references = References.open(settings.state_dir)
        logs = open_logs(
            state.engine,
            member_id=settings.id,
            member_folder=folder,
            directory=directory,
            logs_dir=settings.logs_dir,
            at=now,
        )
        shelf = Shelf(gallery, logs, settings.switches(), clock)
        signer, openers = folder.signer(), folder.openers()
        kept = KeptFor.of(settings)
        identities = Identities(references)
        recorder = Recorder(
            log=logs.search,
            records=Records(settings.id, ledger),
            signer=signer,
            kept=kept,
            listed=lambda found: shelf.while_whole(partial(identities.listed, found)),
        )
        witnesses, held = Witnesses(state), HeldAnswers(state.engine)
        linker = Linker(settings.id, lambda: directories.current, openers, signer)
        command = MatchCommand(
            settings=settings,
            directory=lambda: directories.current,
            policy=lambda: policies.current,
            shelf=shelf,
            calibration=lambda: calibrations.current,
            state=state,
            witnesses=witnesses,
            recorder=recorder,
            openers=openers,
            references=references,
            linker=linker,
            clock=clock,
        )
        collect = CollectCommand(
            held=held,
            state=state,
            recorder=recorder,
            witnesses=witnesses,
            directory=lambda: directories.current,
            clock=clock,
        )
        deciding = Deciding(
            held=held,
            state=state,
            ledger=ledger,
            linker=linker,
            recorder=recorder,
            gallery=lambda: shelf.gallery,
            switches=settings.switches(),
            clock=clock,
        )
        scrubber = Scrubber(state.engine)
        second_step = SecondStep.of(
            settings,
            directory=lambda: directories.current,
            policy=lambda: policies.current,
            gallery=lambda: shelf.gallery,
            state=state,
            witnesses=witnesses,
            ledger=ledger,
            log=logs.search,
            signer=signer,
            openers=openers,
            identities=identities,
            files=scrubber,
            clock=clock,
        )
        adapter = cls(
            settings=settings,
            state=state,
            ledger=ledger,
            desk=desk,
            directories=directories,
            policies=policies,
            shelf=shelf,
            calibrations=calibrations,
            logs=logs,
            command=command,
            collect=collect,
            deciding=deciding,
            second_step=second_step,
            retention=AnswerRetention(kept, state.engine, logs.admin, scrubber, clock),
            clock=clock,
        )
        await adapter.record_all()
        adapter.observe()
        telemetry.log("adapter open", generation=gallery.facts.generation)
        return adapter

    async def record_all(self) -> None:
        """Put what decides from the start on the admin log (2)."""
        now = self.clock()
        await self.logs.record_directory(self.directories.current, now)
        await self._record_bundle(self.policies.current)
        await self._record_kind(self.shelf.gallery.facts.kind)
        await self.shelf.record_gallery(self.shelf.gallery)
        await self.refresh_calibration()

    def chores(self) -> tuple[Coroutine[None, None, None], ...]:
        """Return what runs beside the server for as long as it does (2) (3) (4) (5) (6)."""
        steps = (
            self.refresh_directory,
            self.refresh_bundle,
            self.refresh_gallery,
            self.refresh_calibration,
            self.record_unconfirmed,
            self.deciding.record_overdue,
            self.second_step.deciding.record_overdue,
            self.second_step.deciding.erase_expired,
        )
        decisions = (
            self.deciding.settle,
            self.second_step.deciding.settle,
            self.second_step.recalling.settle,
        )
        decided = keep_doing(decisions, self.settings.admin_poll_s)
        fresh = keep_doing(steps, self.settings.reload_interval_s)
        erased = keep_doing((self.retention.erase_answers,), self.settings.answers_poll_s)
        return (fresh, decided, erased, self.serve_desk(), self.ledger.keep_pruned(self.clock))

    async def record_unconfirmed(self) -> None:
        """Look once for urgent searches that are late (4)."""
        await record_unconfirmed(self.logs.search, self.ledger, self.clock())

    async def serve_desk(self) -> None:
        """Put what the agency's own people ask for on the admin log, for ever."""
        await self.desk.serve(self.logs.admin, clerks(self.ledger), self.settings.admin_poll_s)

    async def refresh_directory(self) -> None:
        """Look once for a new directory."""
        now = self.clock()
        directory = self.directories.changed(now)
        if directory is not None:
            await self.logs.record_directory(directory, now)
            self.directories.take_up(directory)

    async def refresh_bundle(self) -> None:
        """Look once for a new bundle."""
        # On a thread: verifying and compiling a country's agreements takes seconds.
        policy = await asyncio.to_thread(
            self.policies.changed, self.directories.current, self.clock()
        )
        if policy is not None:
            await self._record_bundle(policy)
            self.policies.take_up(policy)

    async def refresh_gallery(self) -> None:
        """Look once for a new generation; searches under way keep the one they began with."""
        await self.shelf.renew()

    async def refresh_calibration(self) -> None:
        """Look once for a new calibration, or at the end of the one in use (2) (3)."""
        now = self.clock()
        looked = await asyncio.to_thread(
            self.calibrations.changed, self.directories.current, self.shelf.gallery.facts, now
        )
        if looked is None:
            return
        if looked.trusted is not None:
            whole = looked.trusted.calibration
            await self.logs.record(
                "calibration.activated",
                now,
                name=whole.name,
                sha256=looked.trusted.sha256.hex(),
                expires_at=stamp(whole.expires_at),
            )
        elif looked.refusal is not None:
            self.calibrations.drop()  # first: no other search may be told by it
            reason = looked.refusal.reason.name
            telemetry.log("calibration not used, scores are raw", logging.ERROR, reason=reason)
            await self.logs.record("calibration.dropped", now, reason=reason)
        self.calibrations.take_up(looked)

    async def _record_bundle(self, policy: CompiledPolicy) -> None:
        bundle = policy.bundle
        await self.logs.record_bundle(bundle.set_id, bundle.version, bundle.sha256, self.clock())

    async def _record_kind(self, kind: str) -> None:
        """Say whose rules decide, where they are not this software's own (2)."""
        place = place_of(kind)
        if place:
            await self.logs.record("kind.activated", self.clock(), name=kind, place=place)
            telemetry.log("kind of agency from outside")

    def observe(self) -> None:
        """Offer the gauges; they cost nothing when telemetry is off."""
        meter = telemetry.meter()

        def records(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(self.shelf.gallery.facts.count)]

        def generation(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(self.shelf.gallery.facts.generation)]

        def age(_: CallbackOptions) -> Iterable[Observation]:
            changed = self.shelf.gallery.facts.changed_at
            return [Observation((self.clock() - changed).total_seconds())]

        def waiting(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(self.shelf.gallery.load)]

        def switched_off(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(len(self.ledger.switched_off))]

        self.logs.observe()
        meter.create_observable_gauge("probegate.gallery.records", [records])
        meter.create_observable_gauge("probegate.gallery.generation", [generation])
        meter.create_observable_gauge("probegate.gallery.age", [age], unit="s")
        meter.create_observable_gauge("probegate.adapter.waiting", [waiting])
        meter.create_observable_gauge("probegate.switches.off", [switched_off])

    def register(self, server: grpc.aio.Server) -> None:
        """Add every servicer to a server."""
        around = Surroundings(lambda: self.directories.current, self.settings.max_deadline_s)
        wire.register_match(
            MatchServicer(around, command=self.command, collect=self.collect), server
        )
        wire.register_release(ReleaseServicer(around, self.second_step), server)
        audit = AuditServicer(around, owner=self.settings.id, logs=self.logs.by_name())
        audit_wire.register_audit(audit, server)

    async def listen(self) -> RunningServer:
        """Start serving.

        Raises:
            ProbegateError: ``PORT_IN_USE`` and whatever is wrong with the certificate.
        """
        folder = MemberFolder(self.settings.member_folder)
        return await serve(
            listen=self.settings.listen,
            credentials=server_credentials(
                folder.tls_cert, folder.tls_key, lambda: self.directories.current
            ),
            register=self.register,
            services=(*wire.SERVICES, audit_wire.SERVICE),
            limits=ServerLimits(
                self.settings.max_message_bytes, self.settings.max_concurrent_calls
            ),
        )

    async def close(self) -> None:
        """Let the logs flush, then close the database and the gallery."""
        await self.logs.close()
        self.ledger.close()
        self.state.close()
        self.state.engine.dispose()
        await self.shelf.gallery.close()


async def run(settings: AdapterSettings) -> None:
    """Run one adapter until it is told to stop."""
    adapter = await Adapter.open(settings)
    try:
        server = await adapter.listen()
        if settings.port_file is not None:
            files.write_atomic(settings.port_file, f"{server.port}\n".encode())
        spare_the_collector()
        health = server.keep_saying(lambda: adapter.logs.are_well)
        async with beside((*adapter.chores(), health)):
            await until_stopped(server)
    finally:
        await adapter.close()
