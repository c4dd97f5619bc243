"""Sealing: an independent RFC 9180 reading opens it, and nothing else but its context does."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import assume, given
from hypothesis import strategies as st

from trust import sealing
from trust.algorithms import Algorithm
from trust.errors import ProbegateError, Reason
from trust.keys import FileOpener
from trust.sealing import disclosure_info, image_info, probe_info, seal

DIGESTS = st.binary(min_size=32, max_size=32)
IDS = st.text(st.sampled_from("abc-0"), max_size=6)


@dataclass(frozen=True)
class PublicKey:
    algorithm: Algorithm
    public_bytes: bytes


@pytest.fixture(scope="module", params=[Algorithm.X25519, Algorithm.MLKEM768_X25519])
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FileOpener:
    return FileOpener.generate(tmp_path_factory.mktemp("keys") / "seal.pem", request.param)


def public(opener: FileOpener) -> PublicKey:
    return PublicKey(opener.algorithm, opener.public_key)


def refused(opener: FileOpener, sealed: bytes, info: bytes) -> bool:
    try:
        opener.open(sealed, info)
    except ProbegateError as error:
        return error.reason is Reason.SEAL_INVALID
    return False


def hpke_open(
    private: bytes, message: bytes, info: bytes, *, key_bytes: int, aead_id: int, aad: bytes = b""
) -> bytes:
    """RFC 9180 sections 4.1, 5.1 and 5.2 for DHKEM(X25519, HKDF-SHA256), written out again."""

    def extract(suite: bytes, salt: bytes, label: bytes, value: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + value, "sha256")

    def expand(suite: bytes, secret: bytes, label: bytes, value: bytes, length: int) -> bytes:
        labelled = length.to_bytes(2) + b"HPKE-v1" + suite + label + value
        return hmac.digest(secret, labelled + b"\x01", "sha256")[:length]

    key = X25519PrivateKey.from_private_bytes(private)
    enc, ciphertext = message[:32], message[32:]
    kem = b"KEM" + (0x20).to_bytes(2)
    shared = key.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + key.public_key().public_bytes_raw()
    secret = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", context, 32)
    suite = b"HPKE" + (0x20).to_bytes(2) + (1).to_bytes(2) + aead_id.to_bytes(2)
    schedule = (
        b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    )
    main = extract(suite, secret, b"secret", b"")
    return AESGCM(expand(suite, main, b"key", schedule, key_bytes)).decrypt(
        expand(suite, main, b"base_nonce", schedule, 12), ciphertext, aad
    )


def test_the_independent_reading_opens_the_rfc_s_vector() -> None:
    # RFC 9180, A.1.1.1, sequence number 0
    opened = hpke_open(
        bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8"),
        bytes.fromhex(
            "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
            "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9"
            "6d8770ac83d07bea87e13c512a"
        ),
        b"Ode on a Grecian Urn",
        key_bytes=16,
        aead_id=1,
        aad=b"Count-0",
    )
    assert opened == b"Beauty is truth, truth beauty"


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_the_independent_reading_opens_what_is_sealed(plaintext: bytes, info: bytes) -> None:
    private = X25519PrivateKey.from_private_bytes(hashlib.sha256(info).digest())
    key = PublicKey(Algorithm.X25519, private.public_key().public_bytes_raw())
    sealed = seal(plaintext, key, info)
    assert len(sealed) == len(plaintext) + 48
    assert hpke_open(private.private_bytes_raw(), sealed, info, key_bytes=32, aead_id=2) == (
        plaintext
    )


@given(plaintext=st.binary(max_size=300), order=DIGESTS, agency=IDS, kid=IDS)
def test_what_is_sealed_opens_in_its_own_context(
    opener: FileOpener, plaintext: bytes, order: bytes, agency: str, kid: str
) -> None:
    info = probe_info(order, agency, kid)
    assert opener.open(seal(plaintext, public(opener), info), info) == plaintext


@given(a=st.tuples(DIGESTS, IDS, IDS), b=st.tuples(DIGESTS, IDS, IDS))
def test_another_order_agency_or_key_id_never_opens(
    opener: FileOpener, a: tuple[bytes, str, str], b: tuple[bytes, str, str]
) -> None:
    assume(a != b)
    assert probe_info(*a) != probe_info(*b)
    assert refused(opener, seal(b"template", public(opener), probe_info(*a)), probe_info(*b))


@given(order=DIGESTS, parts=st.tuples(IDS, IDS, IDS))
def test_one_kind_of_context_is_never_another(order: bytes, parts: tuple[str, str, str]) -> None:
    probe = probe_info(order, parts[0], parts[2])
    disclosure, image = disclosure_info(order, *parts), image_info(order, *parts)
    assert len({probe, disclosure, image}) == 3


@given(moved=st.tuples(IDS, IDS, IDS), order=DIGESTS)
def test_text_moved_between_parts_is_another_context(
    moved: tuple[str, str, str], order: bytes
) -> None:
    a, b, c = moved
    assume(b)
    assert disclosure_info(order, a + b, "", c) != disclosure_info(order, a, b, c)


@given(data=st.data())
def test_a_changed_or_cut_message_never_opens(opener: FileOpener, data: st.DataObject) -> None:
    info = probe_info(bytes(32), "agency", opener.kid)
    sealed = seal(b"a template", public(opener), info)
    at = data.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    # X25519 masks the top bit of a point (RFC 7748, section 5), but HPKE hashes the bytes as sent.
    assert refused(opener, bytes(flipped), info)
    assert refused(opener, sealed[:at], info)
    assert refused(opener, sealed + b"\0", info)


def test_another_key_never_opens(opener: FileOpener, tmp_path: Path) -> None:
    other = FileOpener.generate(tmp_path / "other.pem", opener.algorithm)
    info = probe_info(bytes(32), "agency", opener.kid)
    assert refused(other, seal(b"template", public(opener), info), info)


def test_the_all_zero_point_is_refused(opener: FileOpener) -> None:
    assert refused(opener, bytes(2000), b"")


@pytest.mark.parametrize(
    "key",
    [
        PublicKey(Algorithm.ED25519, bytes(32)),
        PublicKey(Algorithm.X25519, bytes(32)),
        PublicKey(Algorithm.X25519, bytes(31)),
        PublicKey(Algorithm.MLKEM768_X25519, bytes(32)),
        PublicKey(Algorithm.MLKEM768_X25519, b"\xff" * 1216),
    ],
)
def test_a_key_that_cannot_be_sealed_to(key: PublicKey) -> None:
    with pytest.raises(ProbegateError) as error:
        seal(b"", key, b"")
    assert error.value.reason is Reason.SEAL_INVALID


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(ProbegateError) as error:
        probe_info(b"short", "agency", "kid")
    assert error.value.reason is Reason.SEAL_INVALID


def test_the_context_s_exact_bytes() -> None:
    assert probe_info(bytes(32), "pnd", "0123") == (
        sealing.PROBE_DOMAIN + b"\0\0\0\x20" + bytes(32) + b"\0\0\0\x03pnd" + b"\0\0\0\x040123"
    )
