"""The demonstration's second step: from references and scores to details, and back again.

1. One review, and the details are asked for: refused, nobody is named by one person's opinion.
2. A second reviewer, blind to the first, agrees; every candidate is settled.
3. Details are asked of two owners. One refuses. The other's people release, and the force alone
   opens what was sealed to it.
4. An export is blocked until evidence is recorded that does not come from comparing faces.
5. The owner recalls the record: what was disclosed is stopped, which the force acknowledges.

The people are invented, and an examiner here knows the person who was planted by the picture, as a
person would. Each step runs over the real processes; each receipt is
verified by the force's client before it returns, and afterwards the logs are read as a stranger
would (``judged``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar

from agency_adapters.operators import Operator
from agency_adapters.second_step.inbox import ReleaseInbox
from agency_adapters.second_step.recall_desk import RecallDesk
from agency_adapters.settings import AdapterSettings
from audit.notes import VerifierKey
from audit.proofs import verify_receipt
from audit.reconciling_releases import reconcile_releases
from audit.tracing import trace
from deploy.local.demo import AUTHORISER, FIRST, FORCE, OFFICER, Demo, DemoResult
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from force_client import (
    ForceClient,
    ForceSettings,
    Part,
    ProbegateError,
    Reason,
    SearchView,
)
from force_client.second_step.models import DisclosureView, OpenedDisclosure
from force_client.second_step.sync import BlockingSitting
from trust.config import load_settings
from trust.second_step import CorroborationKind, Opinion, RecallReason

_Made = TypeVar("_Made")

EXAMINERS: Final = (f"{FORCE}-5101", f"{FORCE}-5102")
REFUSES: Final = "pnd"
"""The owner whose people do not let the details go."""
RELEASES: Final = "custody"
FIELDS: Final = ("family_name", "given_names", "date_of_birth")
FACTS: Final = "A robbery with a weapon; the image is of whoever held it. Nobody knew the person."
PATIENCE_S: Final = 60.0
"""Longest wait for a step that other processes take, seconds."""
LOOK_S: Final = 0.2
"""How long an invented examiner looks at one candidate, seconds."""
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened, and whether it is as it should be.

    Attributes:
        title: in words.
        expected: what should come of it.
        came: what came.
        facts: more of it, for the JSON; nothing that names anybody.
    """

    title: str
    expected: str
    came: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def as_it_should_be(self) -> bool:
        """Whether what should have come of it did."""
        return self.expected == self.came

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "step": self.title,
            "expected": self.expected,
            "came": self.came,
            "as_it_should_be": self.as_it_should_be,
            **self.facts,
        }


