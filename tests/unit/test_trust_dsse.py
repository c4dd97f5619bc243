"""DSSE envelopes: the specification's vector, strict JSON, and every signature verified."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust import dsse
from trust.dsse import Envelope, Signature
from trust.errors import ProbegateError, Reason
from trust.keys import FileSigner
from trust.payload_types import PayloadType

ORDER = PayloadType.SEARCH_ORDER


@pytest.fixture
def signers(tmp_path: Path) -> tuple[FileSigner, FileSigner]:
    return FileSigner.generate(tmp_path / "a.pem"), FileSigner.generate(tmp_path / "b.pem")


def resolver(*known: FileSigner) -> dsse.Resolve:
    keys = {one.kid: one.public_key for one in known}

    def resolve(kid: str) -> bytes:
        if kid not in keys:
            raise ProbegateError(Reason.KEY_UNKNOWN)
        return keys[kid]

    return resolve


def refused(envelope: Envelope, resolve: dsse.Resolve, kind: str = ORDER) -> Reason:
    with pytest.raises(ProbegateError) as error:
        dsse.verify(envelope, kind, resolve)
    return error.value.reason


def test_the_specification_s_encoding() -> None:
    # secure-systems-lab/dsse, protocol.md, "Test vectors"
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_no_two_payloads_share_an_encoding(a: str, x: bytes, b: str, y: bytes) -> None:
    assert (dsse.pae(a, x) == dsse.pae(b, y)) == ((a, x) == (b, y))


def test_every_signature_counts(signers: tuple[FileSigner, FileSigner]) -> None:
    first, second = signers
    both = dsse.sign(ORDER, b"payload", first, second)
    assert dsse.verify(both, ORDER, resolver(first, second)) == (first.kid, second.kid)
    assert refused(both, resolver(first)) is Reason.KEY_UNKNOWN
    spoiled = replace(both.signatures[1], sig=bytes(64))
    one_bad = replace(both, signatures=(both.signatures[0], spoiled))
    assert refused(one_bad, resolver(first, second)) is Reason.ENVELOPE_TAMPERED


def test_a_signature_is_for_one_type_and_one_payload(
    signers: tuple[FileSigner, FileSigner],
) -> None:
    signer, _ = signers
    envelope = dsse.sign(ORDER, b"payload", signer)
    resolve = resolver(signer)
    assert refused(envelope, resolve, PayloadType.SEARCH_GRANT) is Reason.ENVELOPE_INVALID
    retyped = replace(envelope, payload_type=str(PayloadType.SEARCH_GRANT))
    assert refused(retyped, resolve, PayloadType.SEARCH_GRANT) is Reason.ENVELOPE_TAMPERED
    for payload in (b"Payload", b"payload ", b""):
        assert refused(replace(envelope, payload=payload), resolve) is Reason.ENVELOPE_TAMPERED


def test_one_key_s_signature_does_not_pass_under_another_s_id(
    signers: tuple[FileSigner, FileSigner],
) -> None:
    first, second = signers
    envelope = dsse.sign(ORDER, b"payload", first)
    relabelled = replace(envelope, signatures=(replace(envelope.signatures[0], keyid=second.kid),))
    assert refused(relabelled, resolver(first, second)) is Reason.ENVELOPE_TAMPERED


def test_none_too_many_or_repeated_signatures(signers: tuple[FileSigner, FileSigner]) -> None:
    signer, _ = signers
    envelope = dsse.sign(ORDER, b"payload", signer)
    for count in (0, 2, dsse.MAX_SIGNATURES + 1):
        spoiled = replace(envelope, signatures=envelope.signatures * count)
        assert refused(spoiled, resolver(signer)) is Reason.ENVELOPE_INVALID


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length(signers: tuple[FileSigner, FileSigner], length: int) -> None:
    signer, _ = signers
    short = Envelope(ORDER, b"", (Signature(signer.kid, bytes(length)),))
    assert refused(short, resolver(signer)) is Reason.ENVELOPE_TAMPERED


@given(st.binary(max_size=100))
def test_json_round_trip(payload: bytes) -> None:
    envelope = Envelope("type", payload, (Signature("0" * 16, bytes(64)),))
    assert Envelope.from_json(envelope.to_json()) == envelope


def valid() -> dict[str, Any]:
    return {
        "payload": "cGF5bG9hZA==",
        "payloadType": "type",
        "signatures": [{"keyid": "0" * 16, "sig": base64.b64encode(bytes(64)).decode()}],
    }


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"payload": "cGF5bG9hZA"},
        {"payload": "cGF5bG9hZB=="},
        {"payload": "cGF5 bG9hZA=="},
        {"payload": "\u20ac"},
        {"payload": 1},
        {"payloadType": None},
        {"signatures": {}},
        {"signatures": [1]},
        {"signatures": [{"keyid": "0" * 16}]},
        {"signatures": [{"keyid": "0" * 16, "sig": "", "cert": ""}]},
        {"signatures": [{"keyid": "0" * 15, "sig": ""}]},
        {"signatures": [{"keyid": "0" * 16 + "\n", "sig": ""}]},
        {"signatures": [{"keyid": "0" * 16, "sig": "-_-_"}]},
    ],
)
def test_json_that_is_not_an_envelope(change: dict[str, Any]) -> None:
    assert Envelope.from_json(json.dumps(valid()).encode()).payload == b"payload"
    with pytest.raises(ProbegateError) as error:
        Envelope.from_json(json.dumps(valid() | change).encode())
    assert error.value.reason is Reason.ENVELOPE_INVALID


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"payload":NaN}',
        b"[" * 100_000,
        b" " * (dsse.MAX_ENVELOPE_BYTES + 1),
        json.dumps(valid())[:-1].encode() + b',"payload":""}',
    ],
    ids=range(9),
)
def test_text_that_is_not_strict_json(text: bytes) -> None:
    with pytest.raises(ProbegateError) as error:
        Envelope.from_json(text)
    assert error.value.reason is Reason.ENVELOPE_INVALID


@given(st.binary(max_size=200))
def test_noise_is_always_a_catalogued_refusal(noise: bytes) -> None:
    with pytest.raises(ProbegateError) as error:
        Envelope.from_json(noise)
    assert error.value.reason is Reason.ENVELOPE_INVALID
