"""The second step assembled from what the adapter has open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from agency_adapters.command import Witnesses
from agency_adapters.galleries.gallery import Gallery
from agency_adapters.identities import Identities
from agency_adapters.images import ImageStore
from agency_adapters.second_step.answered import Answered
from agency_adapters.second_step.asking import AskingCommand, Disclosable
from agency_adapters.second_step.deciding import Deciding
from agency_adapters.second_step.images import ImagesCommand
from agency_adapters.second_step.keeping import Releases
from agency_adapters.second_step.notices import NoticesCommand
from agency_adapters.second_step.papers import Papers
from agency_adapters.second_step.recalling import Recalling, Recalls
from agency_adapters.second_step.recording import Book
from agency_adapters.settings import AdapterSettings
from agency_adapters.state import AdapterState
from audit.scrubbing import Scrubber
from audit.writer import LogWriter
from policy.decision import CompiledPolicy
from policy.ledger import Ledger
from trust.clock import Clock
from trust.directory import Directory
from trust.keys import Opener, Signer


@dataclass(frozen=True, slots=True)
class SecondStep:
    """Everything an adapter does after a search; made by ``of``.

    Attributes:
        images: answers requests for images.
        asking: takes in requests for disclosure.
        notices: takes in notices, and lists recalls.
        deciding: carries out what people decided.
        recalling: carries out what people recalled.
    """

    images: ImagesCommand
    asking: AskingCommand
    notices: NoticesCommand
    deciding: Deciding
    recalling: Recalling

    @classmethod
    def of(
        cls,
        settings: AdapterSettings,
        *,
        directory: Callable[[], Directory],
        policy: Callable[[], CompiledPolicy],
        gallery: Callable[[], Gallery],
        state: AdapterState,
        witnesses: Witnesses,
        ledger: Ledger,
        log: LogWriter,
        signer: Signer,
        openers: Mapping[str, Opener],
        identities: Identities,
        files: Scrubber,
        clock: Clock,
    ) -> Self:
        """Put it together; the arguments are as ``MatchCommand`` has them."""
        agency, skew = settings.id, timedelta(seconds=settings.clock_skew_s)
        book, answered = Book(log, clock), Answered.of(state)
        releases, recalls = Releases(state.engine), Recalls(state.engine)
        papers = Papers(agency, answered, log, witnesses, directory, clock)
        disclosable = Disclosable(
            agency,
            settings.switches(),
            policy,
            gallery,
            ledger,
            recalls.recalled,
            state.candidate,
            identities,
            clock,
        )
        return cls(
            images=ImagesCommand(
                agency=agency,
                skew=skew,
                switches=settings.switches(),
                papers=papers,
                policy=policy,
                gallery=gallery,
                identities=identities,
                images=ImageStore(settings.images_dir),
                ledger=ledger,
                recalled=recalls.recalled,
                book=book,
                signer=signer,
                clock=clock,
            ),
            asking=AskingCommand(
                agency=agency,
                skew=skew,
                most_waiting=settings.max_requests_per_candidate,
                papers=papers,
                disclosable=disclosable,
                releases=releases,
                book=book,
                openers=openers,
                clock=clock,
            ),
            notices=NoticesCommand(
                agency=agency,
                skew=skew,
                papers=papers,
                recalls=recalls,
                releases=releases,
                book=book,
                clock=clock,
            ),
            deciding=Deciding(
                agency=agency,
                opens_for=timedelta(hours=settings.release_opens_h),
                releases=releases,
                disclosable=disclosable,
                book=book,
                signer=signer,
                directory=directory,
                files=files,
                clock=clock,
            ),
            recalling=Recalling(
                agency=agency,
                recalls=recalls,
                answered=answered,
                book=book,
                signer=signer,
                clock=clock,
            ),
        )
