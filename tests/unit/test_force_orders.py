from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from force_client import ProbegateError, Reason
from force_client.orders import reopen_order
from force_client.probes import commitment_of, salted
from tests.unit.force_scene import AGENCIES, FORCE, SALT_KEY, Scene, draft, make_scene, probe
from trust import dsse, sealing
from trust.commitment import probe_commitment
from trust.directory import KeyUse
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.wire import decode_order, decode_probe


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scheme") / "s")


def test_the_order_is_signed_by_the_force_and_says_what_the_draft_says(scene: Scene) -> None:
    signed = scene.prepare().order
    resolve = scene.directory.resolver(FORCE, KeyUse.SIGN, scene.now)
    dsse.verify(signed.envelope, PayloadType.SEARCH_ORDER, resolve)
    order = decode_order(signed.envelope.payload)
    assert order == signed.order
    assert order.justification == draft().justification
    assert order.authorised_at == scene.now
    assert signed.sha256 == sha256(signed.envelope.payload).digest()
    assert reopen_order(signed.envelope) == signed
    with pytest.raises(ProbegateError):
        reopen_order(replace(signed.envelope, payload_type=PayloadType.SEARCH_GRANT))


def test_each_agency_opens_its_own_probe_and_no_other(scene: Scene) -> None:
    prepared = scene.prepare()
    digest = prepared.order.sha256
    assert [one.agency for one in prepared.probes] == list(AGENCIES)
    for sealed in prepared.probes:
        opener = scene.scheme.member_folder(sealed.agency).opener()
        info = sealing.probe_info(digest, sealed.agency, sealed.key_id)
        payload = decode_probe(opener.open(sealed.ciphertext, info))
        assert payload.template == probe().template
        commitment = probe_commitment(payload.salt, payload.template)
        assert commitment == prepared.order.order.probe.commitment
        other = sealing.probe_info(bytes(32), sealed.agency, sealed.key_id)
        with pytest.raises(ProbegateError):
            opener.open(sealed.ciphertext, other)
        elsewhere = sealing.probe_info(digest, "dwp", sealed.key_id)
        with pytest.raises(ProbegateError):
            opener.open(sealed.ciphertext, elsewhere)
    assert len({one.ciphertext for one in prepared.probes}) == len(AGENCIES)


def test_the_commitment_recognises_a_repeated_probe_within_one_force(scene: Scene) -> None:
    first, second = scene.prepare(), scene.prepare()
    assert first.order.order.request_id != second.order.order.request_id
    commitment = first.order.order.probe.commitment
    assert second.order.order.probe.commitment == commitment
    assert scene.prepare(seed=1).order.order.probe.commitment != commitment
    assert commitment_of(salted(probe(), bytes(32))) != commitment


def test_the_commitment_has_one_form() -> None:
    expected = sha256(b"probegate/probe-commitment/v1\0" + SALT_KEY + b"template").digest()
    assert probe_commitment(SALT_KEY, b"template") == expected
    with pytest.raises(ProbegateError) as caught:
        probe_commitment(b"short", b"template")
    assert caught.value.reason is Reason.BAD_COMMITMENT


def test_a_payload_and_a_probe_never_print_the_template() -> None:
    made = probe()
    assert "template" not in repr(made)
    assert repr(made.template) not in repr(salted(made, SALT_KEY))


@pytest.mark.parametrize("authoriser", ["ns-4411", "NS-4411", "ns-4411 "])
def test_nobody_authorises_their_own_search(scene: Scene, authoriser: str) -> None:
    alone = draft().model_copy(update={"authoriser": Person(id=authoriser)})
    with pytest.raises(ProbegateError) as caught:
        scene.prepare(alone)
    assert (caught.value.reason, caught.value.metadata["field"]) == (
        Reason.ORDER_INVALID,
        "authoriser",
    )


def test_an_unknown_agency_is_named_as_such(scene: Scene) -> None:
    for agency in ("dwp", "broker"):
        with pytest.raises(ProbegateError) as caught:
            scene.prepare(draft(("custody", agency)))
        assert caught.value.reason is Reason.AGENCY_UNKNOWN


@pytest.mark.parametrize(
    ("change", "field"),
    [({"agencies": ("pnd", "pnd")}, "agencies"), ({"lifetime": timedelta(days=1)}, "expires_at")],
)
def test_an_impossible_order_is_never_signed(
    scene: Scene, change: dict[str, object], field: str
) -> None:
    with pytest.raises(ProbegateError) as caught:
        scene.prepare(draft().model_copy(update=change))
    assert caught.value.reason is Reason.ORDER_INVALID
    assert caught.value.metadata["field"] == field
