"""The broker assembled: what it opens at start, keeps fresh while it runs, and closes at the end.

1. Nothing is served before the directory, the bundle, the logs and the store are open and agree.
2. A new directory or bundle is on the admin log before it decides anything.
3. A directory or bundle that cannot be trusted is refused whole; the one in use stays, until it
   expires by itself.
4. Searches that a dead process left running go on before new ones are taken.
5. Operators' entries (a kill switch) are put on the admin log, and carried out, as they appear; an
   urgent search whose confirmation is overdue is put on the search log.
6. What agencies hold for a person, or did not answer in time, is asked for until it comes, or too
   late. What an ended search found is erased when its time is over.
7. What agencies state of themselves is asked beside everything else: no search waits for it.
8. What follows searches (``second_step``) is worked on as long as the server runs: requests for
   disclosure, notices and recalls, each by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import grpc
from opentelemetry.metrics import CallbackOptions, Observation
from sqlalchemy import Engine

from audit import wire as audit_wire
from audit.desk import Desk
from audit.organisation import Logs, open_logs
from audit.scrubbing import Scrubber
from audit.servicer import AuditServicer
from broker import wire
from broker.commands.confirm import ConfirmUrgent
from broker.commands.create import CreateSearch
from broker.commands.preview import PreviewSearch
from broker.commands.read import Reading
from broker.dispatch import AgencyClient
from broker.ending import Ending
from broker.expiring import Expiring
from broker.expiring_store import ExpiringStore
from broker.held import HeldAnswers
from broker.held_store import HeldStore
from broker.history import History
from broker.links import DialledLink
from broker.operators import clerks
from broker.retention import ResultRetention
from broker.ruling import Decider
from broker.searches import Searches
from broker.second_step.assembly import SecondStep
from broker.second_step.servicer import DisclosureServicer, ReviewServicer
from broker.servicer import PolicyServicer, SearchServicer
from broker.settings import BrokerSettings
from broker.store import SearchStore
from broker.tables import open_engine
from broker.urgency import flag_unconfirmed
from policy.decision import CompiledPolicy
from policy.ledger import Ledger
from policy.store import BundleStore
from trust import files, telemetry
from trust.ceremony import MemberFolder
from trust.chores import Step, beside, keep_doing
from trust.clock import Clock, utc_now
from trust.directory import Directory, Role
from trust.directory_store import DirectoryStore
from trust.errors import ProbegateError
from trust.garbage import spare_the_collector
from trust.mtls import server_credentials
from trust.rpc import Surroundings
from trust.server import STOP_GRACE_S, RunningServer, ServerLimits, serve, until_stopped


@dataclass(slots=True)
class Broker:
    """Everything one broker process holds open."""

    settings: BrokerSettings
    engine: Engine
    directories: DirectoryStore
    policies: BundleStore
    logs: Logs
    ledger: Ledger
    searches: Searches
    held: HeldAnswers
    retention: ResultRetention
    expiring: Expiring
    agencies: dict[str, AgencyClient]
    links: dict[str, DialledLink]
    make_agency: Callable[[str], None]
    surroundings: Surroundings
    create: CreateSearch
    reading: Reading
    preview: PreviewSearch
    confirm: ConfirmUrgent
    second_step: SecondStep
    clock: Clock

    @classmethod
    async def open(cls, settings: BrokerSettings, clock: Clock = utc_now) -> Broker:
        """Open everything (1) and go on with what was running (4).

        Raises:
            ProbegateError: whatever cannot be trusted or reached.
        """
        now = clock()
        folder = MemberFolder(settings.member_folder)
        directories = DirectoryStore.of(settings)
        directory = directories.load(now)
        engine = open_engine(settings.state_dir, settings.database_url)
        logs = open_logs(
            engine,
            member_id=settings.id,
            member_folder=folder,
            directory=directory,
            logs_dir=settings.logs_dir,
            at=now,
        )
        policies = BundleStore(settings.bundle, settings.state_dir / "bundle.json")
        policies.load(directory, now)
        store = SearchStore(engine)
        ledger = Ledger.open(engine)
        history = History(
            store=store,
            ledger=ledger,
            log=logs.search,
            directory=lambda: directories.current,
            policy=lambda: policies.current,
            skew=timedelta(seconds=settings.clock_skew_s),
        )
        decider = Decider(policy=lambda: policies.current, ledger=ledger, history=history)
        agencies: dict[str, AgencyClient] = {}
        links: dict[str, DialledLink] = {}

        def make_agency(agency: str) -> None:
            tls = (folder.tls_cert, folder.tls_key)
            links[agency] = link = DialledLink(tls, agency, lambda: directories.current)
            agencies[agency] = AgencyClient(
                agency, link, settings, lambda: directories.current, clock, logs.search.consistency
            )

        held = HeldStore(engine, settings)
        files = Scrubber(engine)
        retention = ResultRetention(settings, engine, logs.admin, files, clock)
        ending = Ending(
            store=store,
            held=held,
            retention=retention,
            ledger=ledger,
            log=logs.search,
            signer=folder.signer(),
            clock=clock,
        )
        searches = Searches(
            settings=settings,
            store=store,
            ledger=ledger,
            history=history,
            log=logs.search,
            signer=folder.signer(),
            ending=ending,
            agencies=agencies,
            clock=clock,
        )
        reading = Reading(settings=settings, searches=searches, store=store, log=logs.search)
        broker = cls(
            settings=settings,
            engine=engine,
            directories=directories,
            policies=policies,
            logs=logs,
            ledger=ledger,
            searches=searches,
            held=HeldAnswers(
                settings=settings,
                held=held,
                store=store,
                ledger=ledger,
                ending=ending,
                agencies=agencies,
                directory=lambda: directories.current,
                clock=clock,
            ),
            retention=retention,
            expiring=Expiring(ExpiringStore(engine), store, retention, ending, files, clock),
            agencies=agencies,
            links=links,
            make_agency=make_agency,
            surroundings=Surroundings(lambda: directories.current, settings.max_deadline_s),
            create=CreateSearch(
                settings=settings,
                searches=searches,
                store=store,
                reading=reading,
                decider=decider,
                clock=clock,
            ),
            reading=reading,
            preview=PreviewSearch(decider=decider, agencies=agencies, clock=clock),
            confirm=ConfirmUrgent(
                settings=settings,
                store=store,
                ledger=ledger,
                log=logs.search,
                reading=reading,
                clock=clock,
            ),
            second_step=SecondStep.of(
                settings=settings,
                engine=engine,
                store=store,
                ledger=ledger,
                log=logs.search,
                agencies=agencies,
                policy=lambda: policies.current,
                directory=lambda: directories.current,
                clock=clock,
            ),
            clock=clock,
        )
        broker.meet_agencies(directory)
        await logs.record_directory(directory, now)
        await record_bundle(logs, policies.current, now)
        resumed = await searches.resume()
        telemetry.log("broker open", count=resumed, version=directory.version)
        broker.observe()
        return broker

    def meet_agencies(self, directory: Directory) -> None:
        """Make a client for every agency of the directory that has none yet."""
        for member in directory.members(Role.AGENCY):
            if member.id not in self.agencies:
                self.make_agency(member.id)

    def observe(self) -> None:
        """Offer the gauges; they cost nothing when telemetry is off."""
        meter = telemetry.meter()

        def running(_: CallbackOptions) -> list[Observation]:
            return [Observation(self.searches.count)]

        def size(_: CallbackOptions) -> list[Observation]:
            return [
                Observation(log.checkpoint.checkpoint.size, {"log": name})
                for name, log in self.logs.by_name().items()
            ]

        def switched_off(_: CallbackOptions) -> list[Observation]:
            return [Observation(len(self.ledger.switched_off))]

        meter.create_observable_gauge("probegate.searches.running", [running])
        meter.create_observable_gauge("probegate.switches.off", [switched_off])
        self.logs.observe()
        meter.create_observable_gauge("probegate.log.size", [size])

    async def refresh(self) -> None:
        """Do once what is done for ever while the broker runs (2) (3) (5)."""
        for step in self._steps():
            await step()

    def _steps(self) -> tuple[Step, ...]:
        return (
            self.refresh_directory,
            self.refresh_bundle,
            self.refresh_links,
            self.record_unconfirmed,
        )

    async def refresh_directory(self) -> None:
        """Look once for a new directory."""
        now = self.clock()
        directory = self.directories.changed(now)
        if directory is not None:
            await self.logs.record_directory(directory, now)
            self.directories.take_up(directory)
            self.meet_agencies(directory)

    async def refresh_bundle(self) -> None:
        """Look once for a new bundle."""
        now = self.clock()
        # On a thread: verifying and compiling a country's agreements takes seconds.
        policy = await asyncio.to_thread(self.policies.changed, self.directories.current, now)
        if policy is not None:
            await record_bundle(self.logs, policy, now)
            self.policies.take_up(policy)

    async def refresh_links(self) -> None:
        """Look once for a new certificate of ours, or another address of an agency's.

        An agency that cannot be dialled as it is listed keeps no other waiting.
        """
        for agency, link in self.links.items():
            if self.directories.current.find(agency) is None:
                continue
            try:
                link.refresh()
            except ProbegateError as error:
                telemetry.log("link not refreshed", agency=agency, reason=error.reason.name)

    async def refresh_descriptions(self) -> None:
        """Ask once every agency whose turn it is what it states of itself (6)."""
        present = self.directories.current
        await asyncio.gather(
            *(
                client.refresh_description()
                for client in self.agencies.values()
                if present.find(client.agency) is not None
            )
        )

    async def record_unconfirmed(self) -> None:
        """Look once for urgent searches that are late (5)."""
        await flag_unconfirmed(self.ledger, self.logs.search, self.clock())

    def register(self, server: grpc.aio.Server) -> None:
        """Add every servicer to a server."""
        around = self.surroundings
        wire.register_search(
            SearchServicer(
                around,
                create=self.create,
                reading=self.reading,
                preview=self.preview,
                confirm=self.confirm,
            ),
            server,
        )
        wire.register_policy(PolicyServicer(around, preview=self.preview), server)
        wire.register_review(ReviewServicer(around, self.second_step), server)
        wire.register_disclosure(DisclosureServicer(around, self.second_step), server)
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

    def chores(self) -> tuple[Coroutine[None, None, None], ...]:
        """Return what runs beside the server for as long as it does (2) (5) (6)."""
        kept_for = timedelta(days=self.settings.values_retain_days)
        desk = Desk.open(self.engine, values_kept_for=kept_for).serve(
            self.logs.admin, clerks(self.ledger), self.settings.admin_poll_s
        )
        fresh = keep_doing(self._steps(), self.settings.reload_interval_s)
        held = keep_doing((self.held.collect,), self.settings.held_poll_s)
        # By itself: an agency that does not answer must not keep a new directory waiting.
        described = keep_doing((self.refresh_descriptions,), self.settings.reload_interval_s)
        gone = keep_doing((self.retention.erase, self.expiring.erase), self.settings.results_poll_s)
        step, poll_s = self.second_step, self.settings.release_poll_s
        following = (  # (8)
            keep_doing((step.handing.work,), poll_s),
            keep_doing((step.notifying.work,), poll_s),
            keep_doing((step.recalling.work,), self.settings.recall_poll_s),
        )
        pruned = self.ledger.keep_pruned(self.clock)
        return (fresh, described, desk, held, gone, *following, pruned)

    async def close(self) -> None:
        """Let searches end, then close links, logs and the database."""
        await self.searches.close(STOP_GRACE_S)
        for link in self.links.values():
            await link.close()
        await self.logs.close()
        self.ledger.close()
        self.engine.dispose()


async def run(settings: BrokerSettings) -> None:
    """Run one broker until it is told to stop."""
    broker = await Broker.open(settings)
    try:
        server = await broker.listen()
    except ProbegateError:
        await broker.close()
        raise
    announce(settings.port_file, server.port)
    spare_the_collector()
    try:
        health = server.keep_saying(lambda: broker.logs.are_well)
        async with beside((*broker.chores(), health)):
            await until_stopped(server)
    finally:
        await broker.close()


async def record_bundle(logs: Logs, policy: CompiledPolicy, now: datetime) -> None:
    """Put a bundle on the admin log before it decides anything (2)."""
    bundle = policy.bundle
    await logs.record_bundle(bundle.set_id, bundle.version, bundle.sha256, now)


def announce(port_file: Path | None, port: int) -> None:
    """Write the port where whoever started this process looks for it."""
    if port_file is not None:
        files.write_atomic(port_file, f"{port}\n".encode())
