"""Each rule of admission, broken one at a time; nothing that is refused is recorded or sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.admission import admit, open_order, require_fresh
from broker.models import CreateParams
from broker.settings import MAX_ORDER_BYTES, MAX_SEALED_PROBE_BYTES, MAX_TOKEN_CHARS
from tests.brokers import PERMITTED, rigged
from tests.world import AUTHORISER, OFFICER, Request, World, copied_examples
from trust import dsse
from trust.directory import Directory
from trust.errors import ProbegateError, Reason
from trust.mtls import PeerIdentity
from trust.payload_types import PayloadType
from trust.tokens import Part, TokenCache
from trust.wire import encode_order

NOW = datetime.now(UTC)
SKEW = timedelta(seconds=30)
Change = Callable[[CreateParams], CreateParams]


@pytest.fixture(scope="module")
def scheme(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("scheme")
    return World.make(root, agreements=copied_examples(root / "agreements"))


def identity(world: World, force: str = "northshire") -> PeerIdentity:
    member = world.directory.member(force)
    return PeerIdentity(member, member.spiffe_id, world.folder(force).certificate_sha256())


def admitted(
    world: World,
    params: CreateParams,
    *,
    force: str = "northshire",
    at: datetime | None = None,
    directory: Directory | None = None,
) -> object:
    """Apply every rule, as the command does."""
    now = at or datetime.now(UTC)
    peer, known = identity(world, force), directory or world.directory
    order = open_order(params, peer, known, now)
    require_fresh(order, now, SKEW)
    return admit(params, order, peer, known, TokenCache(), now)


def refused(world: World, params: CreateParams, **how: Any) -> ProbegateError:
    with pytest.raises(ProbegateError) as raised:
        admitted(world, params, **how)
    return raised.value


def test_a_lawful_order_is_admitted(scheme: World) -> None:
    request = Request(scheme, agencies=PERMITTED)
    params = request.params()
    shuffled = replace(params, probes=params.probes[::-1])
    one = admitted(scheme, shuffled)
    assert [probe.agency for probe in one.probes] == list(PERMITTED)  # type: ignore[attr-defined] # of admit


# (1) size, envelope, keys


def test_1_an_order_too_large_is_not_even_verified(scheme: World) -> None:
    params = Request(scheme).params()
    huge = replace(params.order, payload=bytes(MAX_ORDER_BYTES + 1), signatures=())
    assert refused(scheme, replace(params, order=huge)).reason is Reason.MESSAGE_TOO_LARGE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: replace(e, signatures=()), Reason.ENVELOPE_INVALID),
        (lambda e: replace(e, signatures=e.signatures * 2), Reason.ENVELOPE_INVALID),
        (lambda e: replace(e, payload_type=PayloadType.SEARCH_GRANT), Reason.ENVELOPE_INVALID),
        (lambda e: replace(e, payload=e.payload + b"\x00"), Reason.ENVELOPE_TAMPERED),
        (
            lambda e: replace(e, signatures=(replace(e.signatures[0], sig=bytes(64)),)),
            Reason.ENVELOPE_TAMPERED,
        ),
        (
            lambda e: replace(e, signatures=(replace(e.signatures[0], sig=b""),)),
            Reason.ENVELOPE_TAMPERED,
        ),
        (
            lambda e: replace(e, signatures=(replace(e.signatures[0], keyid="0" * 16),)),
            Reason.KEY_UNKNOWN,
        ),
    ],
)
def test_1_an_envelope_that_does_not_verify(
    scheme: World, change: Callable[[Any], Any], reason: Reason
) -> None:
    params = Request(scheme).params()
    assert refused(scheme, replace(params, order=change(params.order))).reason is reason


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x0a\x01x", b"\x98\x06\x01"])
def test_1_signed_nonsense_is_an_invalid_order(scheme: World, payload: bytes) -> None:
    signer = scheme.folder("northshire").signer()
    params = Request(scheme).params()
    nonsense = dsse.sign(PayloadType.SEARCH_ORDER, payload, signer)
    assert refused(scheme, replace(params, order=nonsense)).reason is Reason.ORDER_INVALID


def test_1_a_revoked_key(tmp_path: Path) -> None:
    world = World.make(tmp_path, agreements=copied_examples(tmp_path / "agreements"))
    params = Request(world).params()
    kid = world.folder("northshire").signer().kid
    world.scheme.revoke_key("northshire", kid, datetime.now(UTC) - timedelta(seconds=1))
    directory = world.scheme.publish_directory()
    assert refused(world, params, directory=directory).reason is Reason.KEY_REVOKED


# (2) whose order it is


def test_2_another_forces_channel(scheme: World) -> None:
    params = Request(scheme, force="northshire").params()
    assert refused(scheme, params, force="southmere").reason is Reason.KEY_UNKNOWN


def test_2_another_forces_name(scheme: World) -> None:
    order = Request(scheme, force="southmere").order()
    signer = scheme.folder("northshire").signer()
    envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(order), signer)
    failure = refused(scheme, Request(scheme).params(envelope=envelope))
    assert (failure.reason, failure.metadata) == (Reason.CHANNEL_ROLE, {"field": "force"})


# (3) freshness


@pytest.mark.parametrize(
    ("starts", "lasts", "fresh"),
    [(29, 300, True), (31, 300, False), (-299, 300, True), (-301, 300, False), (0, 600, True)],
)
def test_3_only_orders_of_this_moment(scheme: World, starts: int, lasts: int, fresh: bool) -> None:  # noqa: FBT001 - a table's column
    at = datetime.now(UTC)
    request = Request(scheme, now=at + timedelta(seconds=starts), lifetime=timedelta(seconds=lasts))
    order = request.order()
    if fresh:
        require_fresh(order, at, SKEW)
        return
    with pytest.raises(ProbegateError) as raised:
        require_fresh(order, at, SKEW)
    assert raised.value.reason is Reason.ORDER_STALE


def test_3_an_authorisation_from_the_future(scheme: World) -> None:
    order = Request(scheme).order()
    later = order.model_copy(update={"authorised_at": order.created_at + timedelta(minutes=1)})
    with pytest.raises(ProbegateError) as raised:
        require_fresh(later, order.created_at, SKEW)
    assert raised.value.metadata == {"field": "authorised_at"}


def test_3_an_order_that_would_live_too_long_cannot_be_said(scheme: World) -> None:
    order = Request(scheme).order()
    longer = order.model_copy(update={"expires_at": order.created_at + timedelta(minutes=11)})
    signer = scheme.folder("northshire").signer()
    envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(longer), signer)
    failure = refused(scheme, Request(scheme).params(envelope=envelope))
    assert (failure.reason, failure.metadata) == (Reason.ORDER_INVALID, {"field": "expires_at"})


@pytest.mark.parametrize(
    "early", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 57, tzinfo=UTC)]
)
def test_3_the_ends_of_the_calendar_are_an_invalid_or_stale_order(
    scheme: World, early: datetime
) -> None:
    order = Request(scheme).order()
    odd = order.model_copy(update={"created_at": early, "expires_at": early + timedelta(seconds=1)})
    signer = scheme.folder("northshire").signer()
    envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(odd), signer)
    failure = refused(scheme, Request(scheme).params(envelope=envelope))
    assert failure.reason in {Reason.ORDER_STALE, Reason.ORDER_INVALID}


# (4) tokens


@pytest.mark.parametrize("which", ["officer_token", "authoriser_token"])
@pytest.mark.parametrize("token", ["", "a.b.c", "é" * 40, "x" * (MAX_TOKEN_CHARS + 1), "\x00"])
def test_4_what_is_no_token(scheme: World, which: str, token: str) -> None:
    given: dict[str, Any] = {which: token}
    params = replace(Request(scheme).params(), **given)
    assert refused(scheme, params).reason is Reason.OFFICER_TOKEN_INVALID


def test_4_each_part_has_a_token_of_its_own(scheme: World) -> None:
    params = Request(scheme).params()
    officer, authoriser = params.officer_token, params.authoriser_token
    for one, other in ((authoriser, authoriser), (officer, officer), (authoriser, officer)):
        swapped = replace(params, officer_token=one, authoriser_token=other)
        assert refused(scheme, swapped).reason is Reason.OFFICER_TOKEN_INVALID


def test_4_a_token_of_another_force_or_channel(scheme: World) -> None:
    stolen = Request(scheme, force="southmere").params().officer_token
    params = replace(Request(scheme).params(), officer_token=stolen)
    assert refused(scheme, params).reason is Reason.OFFICER_TOKEN_INVALID
    peer = identity(scheme)
    other_channel = replace(peer, certificate_sha256=bytes(32))
    honest = Request(scheme).params()
    now = datetime.now(UTC)
    order = open_order(honest, peer, scheme.directory, now)
    with pytest.raises(ProbegateError) as raised:
        admit(honest, order, other_channel, scheme.directory, TokenCache(), now)
    assert raised.value.reason is Reason.OFFICER_TOKEN_INVALID


def test_4_a_token_that_is_old(scheme: World) -> None:
    old = Request(scheme, now=datetime.now(UTC) - timedelta(minutes=6))
    params = replace(Request(scheme).params(), officer_token=old.token(OFFICER, Part.OFFICER))
    assert refused(scheme, params).reason is Reason.OFFICER_TOKEN_INVALID


@pytest.mark.parametrize("part", ["officer", "authoriser"])
@pytest.mark.parametrize(
    "said",
    [
        {"id": "officer-9999"},
        {"role": "chief"},
        {"rank": "chief_constable"},
        {"accreditation": "another"},
        {"accreditation_expires": datetime(2040, 1, 1, tzinfo=UTC).date()},
    ],
    ids=lambda said: next(iter(said)),
)
def test_4_the_order_says_of_a_person_what_the_token_does_not(
    scheme: World, part: str, said: dict[str, object]
) -> None:
    person = OFFICER if part == "officer" else AUTHORISER
    claimed = Request(scheme, **{part: person.model_copy(update=said)})  # type: ignore[arg-type] # as given
    true = Request(scheme)
    params = replace(
        claimed.params(),
        officer_token=true.token(OFFICER, Part.OFFICER),
        authoriser_token=true.token(AUTHORISER, Part.AUTHORISER),
    )
    failure = refused(scheme, params)
    assert failure.reason is Reason.OFFICER_TOKEN_INVALID
    assert str(next(iter(said.values()))) not in failure.line()


# (5) two people


def test_5_officer_and_authoriser_are_two_people(scheme: World) -> None:
    alone = Request(scheme, authoriser=AUTHORISER.model_copy(update={"id": OFFICER.id}))
    failure = refused(scheme, alone.params())
    assert (failure.reason, failure.metadata) == (Reason.ORDER_INVALID, {"field": "authoriser"})


# (6) agencies


@pytest.mark.parametrize("stranger", ["dvla", "southmere", "broker", "inspectorate"])
def test_6_every_agency_is_one(scheme: World, stranger: str) -> None:
    order = Request(scheme).order().model_copy(update={"agencies": ("custody", stranger)})
    signer = scheme.folder("northshire").signer()
    envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(order), signer)
    failure = refused(scheme, Request(scheme).params(envelope=envelope))
    assert failure.reason is Reason.AGENCY_UNKNOWN


# (7) probes


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, probes=()),
        lambda p: replace(p, probes=p.probes[:1]),
        lambda p: replace(p, probes=(*p.probes, p.probes[0])),
        lambda p: replace(p, probes=(*p.probes, replace(p.probes[0], agency="asylum"))),
        lambda p: replace(p, probes=(p.probes[0], replace(p.probes[1], agency="asylum"))),
        lambda p: replace(p, probes=(p.probes[0], replace(p.probes[1], ciphertext=b""))),
        lambda p: replace(
            p,
            probes=(
                p.probes[0],
                replace(p.probes[1], ciphertext=bytes(MAX_SEALED_PROBE_BYTES + 1)),
            ),
        ),
    ],
    ids=["none", "too few", "twice", "one too many", "for another", "empty", "too large"],
)
def test_7_one_sealed_probe_each(scheme: World, change: Change) -> None:
    params = Request(scheme, agencies=("custody", "pnd")).params()
    assert refused(scheme, change(params)).reason is Reason.SEAL_INVALID


# and none of it leaves a trace that somebody was searched for


async def test_what_is_refused_is_neither_recorded_nor_sent(world: World) -> None:
    async with rigged(world) as rig:
        good = Request(world, agencies=PERMITTED).params()
        for bad in (
            replace(good, officer_token="x"),
            replace(good, probes=good.probes[1:]),
            replace(good, order=replace(good.order, signatures=())),
        ):
            with pytest.raises(ProbegateError):
                await rig.broker.create.execute(bad, rig.identity(), world.directory, 10)
        assert rig.broker.logs.search.checkpoint.checkpoint.size == 0
        assert rig.calls() == 0
        assert await rig.broker.reading.page("northshire", 10, "") == ((), "")
        view = await rig.broker.create.execute(
            replace(good, wait_s=10), rig.identity(), world.directory, 11
        )
        assert rig.result(view).complete
