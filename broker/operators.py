"""What the broker's own people do at it, each of it an entry of the admin log first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from audit.desk import Clerks, Desk
from audit.erasing import ValuesClerk
from audit.leaves import JsonValue
from audit.organisation import admin_leaf
from broker.erasing import OrderClerk
from broker.second_step.erasing import SecondStepClerk
from broker.settings import BrokerSettings
from broker.tables import open_engine
from policy.ledger import SWITCHED_OFF, SWITCHED_ON, Ledger, SwitchClerk, checked_switch
from trust.clock import Clock, utc_now
from trust.directory_store import DirectoryStore


@dataclass(frozen=True, slots=True)
class Operator:
    """One command of the broker's own people."""

    settings: BrokerSettings
    desk: Desk
    ledger: Ledger
    clock: Clock = utc_now

    @classmethod
    def open(cls, settings: BrokerSettings) -> Operator:
        """Open the broker's database.

        Raises:
            ProbegateError: ``STATE_UNAVAILABLE``.
        """
        engine = open_engine(settings.state_dir, settings.database_url)
        kept_for = timedelta(days=settings.values_retain_days)
        desk = Desk.open(engine, values_kept_for=kept_for)
        return cls(settings, desk, Ledger.open(engine))

    async def switch(self, name: str, *, off: bool, reference: str) -> int:
        """Turn a kill switch; when this returns it is on the log and in force.

        Raises:
            ProbegateError: ``USAGE`` for what cannot be switched; ``LOG_UNAVAILABLE``.
        """
        settings, now = self.settings, self.clock()
        directory = DirectoryStore.of(settings).load(now)
        kind = SWITCHED_OFF if off else SWITCHED_ON
        switch = checked_switch(name, directory)
        leaf = admin_leaf(kind, now, switch=switch, reference=reference)
        return await self.desk.put(leaf, settings, clerks(self.ledger), now)

    async def log(self, kind: str, **facts: JsonValue) -> int:
        """Put an entry on the admin log, through the running broker if there is one.

        Raises:
            ProbegateError: ``LOG_UNAVAILABLE``, and whatever carrying it out raises.
        """
        now = self.clock()
        leaf = admin_leaf(kind, now, **facts)
        return await self.desk.put(leaf, self.settings, clerks(self.ledger), now)

    def close(self) -> None:
        """Let go of the database."""
        self.ledger.close()
        self.desk.engine.dispose()

    @property
    def switched_off(self) -> frozenset[str]:
        """Every kill switch that is off."""
        return self.ledger.switched_off


def clerks(ledger: Ledger) -> Clerks:
    """Return who carries out what the broker's own people put on the admin log."""
    return Clerks((SwitchClerk(ledger), ValuesClerk(), OrderClerk(), SecondStepClerk()))
