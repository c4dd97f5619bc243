"""What follows a search, put together: stores, commands, and what is done beside the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from audit.writer import LogWriter
from broker.dispatch import AgencyClient
from broker.second_step.agreed import Agreed
from broker.second_step.commands.disclose import RequestDisclosure
from broker.second_step.commands.disclosures import ReadDisclosures
from broker.second_step.commands.images import GetImages
from broker.second_step.commands.recalls import AcknowledgeRecall, ReadRecalls
from broker.second_step.commands.review import GetReviewStatus, SubmitReview
from broker.second_step.commands.revoke import RevokeReviewer
from broker.second_step.commands.statements import RecordStatements
from broker.second_step.disclosure_store import DisclosureStore
from broker.second_step.handing import Handing
from broker.second_step.notice_store import NoticeStore, RecallStore, StatementStore
from broker.second_step.notifying import Notifying
from broker.second_step.orders import Orders
from broker.second_step.recalling import Recalling
from broker.second_step.receipts import Receipts
from broker.second_step.refusing import Refusals
from broker.second_step.releasing import Releasing
from broker.second_step.review_store import ReviewStore
from broker.second_step.standings import Standings
from broker.settings import BrokerSettings
from broker.store import SearchStore
from broker.storing import Storage
from policy.decision import CompiledPolicy
from policy.ledger import Ledger
from trust.clock import Clock
from trust.directory import Directory


@dataclass(frozen=True, slots=True)
class SecondStep:
    """Everything that follows a search; the broker has one."""

    images: GetImages
    submit: SubmitReview
    status: GetReviewStatus
    revoke: RevokeReviewer
    statements: RecordStatements
    disclose: RequestDisclosure
    disclosures: ReadDisclosures
    recalls: ReadRecalls
    acknowledge: AcknowledgeRecall
    handing: Handing
    notifying: Notifying
    recalling: Recalling

    @classmethod
    def of(
        cls,
        *,
        settings: BrokerSettings,
        engine: Engine,
        store: SearchStore,
        ledger: Ledger,
        log: LogWriter,
        agencies: Mapping[str, AgencyClient],
        policy: Callable[[], CompiledPolicy],
        directory: Callable[[], Directory],
        clock: Clock,
    ) -> SecondStep:
        """Put it together.

        Args:
            settings: limits and times.
            engine: the broker's database.
            store: where searches are kept.
            ledger: the kill switches.
            log: the search log.
            agencies: every agency of the directory, ready to be asked.
            policy: returns the agreements in force.
            directory: returns the directory in force.
            clock: the time.
        """
        storage = Storage(engine)
        orders = Orders(storage)
        reviews = ReviewStore(storage)
        requests = DisclosureStore(storage)
        statements = StatementStore(storage)
        notices = NoticeStore(storage)
        recalls = RecallStore(storage)
        receipts = Receipts(log)
        refusals = Refusals(log)
        agreed = Agreed(policy, ledger)
        standings = Standings(reviews, agreed, log, receipts, clock)
        releasing = Releasing(agencies, receipts, settings, clock)
        reading = ReadDisclosures(settings, requests, recalls, orders, ledger, receipts, log, clock)
        handing = Handing(
            settings=settings,
            disclosures=requests,
            reviews=reviews,
            orders=orders,
            agreed=agreed,
            releasing=releasing,
            log=log,
            directory=directory,
            clock=clock,
        )
        return cls(
            images=GetImages(
                settings=settings,
                store=store,
                orders=orders,
                reviews=reviews,
                agreed=agreed,
                releasing=releasing,
                refusals=refusals,
                log=log,
                clock=clock,
            ),
            submit=SubmitReview(
                settings=settings,
                store=store,
                orders=orders,
                reviews=reviews,
                standings=standings,
                refusals=refusals,
                receipts=receipts,
                log=log,
                clock=clock,
            ),
            status=GetReviewStatus(store, standings),
            revoke=RevokeReviewer(
                settings=settings,
                reviews=reviews,
                disclosures=requests,
                notices=notices,
                handing=handing,
                refusals=refusals,
                receipts=receipts,
                log=log,
                clock=clock,
            ),
            statements=RecordStatements(
                settings=settings,
                store=store,
                disclosures=requests,
                statements=statements,
                notices=notices,
                refusals=refusals,
                receipts=receipts,
                log=log,
                clock=clock,
            ),
            disclose=RequestDisclosure(
                settings=settings,
                store=store,
                orders=orders,
                standings=standings,
                agreed=agreed,
                disclosures=requests,
                recalls=recalls,
                reading=reading,
                refusals=refusals,
                log=log,
                clock=clock,
            ),
            disclosures=reading,
            recalls=ReadRecalls(recalls, receipts),
            acknowledge=AcknowledgeRecall(
                settings=settings,
                recalls=recalls,
                notices=notices,
                refusals=refusals,
                receipts=receipts,
                log=log,
                clock=clock,
            ),
            handing=handing,
            notifying=Notifying(settings, notices, releasing, log, clock),
            recalling=Recalling(
                settings=settings,
                store=store,
                orders=orders,
                recalls=recalls,
                releasing=releasing,
                log=log,
                directory=directory,
                clock=clock,
            ),
        )
