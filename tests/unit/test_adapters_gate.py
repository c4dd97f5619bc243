"""Every rule of the gate, attacked at the command with real keys, logs and proofs."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from agency_adapters import checks
from agency_adapters.agency import DutyRule, onward_at_most
from agency_adapters.checks import Admitted
from agency_adapters.custody import CUSTODY
from agency_adapters.models import MatchAnswer
from agency_adapters.serve import Adapter
from agency_adapters.tables import candidates
from audit.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from audit.embedded import open_embedded, search_log_keys
from audit.merkle import leaf_hash, verify_inclusion
from audit.notes import VerifierKey, note_signer
from audit.witness import ConsistencyProof
from tests.unit.adapters_kit import MATE, BrokerSide, adapter_settings, entries, make_world
from tests.world import Request, World, template
from trust import dsse
from trust.directory import KeyUse
from trust.errors import ProbegateError, Reason
from trust.messages import (
    HIT_ONLY,
    Encoding,
    MatchReport,
    OutcomeState,
    SearchLimits,
)
from trust.payload_types import PayloadType
from trust.wire import decode_report

FALSE_PROOF = (ConsistencyProof(1, 2, (b"\0" * 32,)),)


@dataclass
class Bench:
    world: World
    root: Path
    adapter: Adapter
    broker: BrokerSide

    async def answer(self, request: Request, **lies: Any) -> MatchReport:
        papers = await self.broker.papers(self.adapter, request, **lies)
        return self.report(await self.adapter.command.execute(papers.params(), self.broker.member))

    async def refusal(self, request: Request, changes: dict[str, Any], **lies: Any) -> Reason:
        papers = await self.broker.papers(self.adapter, request, **lies)
        with pytest.raises(ProbegateError) as raised:
            await self.adapter.command.execute(papers.params(**changes), self.broker.member)
        last = entries(self.adapter)[-1]
        assert (last["type"], last["reason"]) == ("match.refused", raised.value.reason.name)
        return raised.value.reason

    def report(self, answer: MatchAnswer) -> MatchReport:
        resolve = self.world.directory.resolver("custody", KeyUse.SIGN, datetime.now(UTC))
        dsse.verify(answer.report, PayloadType.MATCH_REPORT, resolve)
        return decode_report(answer.report.payload)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def bench(world: World, tmp_path: Path) -> AsyncIterator[Bench]:
    adapter = await Adapter.open(adapter_settings(world, tmp_path))
    broker = BrokerSide.open(world, tmp_path / "broker")
    yield Bench(world, tmp_path, adapter, broker)
    await broker.logs.close()
    await adapter.close()


async def test_a_lawful_search_is_answered_recorded_and_signed(bench: Bench) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    answer = await bench.adapter.command.execute(papers.params(), bench.broker.member)
    report = bench.report(answer)
    assert report.state is OutcomeState.CANDIDATES
    assert report.search_id == papers.search_id
    assert report.candidates[0].score > 0.8
    assert report.exact
    assert report.gallery_class == "<1k"
    ((_, found),) = bench.adapter.state.resolve(reference=report.candidates[0].reference)
    assert found.record_id == MATE
    leaf = entries(bench.adapter)[answer.agency_leaf_index]
    assert leaf["type"] == "match.report"
    assert leaf["report_sha256"] == hashlib.sha256(answer.report.payload).hexdigest()
    assert leaf["broker_checkpoint"]["size"] == answer.acknowledged.newest_size == 1
    brokers = search_log_keys(bench.world.directory, "broker", datetime.now(UTC))
    shown = open_embedded(leaf["broker_checkpoint"], brokers)
    assert shown.note == papers.dossier.checkpoint
    key = bench.world.directory.current_key("custody", KeyUse.LOG, datetime.now(UTC))
    vkeys = [
        VerifierKey.of(note_signer(k.name or "", lambda _: b"", k.public_bytes))
        for k in bench.world.directory.keys("custody", KeyUse.LOG, datetime.now(UTC))
    ]
    note = open_checkpoint(answer.agency_checkpoint, vkeys).checkpoint
    assert note.size > answer.agency_leaf_index
    assert key.name is not None
    assert b"R000" not in json.dumps(entries(bench.adapter)).encode()


async def test_no_record_near_the_probe_is_no_candidate(bench: Bench) -> None:
    report = await bench.answer(Request(bench.world, probe=template(77)))
    assert report.state is OutcomeState.NO_CANDIDATE
    assert not report.candidates


async def test_1_only_a_broker_may_ask(bench: Bench) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(
            papers.params(), bench.world.directory.member("northshire")
        )
    assert raised.value.reason is Reason.CHANNEL_ROLE


@pytest.mark.parametrize("bytes_", [b"\xff", b"", b"\x98\x06\x01"])
async def test_2_a_dossier_that_does_not_parse_is_refused(bench: Bench, bytes_: bytes) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(
            replace(papers.params(), dossier=bytes_), bench.broker.member
        )
    assert raised.value.reason in {Reason.GRANT_INVALID, Reason.ENVELOPE_INVALID}
    assert entries(bench.adapter)[-1]["type"] == "match.refused"


async def test_2_a_grant_signed_by_another_is_refused(bench: Bench) -> None:
    other = bench.world.folder("southmere").signer()
    assert await bench.refusal(Request(bench.world), {}, signer=other) is Reason.KEY_UNKNOWN


async def test_2_a_tampered_grant_is_refused(bench: Bench) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    grant = papers.dossier.grant
    changed = replace(grant, payload=grant.payload + b"\x0a\x00")
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(papers.params(grant=changed), bench.broker.member)
    assert raised.value.reason is Reason.ENVELOPE_TAMPERED


async def test_2_nothing_is_believed_under_an_expired_directory(bench: Bench) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    later = datetime.now(UTC) + timedelta(days=31)
    command = replace(bench.adapter.command, clock=lambda: later)
    with pytest.raises(ProbegateError) as raised:
        await command.execute(papers.params(), bench.broker.member)
    assert raised.value.reason is Reason.DIRECTORY_EXPIRED


async def test_3_an_order_the_broker_made_up_is_refused(bench: Bench) -> None:
    request = Request(bench.world)
    forged = dsse.sign(PayloadType.SEARCH_ORDER, request.envelope().payload, bench.broker.signer)
    assert await bench.refusal(request, {"order": forged}) is Reason.KEY_UNKNOWN


async def test_3_an_order_signed_by_another_force_is_refused(bench: Bench) -> None:
    request = Request(bench.world)
    other = bench.world.folder("southmere").signer()
    forged = dsse.sign(PayloadType.SEARCH_ORDER, request.envelope().payload, other)
    assert await bench.refusal(request, {"order": forged}) is Reason.ORDER_INVALID


async def test_4_a_grant_for_another_order_is_refused(bench: Bench) -> None:
    other = Request(bench.world).envelope()
    assert await bench.refusal(Request(bench.world), {"order": other}) is Reason.GRANT_INVALID


@pytest.mark.parametrize(
    ("issued", "lifetime"),
    [(-61, 60), (0, 61), (31, 60), (0, 0)],
    ids=["expired", "long-lived", "from-the-future", "never-valid"],
)
async def test_5_a_grant_out_of_its_time_is_refused(
    bench: Bench, issued: int, lifetime: int
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=issued)
    changes = {"issued_at": at, "expires_at": at + timedelta(seconds=lifetime)}
    reason = await bench.refusal(Request(bench.world), {}, grant_changes=changes)
    assert reason is Reason.GRANT_EXPIRED


@pytest.mark.parametrize(("starts", "lasts"), [(-60, 59), (60, 300)])
async def test_5_an_order_out_of_its_time_is_refused(bench: Bench, starts: int, lasts: int) -> None:
    at = datetime.now(UTC) + timedelta(seconds=starts)
    request = Request(bench.world, now=at, lifetime=timedelta(seconds=lasts))
    assert await bench.refusal(request, {}) is Reason.ORDER_STALE


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "search.result"},
        {"v": 2},
        {"search_id": "00000000-0000-0000-0000-000000000000"},
        {"force": "southmere"},
        {"order_sha256": "00" * 32},
        {"policy_sha256": "00" * 32},
        {"decisions": []},
        {"decisions": "custody"},
        {"decisions": [{"agency": "custody", "permitted": True, "agreement_sha256": "00" * 32}]},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_6_an_entry_that_says_otherwise_is_refused(
    bench: Bench, changes: dict[str, Any]
) -> None:
    reason = await bench.refusal(Request(bench.world), {}, leaf_changes=changes)
    assert reason is Reason.LOG_PROOF_INVALID


async def test_6_an_entry_that_denies_us_is_refused(bench: Bench) -> None:
    reason = await bench.refusal(Request(bench.world), {}, permitted=False)
    assert reason is Reason.LOG_PROOF_INVALID


async def test_6_another_entry_than_the_grants_is_refused(bench: Bench) -> None:
    reason = await bench.refusal(Request(bench.world), {"leaf": b"{}"})
    assert reason is Reason.GRANT_INVALID


async def test_7_an_entry_without_its_proof_is_refused(bench: Bench) -> None:
    await bench.answer(Request(bench.world))
    for changes in ({"inclusion": ()}, {"leaf_index": 0}, {"inclusion": (b"\0" * 32,)}):
        reason = await bench.refusal(Request(bench.world), changes)
        assert reason is Reason.LOG_PROOF_INVALID


async def test_7_a_checkpoint_of_the_admin_log_is_refused(bench: Bench) -> None:
    await bench.broker.logs.record("anything", datetime.now(UTC))
    note = bench.broker.logs.admin.checkpoint.note
    reason = await bench.refusal(Request(bench.world), {"checkpoint": note})
    assert reason is Reason.CHECKPOINT_INVALID


async def test_8_a_second_history_stops_searching(bench: Bench) -> None:
    await bench.answer(Request(bench.world))
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    log = bench.broker.logs.search.checkpoint.checkpoint
    folder = bench.world.folder("broker").log_search_signer()
    signer = note_signer(log.origin, folder.sign, folder.public_key)
    leaf = papers.dossier.leaf
    fork = sign_checkpoint(Checkpoint(log.origin, 1, leaf_hash(leaf)), signer)
    verify_inclusion(0, 1, leaf_hash(leaf), (), fork.checkpoint.root)
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(
            papers.params(leaf_index=0, inclusion=(), checkpoint=fork.note), bench.broker.member
        )
    assert raised.value.reason is Reason.CHECKPOINT_INCONSISTENT
    assert await bench.refusal(Request(bench.world), {}) is Reason.CHECKPOINT_INCONSISTENT


async def test_8_a_checkpoint_with_a_false_consistency_proof_is_refused(bench: Bench) -> None:
    await bench.answer(Request(bench.world))
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    params = replace(papers.params(), consistency=FALSE_PROOF)
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(params, bench.broker.member)
    assert raised.value.reason is Reason.CHECKPOINT_INCONSISTENT


async def test_9_the_same_grant_again_gets_the_same_answer(bench: Bench) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    first = await bench.adapter.command.execute(papers.params(), bench.broker.member)
    again = await bench.adapter.command.execute(papers.params(), bench.broker.member)
    assert again.report == first.report
    assert again.agency_leaf_index == first.agency_leaf_index
    assert [e["type"] for e in entries(bench.adapter)] == ["match.report"]


async def test_9_an_order_under_another_grant_is_a_replay_even_after_a_restart(
    bench: Bench,
) -> None:
    request = Request(bench.world)
    await bench.answer(request)
    assert await bench.refusal(request, {}) is Reason.ORDER_REPLAYED
    await bench.adapter.close()
    bench.adapter = await Adapter.open(adapter_settings(bench.world, bench.root))
    assert await bench.refusal(request, {}) is Reason.ORDER_REPLAYED


async def test_16_what_nobody_foresaw_is_on_the_record_too(bench: Bench) -> None:
    """The gallery was searched by then, and nothing else would say so."""
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    taken = {
        "reference": bench.adapter.command.references.reference(papers.search_id, MATE),
        "search_id": str(uuid.uuid4()),
        "record_id": MATE,
        "rank": 1,
        "score": 1.0,
    }
    with bench.adapter.state.engine.begin() as connection:
        connection.execute(insert(candidates), taken)
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(papers.params(), bench.broker.member)
    assert raised.value.reason is Reason.UNEXPECTED
    (entry,) = entries(bench.adapter)
    assert (entry["type"], entry["reason"]) == ("match.refused", "UNEXPECTED")
    assert entry["order_sha256"] == papers.order_sha256.hex()


async def test_8_the_witness_survives_a_restart(bench: Bench) -> None:
    await bench.answer(Request(bench.world))
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    await bench.adapter.close()
    bench.adapter = await Adapter.open(adapter_settings(bench.world, bench.root))
    _, acknowledged = bench.adapter.command.describe(bench.broker.member)
    assert acknowledged.newest_size == 1
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(
            replace(papers.params(), consistency=FALSE_PROOF), bench.broker.member
        )
    assert raised.value.reason is Reason.CHECKPOINT_INCONSISTENT


async def test_10_an_order_that_does_not_ask_us_is_refused(bench: Bench) -> None:
    request = Request(bench.world)
    elsewhere = request.order().model_copy(update={"agencies": ("pnd",)})
    reason = await bench.refusal(_Fixed(bench.world, order_override=elsewhere), {})
    assert reason is Reason.GRANT_INVALID


@dataclass(slots=True)
class _Fixed(Request):
    """A request whose order is given."""

    order_override: Any = None

    def order(self) -> Any:
        return self.order_override


async def test_11_what_our_own_agreements_deny_is_denied_and_signed(bench: Bench) -> None:
    request = Request(bench.world, justification={"purpose": "civil_penalty"})
    report = await bench.answer(request)
    assert report.state is OutcomeState.DENIED
    assert report.reason == "CLAUSES_FAILED"
    assert "custody.purpose" in report.failed_clauses
    assert entries(bench.adapter)[-1]["state"] == "denied"


async def test_11_the_stricter_duties_are_kept(bench: Bench) -> None:
    granted = {"hit_no_hit": True}
    hit = await bench.answer(Request(bench.world), obligations=granted)
    assert (hit.state, hit.reason, hit.candidates) == (OutcomeState.CANDIDATES, HIT_ONLY, ())
    held = await bench.answer(Request(bench.world), obligations={"release_by_human": True})
    assert (held.state, held.candidates) == (OutcomeState.HELD, ())
    assert bench.adapter.state.resolve(search_id=held.search_id)[0][1].record_id == MATE
    strict = await bench.answer(Request(bench.world, limits=SearchLimits(min_score=0.999)))
    assert strict.state is OutcomeState.NO_CANDIDATE
    assert strict.threshold == 0.999
    lax = await bench.answer(
        Request(bench.world, limits=SearchLimits(max_candidates=100, min_score=-1.0)),
        obligations={"max_candidates": 100, "min_score": -1.0},
    )
    own = bench.adapter.policies.current.bundle.agreements[0].file.agreement.obligations
    assert len(lax.candidates) <= own.max_candidates
    assert lax.threshold == own.min_score


async def test_12_a_probe_sealed_for_another_order_is_rejected(bench: Bench) -> None:
    other = Request(bench.world).envelope()
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    sealed = Request(bench.world).sealed("custody", hashlib.sha256(other.payload).digest())
    papers.sealed_probe = sealed.ciphertext
    report = bench.report(await bench.adapter.command.execute(papers.params(), bench.broker.member))
    assert (report.state, report.reason) == (OutcomeState.REJECTED, "SEAL_INVALID")


async def test_12_a_key_that_is_not_ours_is_rejected(bench: Bench) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    papers.sealed_key_id = "0" * 16
    report = bench.report(await bench.adapter.command.execute(papers.params(), bench.broker.member))
    assert (report.state, report.reason) == (OutcomeState.REJECTED, "SEAL_INVALID")


async def test_13_another_probe_than_was_committed_to_is_rejected(bench: Bench) -> None:
    report = await bench.answer(
        Request(bench.world),
        sealed_template=lambda request: replace(request, probe=template(9)),
    )
    assert (report.state, report.reason) == (OutcomeState.REJECTED, "BAD_COMMITMENT")


@pytest.mark.parametrize(
    ("probe", "manifest", "reason"),
    [
        (np.zeros(512, "<f4"), {}, "PROBE_INVALID"),
        (np.full(512, np.nan, "<f4"), {}, "PROBE_INVALID"),
        (template() * np.float32(2), {}, "PROBE_INVALID"),
        (template(), {"encoding": Encoding.FLOAT16}, "PROBE_INVALID"),
        (template(dims=256), {}, "PROBE_MODEL"),
        (template(), {"dims": 256}, "PROBE_MODEL"),
    ],
)
async def test_14_an_unusable_template_is_rejected(
    bench: Bench, probe: np.ndarray, manifest: dict[str, Any], reason: str
) -> None:
    report = await bench.answer(Request(bench.world, probe=probe, manifest=manifest))
    assert (report.state, report.reason) == (OutcomeState.REJECTED, reason)


async def test_15_the_probe_is_wiped_after_the_match(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[np.ndarray] = []
    real = checks.open_probe

    def watched(admitted: Admitted, **given: Any) -> np.ndarray:
        opened.append(real(admitted, **given))
        assert opened[0].any()
        return opened[0]

    monkeypatch.setattr(checks, "open_probe", watched)
    await bench.answer(Request(bench.world))
    assert not opened[0].any()


async def test_16_without_a_log_nothing_is_answered(bench: Bench) -> None:
    papers = await bench.broker.papers(bench.adapter, Request(bench.world))
    await bench.adapter.logs.search.close()
    with pytest.raises(ProbegateError) as raised:
        await bench.adapter.command.execute(papers.params(), bench.broker.member)
    assert raised.value.reason is Reason.LOG_UNAVAILABLE
    assert bench.adapter.state.resolve(search_id=papers.search_id) == ()


async def test_references_of_two_searches_cannot_be_linked(bench: Bench) -> None:
    reports = [await bench.answer(Request(bench.world)) for _ in range(3)]
    references = {report.candidates[0].reference for report in reports}
    assert len(references) == 3
    records = {bench.adapter.state.resolve(reference=one)[0][1].record_id for one in references}
    assert records == {MATE}


async def test_an_agreement_that_asks_too_little_of_the_recipient_is_not_answered_under(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("within_prosecution", "prohibited")  # the first is what custody's agreement says
    for said, denied in zip(words, (False, True), strict=True):
        rule = DutyRule("custody.onward", "-", onward_at_most(said))
        kind = replace(CUSTODY, duties=(rule,))
        monkeypatch.setattr("agency_adapters.command.kind_named", lambda _name, kind=kind: kind)
        report = await bench.answer(Request(bench.world))
        if denied:
            assert (report.state, report.reason) == (OutcomeState.DENIED, "POLICY_DENIED")
            assert report.failed_clauses == ("custody.onward",)
        else:
            assert report.state is OutcomeState.CANDIDATES
