"""Promise 1, and 3 with it, against a lying force: it holds its own keys and tells untruths.

At the broker a lie ends before anything is recorded or sent. What the broker cannot see, because
the probe is sealed, ends at the agency: answered, signed, on its log, and never searched.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broker.models import CreateParams
from tests.adapters import Scene, entries, make_world, scene
from tests.brokers import CALLER_S, PERMITTED, Rig, rigged
from tests.world import AUTHORISER, OFFICER, Request, World, template
from trust import dsse
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState
from trust.payload_types import PayloadType
from trust.tokens import Part
from trust.wire import encode_order

Lie = Callable[[Request], CreateParams]


def _told(request: Request, **changes: object) -> CreateParams:
    return replace(request.params(wait_s=CALLER_S), **changes)  # type: ignore[arg-type] # a lie


def _in_anothers_name(request: Request) -> CreateParams:
    order = replace(request, force="southmere").order()
    signer = request.world.folder("northshire").signer()
    envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(order), signer)
    return request.params(wait_s=CALLER_S, envelope=envelope)


def _with_anothers_signature(request: Request) -> CreateParams:
    signer = request.world.folder("southmere").signer()
    envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(request.order()), signer)
    return request.params(wait_s=CALLER_S, envelope=envelope)


def _alone(request: Request) -> CreateParams:
    return replace(request, authoriser=OFFICER).params(wait_s=CALLER_S)


def _promoted(request: Request) -> CreateParams:
    """The order says superintendent, and the identity provider says inspector."""
    grand = replace(request, authoriser=AUTHORISER.model_copy(update={"rank": "superintendent"}))
    return _told(grand, authoriser_token=request.token(AUTHORISER, Part.AUTHORISER))


def _officers_token_twice(request: Request) -> CreateParams:
    return _told(request, authoriser_token=request.token(OFFICER, Part.OFFICER))


def _post_dated(request: Request) -> CreateParams:
    return replace(request, now=request.now + timedelta(minutes=5)).params(wait_s=CALLER_S)


def _one_probe_short(request: Request) -> CreateParams:
    return _told(request, probes=request.params().probes[:1])


LIES: dict[str, tuple[Lie, Reason]] = {
    "in another force's name": (_in_anothers_name, Reason.CHANNEL_ROLE),
    "with another force's signature": (_with_anothers_signature, Reason.KEY_UNKNOWN),
    "officer and authoriser are one": (_alone, Reason.ORDER_INVALID),
    "a rank the token does not give": (_promoted, Reason.OFFICER_TOKEN_INVALID),
    "the officer's token for both": (_officers_token_twice, Reason.OFFICER_TOKEN_INVALID),
    "dated in the future": (_post_dated, Reason.ORDER_STALE),
    "a probe for one agency of several": (_one_probe_short, Reason.SEAL_INVALID),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_lie_the_broker_can_see_is_not_recorded_and_nobody_is_asked(
    world: World, name: str
) -> None:
    lie, reason = LIES[name]
    async with rigged(world) as rig:
        before = rig.broker.logs.search.checkpoint.checkpoint.size
        with pytest.raises(ProbegateError) as raised:
            await _send(rig, lie(Request(world, agencies=PERMITTED)))
        assert raised.value.reason is reason
        assert rig.calls() == 0
        assert rig.broker.logs.search.checkpoint.checkpoint.size == before
        assert await rig.broker.reading.page("northshire", 10, "") == ((), "")


async def test_the_truth_is_searched(world: World) -> None:
    """Without which the lies would prove nothing."""
    async with rigged(world) as rig:
        await _send(rig, Request(world, agencies=PERMITTED).params(wait_s=CALLER_S))
        assert rig.calls() == len(PERMITTED)


async def _send(rig: Rig, params: CreateParams) -> None:
    directory = rig.broker.directories.current
    await rig.broker.create.execute(params, rig.identity(), directory, CALLER_S + 1)


# --- what only the agency can see ------------------------------------------------------------


@pytest.fixture(scope="module")
def scheme(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("scheme"))


@pytest.fixture
async def agency(
    scheme: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    async with scene(scheme, tmp_path, monkeypatch) as made:
        yield made


async def test_another_face_than_was_committed_to_is_not_searched(agency: Scene) -> None:
    report = await agency.honest(
        sealed_template=lambda request: replace(request, probe=template(9))
    )
    assert (report.state, report.reason) == (OutcomeState.REJECTED, Reason.BAD_COMMITMENT.name)
    _recorded_and_not_searched(agency)


async def test_a_probe_sealed_under_another_order_is_not_searched(agency: Scene) -> None:
    """One lawful order cannot lend its probe to another."""
    other = Request(agency.world).sealed("custody", hashlib.sha256(b"another order").digest())
    papers = await agency.papers()
    params = replace(papers.params(), sealed_probe=other.ciphertext)
    await agency.ask(params)
    said = entries(agency.adapter)[-1]
    assert (said["state"], said["reason"]) == ("rejected", Reason.SEAL_INVALID.name)
    _recorded_and_not_searched(agency)


async def test_a_template_that_is_none_is_not_searched(agency: Scene) -> None:
    """Twice the length would double every score."""
    report = await agency.honest(Request(agency.world, probe=template() * 2))
    assert (report.state, report.reason) == (OutcomeState.REJECTED, Reason.PROBE_INVALID.name)
    _recorded_and_not_searched(agency)


def _recorded_and_not_searched(agency: Scene) -> None:
    assert agency.scans.count == 0
    assert [entry["type"] for entry in entries(agency.adapter)] == ["match.report"]