class SecondStep:
    """Runs the second step on a federation that is up.

    Args:
        place: where it is.
        processes: its servers.
        tell: hears of each step as it ends.
    """

    def __init__(self, place: Place, processes: Processes, tell: Callable[[Step], None]) -> None:
        self._place = place
        self._demo = Demo(place, processes)
        self._tell = tell
        self._steps: list[Step] = []
        self._known: frozenset[bytes] = frozenset()

    def run(self) -> tuple[Step, ...]:
        """Run every step."""
        settings = ForceSettings.load(self._place.config(FORCE))
        with ForceClient(settings) as client:
            searched = self._demo.search(client, FIRST)
            planted = self._planted(searched)
            self._done("A search", "verified", "verified" if searched.view.verified else "not")
            self._known = self._pictures(searched)
            released = self._reviewed(client, searched.view, planted)
            self._exported(client, released)
            self._recalled(client, released)
        self._judged(searched.view.search_id)
        return tuple(self._steps)

    # --- the steps ----------------------------------------------------------------------------

    def _reviewed(
        self, client: ForceClient, view: SearchView, planted: Mapping[str, str]
    ) -> DisclosureView:
        """Let two people review, ask two owners, and return the request that was released."""
        first, second = EXAMINERS
        self._sits(client, view, first)
        self._done(  # (1)
            "Details asked for after one review",
            Reason.REVIEW_MISSING.name,
            _reason_of(lambda: self._asked(client, view, RELEASES, planted[RELEASES])),
        )
        self._done(
            "The same examiner reviews again",
            Reason.REVIEW_NOT_INDEPENDENT.name,
            _reason_of(lambda: self._sits(client, view, first)),
        )
        self._done(
            "The officer who searched reviews",
            Reason.REVIEW_NOT_INDEPENDENT.name,
            _reason_of(lambda: self._sits(client, view, OFFICER)),
        )
        status = self._sits(client, view, second)  # (2)
        self._done("Two examiners reviewed, each blind", "settled", status)
        refused = self._asked(client, view, REFUSES, planted[REFUSES])  # (3)
        self._decide(REFUSES, refused, release=False)
        ended = self._ended(client, refused)
        self._done(f"{REFUSES}'s people refuse", "refused: OWNER_REFUSED", _outcome(ended))
        asked = self._asked(client, view, RELEASES, planted[RELEASES])
        self._decide(RELEASES, asked, release=True)
        released = self._ended(client, asked)
        self._done(f"{RELEASES}'s people release", "released", _outcome(released))
        opened = client.open_disclosure(released.request_id)
        self._done(
            "The force opens what was sealed to it",
            ", ".join(FIELDS),
            _names(opened),
            caveats=len(opened.details.caveats),
            delete_by=opened.details.delete_by.isoformat(),
            onward_transfer=opened.details.onward_transfer,
        )
        self._proved((refused, released), client)
        return released

    def _proved(self, asked: Sequence[DisclosureView], client: ForceClient) -> None:
        """Verify what proves each request and decision, with the log's public key alone."""
        keys = [VerifierKey.parse(self._place.vkey(BROKER, "search").read_text().strip())]
        proofs = []
        for one in asked:
            received = client.disclosure(one.request_id).received
            for receipt in (received.receipt, received.decision_receipt):
                if receipt is not None:
                    verify_receipt(receipt.proof.decode(), keys, receipt.leaf)
                    proofs.append(receipt.proof.decode())
        self._done(
            "Requests and decisions are proved offline", "4", str(len(proofs)), receipts=proofs
        )

    def _exported(self, client: ForceClient, released: DisclosureView) -> None:
        """Export what was released, first without and then with other evidence (4)."""
        path = self._place.root / "exports" / "lead.json"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        export = lambda: client.export(released.request_id, path)  # noqa: E731 - used twice
        self._done(
            "An export without other evidence",
            Reason.CORROBORATION_MISSING.name,
            _reason_of(export),
        )
        request = released.request
        client.corroborate(
            request.search_id,
            request.agency,
            request.reference,
            kind=CorroborationKind.FINGERPRINTS,
            case_material="Exhibit NS/14, marks from the counter",
            person=client.officers.person(OFFICER, option="person"),
            person_token=client.issue_token(OFFICER, Part.OFFICER),
        )
        self._done("The export, once evidence is recorded", "done", _reason_of(export))

    def _recalled(self, client: ForceClient, released: DisclosureView) -> None:
        """Let the owner recall the record; the force stops and says so (5)."""
        with self._operator(RELEASES) as operator:
            self._recalled_by(RecallDesk.of(operator), client, released)

    def _recalled_by(self, desk: RecallDesk, client: ForceClient, released: DisclosureView) -> None:
        notice = "The record is of another person: two people's images were exchanged."
        _run(
            desk.order(
                reference=released.request.reference,
                reason=RecallReason.WRONG_RECORD,
                notice=notice,
                person="records-office",
            )
        )
        recall = _wait_for(
            lambda: next(
                (
                    one
                    for one in client.recalls()
                    if one.recall.reference == released.request.reference
                ),
                None,
            )
        )
        self._done("The owner recalls the record", "wrong_record", recall.recall.reason.value)
        self._done(
            "The force reads the details again",
            Reason.STOP_USE.name,
            _reason_of(lambda: client.open_disclosure(released.request_id)),
        )
        client.acknowledge_recall(
            recall.recall.recall_id,
            person=client.officers.person(AUTHORISER, option="person"),
            person_token=client.issue_token(AUTHORISER, Part.OFFICER),
            action="Taken out of the case; nobody else had it.",
        )
        acknowledged = _wait_for(
            lambda: [
                one
                for one in desk.recalls.all()
                if one.recall_id == recall.recall.recall_id and one.acknowledgements
            ]
        )
        self._done("The owner hears that it is used no more", "1", str(len(acknowledged)))

    def _judged(self, search_id: str) -> None:
        """Read the logs as somebody who has nothing else."""
        time.sleep(1.0)  # what was recorded last is published in this time
        logs = {one: self._place.logs(one) / "search" for one in (RELEASES, REFUSES)}
        broker = self._place.logs(BROKER) / "search"
        traced = trace(search_id, broker, logs)
        self._done(
            "The logs: reviewed, then asked for, then decided",
            "in order",
            "in order" if traced.in_order else "not in order",
            requests=[one.model_dump() for one in traced.requests],
        )
        found = reconcile_releases(broker, logs, timedelta())
        self._done("The broker's log and the owners' agree", "0 findings", f"{len(found)} findings")

    # --- inside -------------------------------------------------------------------------------

    def _done(self, title: str, expected: str, came: str, **facts: Any) -> None:
        step = Step(title, expected, came, facts)
        self._steps.append(step)
        self._tell(step)

    def _planted(self, searched: DemoResult) -> dict[str, str]:
        """Return by agency the reference of the person who was planted there."""
        mates = self._demo.truth[searched.search.probe]
        planted = {}
        for outcome in searched.view.outcomes:
            records = self._demo.records(outcome.agency, searched.view.search_id)
            for one in outcome.candidates:
                if records.get(one.reference) in mates.get(outcome.agency, ()):
                    planted[outcome.agency] = one.reference
        return planted

    def _sits(self, client: ForceClient, view: SearchView, examiner: str) -> str:
        """Let an invented examiner judge every candidate; say how the reviews stand then."""
        person = client.officers.person(examiner, option="reviewer")
        with client.review(
            view.search_id,
            reviewer=person,
            reviewer_token=lambda: client.issue_token(examiner, Part.REVIEWER),
            probe_image=self._place.probes / f"{FIRST.probe}.png",
        ) as sitting:
            self._judge(sitting)
            status = sitting.submit()
        return "open" if status.open else "settled"

    def _judge(self, sitting: BlockingSitting) -> None:
        for candidate in sitting.candidates:
            seen = sitting.look(candidate)
            time.sleep(LOOK_S)
            if seen is None:
                opinion, reasons = Opinion.INCONCLUSIVE, "No image to compare with."
            elif seen.content in self._known:
                opinion, reasons = Opinion.POTENTIAL_CANDIDATE, "Brow, nose and chin agree."
            else:
                opinion, reasons = Opinion.NO_CANDIDATE, "The proportions of the face differ."
            sitting.record(candidate, opinion, reasons=reasons, disconfirming="Light differs.")

    def _asked(
        self, client: ForceClient, view: SearchView, agency: str, reference: str
    ) -> DisclosureView:
        return client.request_disclosure(
            view.search_id,
            agency,
            reference,
            requester=client.officers.person(OFFICER, option="requester"),
            requester_token=client.issue_token(OFFICER, Part.OFFICER),
            facts=FACTS,
            fields=FIELDS,
        )

    def _decide(self, agency: str, asked: DisclosureView, *, release: bool) -> None:
        """Let the owner's people decide, as many as it takes, once they have the request."""
        with self._operator(agency) as operator:
            _decided(ReleaseInbox.of(operator), agency, asked, release=release)

    def _ended(self, client: ForceClient, asked: DisclosureView) -> DisclosureView:
        last = asked
        for view in client.await_disclosure(asked.request_id, PATIENCE_S):
            last = view
        return last

    def _pictures(self, searched: DemoResult) -> frozenset[bytes]:
        """Return the pictures of the person who was planted, in the agencies' own stores."""
        mates = self._demo.truth[searched.search.probe]
        return frozenset(
            (self._place.images(agency) / f"{record}.png").read_bytes()
            for agency in (RELEASES, REFUSES)
            for record in mates.get(agency, ())
        )

    def _operator(self, agency: str) -> closing[Operator]:
        return closing(Operator.open(load_settings(AdapterSettings, self._place.config(agency))))


