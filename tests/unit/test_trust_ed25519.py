"""Ed25519 in one place: what is accepted here is accepted by OpenSSL, and keys and points of small
order, which OpenSSL does accept, are refused.

The crafted signatures need arithmetic on the curve, which is done here with whole numbers.
"""

from __future__ import annotations

import os
from hashlib import sha512

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from trust.ed25519 import SIGNATURE_BYTES, SigningKey, is_valid

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
Point = tuple[int, int]
ZERO: Point = (0, 1)


def add(one: Point, other: Point) -> Point:
    """Add two points (RFC 8032 s.5.1.4, affine)."""
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + k, P - 2, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - k, P - 2, P)
    return x % P, y % P


def times(factor: int, point: Point) -> Point:
    found = ZERO
    while factor:
        if factor & 1:
            found = add(found, point)
        point, factor = add(point, point), factor >> 1
    return found


def with_y(y: int) -> Point | None:
    """Return the point of even abscissa with an ordinate, if there is one (RFC 8032 s.5.1.3)."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return (P - x if x % 2 else x) % P, y % P


def encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def hashed(r: bytes, a: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + a + message).digest(), "little")


def base() -> Point:
    found = with_y(4 * pow(5, P - 2, P) % P)
    assert found is not None
    return found


def of_small_order() -> list[Point]:
    """Every point whose order divides eight."""
    y = 1
    while True:
        y += 1
        point = with_y(y)
        torsion = times(L, point) if point is not None else ZERO
        if times(4, torsion) != ZERO:
            return [times(n, torsion) for n in range(8)]


def openssl_accepts(public_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.fixture(scope="module")
def small() -> list[Point]:
    found = of_small_order()
    assert len(set(found)) == 8
    return found


@given(st.binary(max_size=300), st.binary(min_size=32, max_size=32))
def test_both_libraries_make_and_accept_the_same_signature(message: bytes, seed: bytes) -> None:
    theirs = Ed25519PrivateKey.from_private_bytes(seed)
    ours = SigningKey(theirs)
    assert ours.public_key == theirs.public_key().public_bytes_raw()
    assert ours.sign(message) == theirs.sign(message)
    assert is_valid(ours.public_key, ours.sign(message), message)


@given(st.data(), st.binary(min_size=1, max_size=80))
def test_any_flipped_bit_is_found(data: st.DataObject, message: bytes) -> None:
    key = SigningKey(Ed25519PrivateKey.generate())
    parts = [key.public_key, key.sign(message), message]
    which = data.draw(st.integers(0, 2))
    bit = data.draw(st.integers(0, 8 * len(parts[which]) - 1))
    changed = bytearray(parts[which])
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    assert not is_valid(*parts)


def test_what_has_another_length_is_no_key_and_no_signature() -> None:
    """Bytes moved between signature and message, or a key that is cut short, are refused."""
    key = SigningKey(Ed25519PrivateKey.generate())
    signature = key.sign(b"message")
    for cut in (0, 1, 31, 33, 64):
        assert not is_valid((key.public_key * 2)[:cut], signature, b"message")
    for cut in (0, 1, SIGNATURE_BYTES - 1, SIGNATURE_BYTES + 1):
        whole = signature + b"message"
        assert not is_valid(key.public_key, whole[:cut], whole[cut:])


def test_a_key_of_small_order_signs_nothing(small: list[Point]) -> None:
    """Under such a key one signature is over many messages, and OpenSSL accepts some of them."""
    accepted_elsewhere = 0
    for point in small:
        key, s = encoded(point), int.from_bytes(os.urandom(32), "little") % L
        r = encoded(times(s, base()))
        for number in range(16):
            message = b"%d" % number
            signature = r + s.to_bytes(32, "little")
            accepted_elsewhere += openssl_accepts(key, signature, message)
            assert not is_valid(key, signature, message)
    assert accepted_elsewhere > 16, "the attack is real"


def test_what_is_accepted_here_is_accepted_by_openssl(small: list[Point]) -> None:
    """Keys and nonces with a part of small order, and scalars beyond the group's order."""
    secret, nonce = (int.from_bytes(os.urandom(32), "little") % L for _ in range(2))
    public, nonced = times(secret, base()), times(nonce, base())
    accepted = 0
    for number, (torsion, nudge) in enumerate((a, r) for a in small for r in small):
        key = encoded(add(public, torsion))
        r = encoded(add(nonced, nudge))
        message = b"%d" % number
        s = (nonce + hashed(r, key, message) * secret) % L
        for scalar in (s, s + L):
            signature = r + scalar.to_bytes(32, "little")
            here = is_valid(key, signature, message)
            assert not here or openssl_accepts(key, signature, message)
            assert not (here and scalar >= L), "a signature has one spelling"
            accepted += here
        # The nonce is nothing but a point of small order.
        s = hashed(encoded(nudge), key, message) * secret % L
        assert not is_valid(key, encoded(nudge) + s.to_bytes(32, "little"), message)
    assert accepted, "honest ones among them"


def test_a_private_key_does_not_print() -> None:
    private = Ed25519PrivateKey.generate()
    key = SigningKey(private)
    seed = private.private_bytes_raw()
    for said in (repr(key), str(key), f"{key}"):
        assert seed.hex() not in said
        assert repr(seed)[2:-1] not in said
        assert key.public_key.hex() in said
