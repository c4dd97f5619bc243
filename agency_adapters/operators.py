"""What the agency's own people do at an adapter, each of it an entry of the admin log first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from agency_adapters.checks import matcher_switches
from agency_adapters.deciding import REVIEW_CLERK
from agency_adapters.galleries.opening import names_without_opening
from agency_adapters.holds import HoldClerk
from agency_adapters.models import FoundRecord
from agency_adapters.owner import OWNER_DECISION, OWNER_WITHDRAWN, OwnerClerk
from agency_adapters.registry import kind_named
from agency_adapters.second_step.deciding import RELEASE_CLERK
from agency_adapters.second_step.recalling import RecallClerk
from agency_adapters.settings import AdapterSettings
from agency_adapters.state import AdapterState
from agency_adapters.tables import open_engine
from audit.desk import Clerks, Desk
from audit.erasing import ValuesClerk
from audit.leaves import JsonValue
from audit.organisation import admin_leaf
from policy.ledger import SWITCHED_OFF, SWITCHED_ON, Ledger, SwitchClerk, checked_switch
from policy.standing import SwitchKind
from trust.clock import Clock, utc_now
from trust.directory import Role
from trust.directory_store import DirectoryStore
from trust.errors import ProbegateError, Reason


@dataclass(frozen=True, slots=True)
class Operator:
    """One command of the agency's own people."""

    settings: AdapterSettings
    state: AdapterState
    desk: Desk
    ledger: Ledger
    clock: Clock = utc_now

    @classmethod
    def open(cls, settings: AdapterSettings) -> Operator:
        """Open the adapter's database.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        engine = open_engine(settings.state_dir)
        kept_for = timedelta(days=settings.values_retain_days)
        desk = Desk.open(engine, values_kept_for=kept_for)
        return cls(settings, AdapterState(engine), desk, Ledger.open(engine))

    async def resolve(
        self, *, search_id: str | None = None, reference: str | None = None
    ) -> Sequence[tuple[str, FoundRecord]]:
        """Return the records behind a reference or a search, once the read is on the log.

        Raises:
            ProbegateError: ``USAGE`` unless exactly one is given; ``NOT_FOUND``, or
                ``RESULT_GONE`` for a search that is; ``LOG_UNAVAILABLE``.
        """
        if (search_id is None) == (reference is None):
            raise ProbegateError(Reason.USAGE, "give a search or a reference")
        found = self.state.resolve(search_id=search_id, reference=reference)
        await self.log(
            "candidates.resolved",
            search_id=found[0][0] if found else "",
            references=[record.reference for _, record in found],
        )
        if not found:
            gone = search_id is not None and self.state.is_gone(search_id)
            raise ProbegateError(Reason.RESULT_GONE if gone else Reason.NOT_FOUND)
        return found

    async def decide(
        self, request_id: str, authority: str, reference: str, *, force: str = ""
    ) -> None:
        """Record the owner's decision to answer one order that is to come.

        Args:
            request_id: the id that the order will have.
            authority: what sort of decision it is.
            reference: the agency's own reference of it.
            force: whose order it must be; empty for any force's.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` for an authority this kind of agency does not have;
                ``USAGE`` for what is no force, or if a decision on this request was used already;
                ``LOG_UNAVAILABLE``.
        """
        known = kind_named(self.settings.kind).authorities
        if authority not in known:
            names = ", ".join(known) or "none"
            raise ProbegateError(Reason.CONFIG_INVALID, f"known are: {names}", field="authority")
        if force:
            directory = DirectoryStore.of(self.settings).load(self.clock())
            if force not in {one.id for one in directory.members(Role.FORCE)}:
                raise ProbegateError(Reason.USAGE, "no force of the directory has this id")
        await self.log(
            OWNER_DECISION,
            request_id=request_id,
            authority=authority,
            reference=reference,
            force=force,
        )

    async def withdraw(self, request_id: str, reference: str) -> None:
        """Withdraw the owner's decision on a request, unless it was used.

        Raises:
            ProbegateError: ``NOT_FOUND`` if there is none; ``USAGE`` if it was used already;
                ``LOG_UNAVAILABLE``.
        """
        await self.log(OWNER_WITHDRAWN, request_id=request_id, reference=reference)

    async def switch(self, name: str, *, off: bool, reference: str) -> int:
        """Turn a kill switch; when this returns it is on the log and in force.

        Raises:
            ProbegateError: ``USAGE`` for what cannot be switched here; ``LOG_UNAVAILABLE``.
        """
        settings = self.settings
        directory = DirectoryStore.of(settings).load(self.clock())
        if name not in self.switched_off:
            self._require_ours(checked_switch(name, directory))
        kind = SWITCHED_OFF if off else SWITCHED_ON
        return await self.log(kind, switch=name, reference=reference)

    def _require_ours(self, name: str) -> None:
        """Refuse a switch that nothing here reads, which would look like one that is off.

        A matcher whose name only its engine could tell is taken at its word: a switch is for when
        something is wrong, and waits for no engine.
        """
        kind, _, what = name.partition(":")
        known = {what}
        if kind == SwitchKind.AGENCY:
            known = {self.settings.id}
        elif kind == SwitchKind.MATCHER:
            names = names_without_opening(self.settings.gallery)
            if names is not None:
                matcher, model = names
                known = {model, *(one.partition(":")[2] for one in matcher_switches(matcher))}
        if what not in known:
            ours = ", ".join(sorted(known))
            raise ProbegateError(Reason.USAGE, f"here a switch of kind {kind} is one of: {ours}")

    def close(self) -> None:
        """Let go of the database."""
        self.ledger.close()
        self.state.close()
        self.desk.engine.dispose()

    @property
    def switched_off(self) -> frozenset[str]:
        """Every kill switch that is off."""
        return self.ledger.switched_off

    async def log(
        self, kind: str, private: Mapping[str, JsonValue] | None = None, **facts: JsonValue
    ) -> int:
        """Put an entry on the admin log, through the running adapter if there is one.

        Args:
            kind: the entry's type.
            private: what the entry only commits to.
            facts: what it says.
        """
        now = self.clock()
        leaf = admin_leaf(kind, now, **facts)
        return await self.desk.put(leaf, self.settings, clerks(self.ledger), now, private)


def clerks(ledger: Ledger) -> Clerks:
    """Return who carries out what the agency's own people put on the admin log."""
    deciding = (REVIEW_CLERK, RELEASE_CLERK, RecallClerk())
    return Clerks((SwitchClerk(ledger), *deciding, OwnerClerk(), ValuesClerk(), HoldClerk()))