def _decided(inbox: ReleaseInbox, agency: str, asked: DisclosureView, *, release: bool) -> None:
    waiting = _wait_for(
        lambda: [w for w in _run(inbox.waiting()) if w.request_id == asked.request_id]
    )[0]
    for number in range(waiting.needed if release else 1):
        reviewer = f"{agency}-custodian-{number + 1}"
        if release:
            reasons = "The facts bear the request out."
            deciding = inbox.release(
                asked.request_id, reviewer=reviewer, reasons=reasons, asked=waiting.ask
            )
        else:
            reasons = "The contributor's own inquiry is under way."
            deciding = inbox.refuse(asked.request_id, reviewer=reviewer, reasons=reasons)
        _run(deciding)


def _outcome(view: DisclosureView) -> str:
    return f"{view.state.value}: {view.reason}" if view.reason else view.state.value


def _names(opened: OpenedDisclosure) -> str:
    return ", ".join(one.name for one in opened.details.fields)


def _reason_of(step: Callable[[], object]) -> str:
    """Return the reason a step fails with, or "done"."""
    try:
        step()
    except ProbegateError as error:
        return error.reason.name
    return "done"


def _run(work: Coroutine[Any, Any, _Made]) -> _Made:
    return asyncio.run(work)


def _wait_for(look: Callable[[], _Made | None]) -> _Made:
    """Look again and again for what other processes make.

    Raises:
        ProbegateError: ``DEADLINE_PASSED``.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(_POLL_S)
    raise ProbegateError(Reason.DEADLINE_PASSED, "what was waited for did not come")


def passed(steps: tuple[Step, ...]) -> bool:
    """Whether every step is as it should be."""
    return all(step.as_it_should_be for step in steps)
