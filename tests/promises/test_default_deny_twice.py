"""Promise 3: default deny, twice. Broker and agency decide for themselves; the stricter stands.

A real broker and the real custody adapter, over mTLS, each with a bundle of its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agency_adapters.serve import Adapter
from broker.models import SealedProbe, SearchView
from policy.facts import facts_of_order
from policy.standing import assume_nothing_on_record
from policy.store import BundleStore
from tests.adapters import Scans, entries, make_world
from tests.brokers import PERMITTED, Rig, outcomes, rigged
from tests.unit.adapters_kit import adapter_settings
from tests.world import OFFICER, Request, World, template
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import HIT_ONLY, MatchReport, OutcomeState, SearchLimits
from trust.payload_types import PayloadType
from trust.wire import decode_report

CLAUSE = """
  - id: custody.murder-only
    citation: "The agency's own later view"
    attribute: offence_code
    operator: in
    value: [murder]
"""
ANSWERED_FIRST = """
answered_first:
  - id: custody.pnd-first
    citation: "The agency's own later view"
    agencies: [pnd]
    within_days: 7
"""
OWN_WORDS = """
  - id: custody.many-words
    citation: "The agency's own later view"
    attribute: necessity_words
    operator: ge
    value: 500
"""
Edit = Callable[[str], str]


def with_clause(text: str) -> str:
    return text.replace("\nclauses:\n", f"\nclauses:{CLAUSE}", 1)


def with_quota_of_one(text: str) -> str:
    return re.sub(r"most: \d+", "most: 1", text, count=1)


def with_prior_answer(text: str) -> str:
    return text + ANSWERED_FIRST


def with_own_words(text: str) -> str:
    return text.replace("\nclauses:\n", f"\nclauses:{OWN_WORDS}", 1)


def expired(text: str) -> str:
    return text.replace("{from: 2026-01-01, to: 2030-12-31}", "{from: 2026-01-01, to: 2026-06-30}")


def duty(name: str, value: object) -> Edit:
    def edit(text: str) -> str:
        lines = [
            f"  {name}: {json.dumps(value)}" if line.startswith(f"  {name}:") else line
            for line in text.splitlines()
        ]
        return "\n".join(lines) + "\n"

    return edit


@dataclass(slots=True)
class Two:
    """A broker and an agency that need not agree."""

    rig: Rig
    adapter: Adapter
    scans: Scans

    async def search(self, **changes: Any) -> SearchView:
        return await self.rig.search(("custody",), **changes)

    def report(self, view: SearchView) -> MatchReport:
        """Return the agency's own signed word."""
        (answer,) = view.record.answers
        assert answer.report is not None
        keys = self.rig.world.directory.resolver("custody", KeyUse.SIGN, datetime.now(UTC))
        dsse.verify(answer.report, PayloadType.MATCH_REPORT, keys)
        return decode_report(answer.report.payload)


def edited(world: World, root: Path, edit: Edit, name: str = "edited", **bundle: Any) -> Path:
    """Sign a bundle of edited agreements and return its path."""
    folder = root / name
    shutil.copytree(world.root / "agreements", folder)
    file = folder / "custody" / "custody.yaml"
    text = file.read_text()
    changed = edit(text)
    assert changed != text or bundle
    file.write_text(changed)
    path = root / f"{name}.json"
    given: dict[str, Any] = {"version": 2, "path": path} | bundle
    world.sign_bundle(folder, **given)
    return path


@asynccontextmanager
async def two(
    world: World,
    root: Path,
    patch: pytest.MonkeyPatch,
    *,
    brokers: Path | None = None,
    agencys: Path | None = None,
) -> AsyncIterator[Two]:
    """Open both, each with a bundle of its own where one is given."""
    state: dict[str, Any] = {
        "state_dir": root / "broker" / "state",
        "logs_dir": root / "broker" / "logs",
        "bundle": brokers or world.bundle,
    }
    settings = adapter_settings(
        world, root, bundle=agencys or world.bundle, listen=f"127.0.0.1:{world.ports['custody']}"
    )
    adapter = await Adapter.open(settings)
    server = await adapter.listen()
    try:
        async with rigged(world, serving=(), **state) as rig:
            yield Two(rig, adapter, Scans.watched(patch))
    finally:
        await server.stop(0)
        await adapter.close()


@pytest.fixture(scope="module")
def scheme(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("scheme"))


# --- the agency denies what the broker permits -----------------------------------------------


async def test_where_both_permit_it_is_searched(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(scheme, tmp_path, monkeypatch) as both:
        view = await both.search()
        assert both.report(view).state is OutcomeState.CANDIDATES
        assert both.scans.count == 1


@pytest.mark.parametrize(
    ("edit", "signers", "code", "failed"),
    [
        (with_clause, None, "CLAUSES_FAILED", ("custody.murder-only",)),
        (with_prior_answer, None, "CLAUSES_FAILED", ("custody.pnd-first",)),
        (with_own_words, None, "CLAUSES_FAILED", ("custody.many-words",)),
        (expired, None, "AGREEMENT_EXPIRED", ("core.in-force",)),
        (str, ("southmere", "custody"), "NO_AGREEMENT", ()),
    ],
    ids=[
        "a clause more",
        "a prior answer",
        "a clause on the reasons",
        "an expired agreement",
        "no agreement with this force",
    ],
)
async def test_what_only_the_agency_denies_is_denied_and_signed_by_it(
    scheme: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: Edit,
    signers: tuple[str, ...] | None,
    code: str,
    failed: tuple[str, ...],
) -> None:
    stricter = edited(scheme, tmp_path, edit, signers=signers)
    async with two(scheme, tmp_path, monkeypatch, agencys=stricter) as both:
        view = await both.search()
        (decision,) = view.record.decisions
        assert decision.permitted
        one = outcomes(view)["custody"]
        assert (one.state, one.reason, one.decided_by) == (OutcomeState.DENIED, code, "agency")
        assert set(failed) <= set(one.failed_clauses)
        report = both.report(view)
        assert (report.state, report.reason) == (OutcomeState.DENIED, code)
        assert report.failed_clauses == one.failed_clauses
        assert report.policy_sha256 == both.adapter.policies.current.bundle.sha256
        assert report.candidates == ()
        assert both.scans.count == 0
        (entry,) = entries(both.adapter)
        assert (entry["type"], entry["state"]) == ("match.report", "denied")
        assert both.rig.result(view).complete  # a denial is an answer


async def test_the_agencys_denial_outlives_a_new_try_and_a_newer_bundle_takes_over(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clause added while both run: from then on it is denied, without a restart."""
    own = tmp_path / "own.json"
    shutil.copy(scheme.bundle, own)
    async with two(scheme, tmp_path, monkeypatch, agencys=own) as both:
        assert both.report(await both.search()).state is OutcomeState.CANDIDATES
        edited(scheme, tmp_path, with_clause, path=own)
        await both.adapter.refresh_bundle()
        for _ in range(2):
            assert both.report(await both.search()).failed_clauses == ("custody.murder-only",)
        shutil.copy(scheme.bundle, own)  # version 1 again
        with pytest.raises(ProbegateError) as raised:
            await both.adapter.refresh_bundle()
        assert raised.value.reason is Reason.BUNDLE_ROLLBACK
        assert both.report(await both.search()).failed_clauses == ("custody.murder-only",)
        assert both.scans.count == 1


async def test_a_quota_is_kept_by_each_whatever_the_other_has(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that goes on granting past the agency's quota gets signed refusals that name it."""
    one_a_day = edited(scheme, tmp_path, with_quota_of_one)
    async with two(scheme, tmp_path, monkeypatch, agencys=one_a_day) as both:
        assert both.report(await both.search()).state is OutcomeState.CANDIDATES
        for _ in range(3):
            view = await both.search()
            assert view.record.decisions[0].permitted
            assert both.report(view).failed_clauses == ("custody.quota-officer-day",)
        assert both.scans.count == 1
    async with two(scheme, tmp_path / "other", monkeypatch, brokers=one_a_day) as both:
        assert both.report(await both.search()).state is OutcomeState.CANDIDATES
        view = await both.search()
        one = outcomes(view)["custody"]
        assert (one.decided_by, one.failed_clauses) == ("broker", ("custody.quota-officer-day",))
        assert len(entries(both.adapter)) == 1


async def test_an_agencys_kill_switch_needs_nobody_else(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(scheme, tmp_path, monkeypatch) as both:
        both.adapter.ledger.switched("purpose:crime_investigation", off=True)
        view = await both.search()
        assert view.record.decisions[0].permitted
        assert both.report(view).failed_clauses == ("core.not-switched-off",)
        assert both.scans.count == 0


# --- the broker denies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "signers", "code", "failed"),
    [
        (with_clause, None, "CLAUSES_FAILED", ("custody.murder-only",)),
        (with_prior_answer, None, "CLAUSES_FAILED", ("custody.pnd-first",)),
        (with_own_words, None, "CLAUSES_FAILED", ("custody.many-words",)),
        (expired, None, "AGREEMENT_EXPIRED", ("core.in-force",)),
        (str, ("southmere", "custody"), "NO_AGREEMENT", ()),
    ],
    ids=[
        "a clause more",
        "a prior answer",
        "a clause on the reasons",
        "an expired agreement",
        "the force never signed",
    ],
)
async def test_what_only_the_broker_denies_never_reaches_the_agency(
    scheme: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: Edit,
    signers: tuple[str, ...] | None,
    code: str,
    failed: tuple[str, ...],
) -> None:
    stricter = edited(scheme, tmp_path, edit, signers=signers)
    async with two(scheme, tmp_path, monkeypatch, brokers=stricter) as both:
        view = await both.search()
        one = outcomes(view)["custody"]
        assert (one.state, one.reason, one.decided_by) == (OutcomeState.DENIED, code, "broker")
        assert set(failed) <= set(one.failed_clauses)
        assert view.record.answers[0].report is None
        assert entries(both.adapter) == []
        log = both.rig.broker.logs.search
        said = json.loads(log.leaf(0))
        assert said["type"] == "search.order"  # a denied search is on the record like any other
        assert said["decisions"][0]["permitted"] is False
        assert said["decisions"][0]["failed"] == list(one.failed_clauses)


@pytest.mark.parametrize(
    ("changes", "clauses"),
    [
        ({"justification": {"purpose": "curiosity"}}, {"core.known-codes", "custody.purpose"}),
        ({"justification": {"purpose": "civil_penalty"}}, {"custody.purpose"}),
        ({"justification": {"necessity": ""}}, {"core.strictly-necessary"}),
        ({"justification": {"necessity": "  \n"}}, {"core.strictly-necessary"}),
        ({"justification": {"legal_basis": "because"}}, {"core.known-codes"}),
        ({"justification": {"subject_category": "witness"}}, {"custody.subject"}),
        ({"manifest": {"source": "live_camera"}}, {"custody.probe-source"}),
        ({"manifest": {"edits": ("generative",)}}, {"custody.probe-edits"}),
        ({"manifest": {"quality": 0}}, {"custody.probe-quality"}),
        (
            {"officer": OFFICER.model_copy(update={"accreditation_expires": None})},
            {"core.accreditation-current"},
        ),
    ],
)
async def test_what_is_unknown_or_missing_is_denied_by_name_and_asked_of_nobody(
    world: World, changes: Mapping[str, Any], clauses: set[str]
) -> None:
    async with rigged(world) as rig:
        view = await rig.search(**changes)
        for agency, one in outcomes(view).items():
            if agency == "custody" or clauses <= set(one.failed_clauses):
                assert (one.state, one.decided_by) == (OutcomeState.DENIED, "broker")
        custody = outcomes(view)["custody"]
        assert clauses <= set(custody.failed_clauses)
        assert rig.peers["custody"].calls == 0
        denied = {name for name, one in outcomes(view).items() if one.state is OutcomeState.DENIED}
        assert {name for name, peer in rig.peers.items() if peer.calls} == set(PERMITTED) - denied
        previewed = await rig.broker.preview.execute(
            Request(world, agencies=PERMITTED, **changes).order(), rig.identity(), world.directory
        )
        assert {one.agency for one in previewed.ruling.decisions if not one.permitted} == denied


async def test_an_agency_nobody_knows_is_refused_before_anything_is_recorded(world: World) -> None:
    async with rigged(world) as rig:
        request = Request(world, agencies=("custody",))
        for stranger in ("dvla", "southmere", "broker"):
            order = request.order().model_copy(update={"agencies": ("custody", stranger)})
            with pytest.raises(ProbegateError) as raised:
                await rig.broker.preview.execute(order, rig.identity(), world.directory)
            assert raised.value.reason is Reason.AGENCY_UNKNOWN
        params = _StrangeRequest(world, agencies=("custody", "dvla")).params()
        with pytest.raises(ProbegateError) as raised:
            await rig.broker.create.execute(params, rig.identity(), world.directory, 10)
        assert raised.value.reason is Reason.AGENCY_UNKNOWN
        assert rig.calls() == 0
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 0


class _StrangeRequest(Request):
    """Seals to the custody agency in another's name too."""

    def sealed(self, agency: str, order_sha256: bytes) -> SealedProbe:
        return replace(Request.sealed(self, "custody", order_sha256), agency=agency)


def test_a_bundle_that_its_agency_did_not_sign_is_refused_whole(
    scheme: World, tmp_path: Path
) -> None:
    unsigned = edited(scheme, tmp_path, str, signers=("northshire", "southmere"))
    store = BundleStore(unsigned, tmp_path / "floor.json")
    with pytest.raises(ProbegateError) as raised:
        store.load(scheme.directory, datetime.now(UTC))
    assert raised.value.reason is Reason.BUNDLE_INVALID


def test_past_the_bundles_own_end_everything_is_denied(scheme: World, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    policy = BundleStore(scheme.bundle, tmp_path / "floor.json").load(scheme.directory, now)
    nothing = assume_nothing_on_record(["custody"])
    facts = facts_of_order(Request(scheme).order(), sealed=True, standing=nothing)
    assert policy.decide(facts, "custody", now).permitted
    assert not policy.decide(facts, "custody", now + timedelta(days=31)).permitted


# --- obligations: the stricter of the two ----------------------------------------------------


def lax(text: str) -> str:
    """Let everything in the gallery through, ten at most."""
    return duty("min_score", -1.0)(text)


def strict(name: str, value: object) -> Edit:
    def edit(text: str) -> str:
        silent = duty("images", "never")(duty("fields", [])(text)) if name == "hit_no_hit" else text
        return duty(name, value)(lax(silent))

    return edit


@pytest.mark.parametrize("side", ["brokers", "agencys"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("max_candidates", 3), ("min_score", 0.95), ("hit_no_hit", True), ("release_by_human", True)],
)
async def test_the_stricter_duty_stands_whoever_has_it(
    scheme: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
    name: str,
    value: object,
) -> None:
    generous = edited(scheme, tmp_path, lax, "lax")
    bundles: dict[str, Any] = {"brokers": generous, "agencys": generous}
    bundles[side] = edited(scheme, tmp_path, strict(name, value), "strict")
    async with two(scheme, tmp_path, monkeypatch, **bundles) as both:
        everything = SearchLimits(max_candidates=100, min_score=-1.0)
        report = both.report(await both.search(limits=everything))
        count = {"max_candidates": 3}.get(name, 0)
        assert len(report.candidates) == count
        assert report.threshold == (0.95 if name == "min_score" else -1.0)
        assert (report.state, report.reason) == {
            "max_candidates": (OutcomeState.CANDIDATES, ""),
            "min_score": (OutcomeState.NO_CANDIDATE, ""),
            "hit_no_hit": (OutcomeState.CANDIDATES, HIT_ONLY),
            "release_by_human": (OutcomeState.HELD, "TO_BE_RELEASED"),
        }[name]


async def test_where_neither_is_strict_all_that_is_agreed_comes_back(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = edited(scheme, tmp_path, lax)
    async with two(scheme, tmp_path, monkeypatch, brokers=bundle, agencys=bundle) as both:
        everything = SearchLimits(max_candidates=100, min_score=-1.0)
        assert len(both.report(await both.search(limits=everything)).candidates) == 10


async def test_what_the_force_asks_for_only_ever_narrows(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(scheme, tmp_path, monkeypatch) as both:
        wide = both.report(await both.search(limits=SearchLimits(max_candidates=100)))
        assert wide.threshold == 0.42  # the agreement's own floor
        low = both.report(await both.search(limits=SearchLimits(min_score=-1.0)))
        assert low.threshold == 0.42
        high = both.report(await both.search(limits=SearchLimits(min_score=0.99)))
        assert high.threshold == 0.99
        nobody = both.report(await both.search(probe=template(99)))
        assert nobody.state is OutcomeState.NO_CANDIDATE
