"""Signed notes, checkpoints, leaves and receipts: published vectors and malformed input."""

from __future__ import annotations

import base64
import contextlib
import unicodedata
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit import merkle
from audit.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from audit.leaves import build_leaf, canonical, parse_leaf
from audit.notes import (
    NoteSigner,
    SignatureType,
    VerifierKey,
    cosign,
    note_signer,
    open_note,
    sign_note,
    split_note,
)
from audit.proofs import format_proof, parse_proof, verify_receipt
from audit.tiles import decode_bundle, encode_bundle, tile_path, tiles_between
from trust.errors import ProbegateError, Reason

# c2sp.org/signed-note's example.
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mF"
    "XmRKuwHjG1Yu72IneyaQM=\n"
).encode()

# golang.org/x/mod/sumdb/note's test key, note and signature.
GO_SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngot"
    "pRZb6KE6RyyBwJnAM=\n"
)
GO_NOTE = (GO_TEXT + "\n" + GO_LINE).encode()

# A public log's checkpoint with a public witness's cosignature/v1.
PUBLIC_ORIGIN = "arche2025h1.staging.ct.transparency.dev"
PUBLIC_KEY = f"{PUBLIC_ORIGIN}+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
PUBLIC_WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
PUBLIC_NOTE = (
    f"{PUBLIC_ORIGIN}\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n"
    f"— {PUBLIC_ORIGIN} ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8"
    "Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXT"
    "ynk5XeU/zZ0WBxtqB0DrAWfBw==\n"
).encode()


def signer(name: str, kind: SignatureType = SignatureType.ED25519) -> NoteSigner:
    key = Ed25519PrivateKey.generate()
    return note_signer(name, key.sign, key.public_key().public_bytes_raw(), kind)


def refused(reason: Reason = Reason.CHECKPOINT_INVALID) -> Any:
    return pytest.raises(ProbegateError, match=f"^{reason.name}:")


@pytest.mark.parametrize(("note", "key"), [(SPEC_NOTE, SPEC_KEY), (GO_NOTE, GO_KEY)])
def test_published_notes_verify_and_any_change_does_not(note: bytes, key: str) -> None:
    opened = open_note(note, [VerifierKey.parse(key)])
    assert note.decode().startswith(opened.text + "\n")
    assert str(opened.signatures[0].key) == key
    for at in range(len(note)):
        altered = bytearray(note)
        altered[at] ^= 1
        with refused():
            open_note(bytes(altered), [VerifierKey.parse(key)])


def test_signing_gives_the_published_bytes() -> None:
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(GO_SEED)[1:])
    made = note_signer("PeterNeumann", key.sign, key.public_key().public_bytes_raw())
    assert str(VerifierKey.of(made)) == GO_KEY
    assert sign_note(GO_TEXT, [made]) == GO_NOTE


def test_a_public_checkpoint_with_its_cosignature_verifies() -> None:
    keys = [VerifierKey.parse(PUBLIC_KEY), VerifierKey.parse(PUBLIC_WITNESS)]
    assert open_checkpoint(PUBLIC_NOTE, keys).checkpoint.size == 1_432_088_532
    opened = open_note(PUBLIC_NOTE, keys)
    assert [one.timestamp for one in opened.signatures] == [None, 0x6A122120]
    with refused():  # a witness alone does not make a checkpoint
        open_checkpoint(PUBLIC_NOTE, keys[1:])


def test_keys_have_one_spelling() -> None:
    for at in range(len(GO_KEY)):
        with refused():
            VerifierKey.parse(GO_KEY[:at])
        with refused():
            VerifierKey.parse(GO_KEY[:at] + chr(ord(GO_KEY[at]) + 1) + GO_KEY[at + 1 :])
    for bad in ("", "+", "a+b", "a b" + GO_KEY[12:], GO_KEY.replace("c74f", "C74F")):
        with refused():
            VerifierKey.parse(bad)


def test_unknown_signatures_are_ignored_and_known_bad_ones_condemn() -> None:
    one, two, three = signer("one"), signer("two"), signer("three")
    keys = [VerifierKey.of(one), VerifierKey.of(two)]
    note = sign_note("text\n", [three, one])
    assert [s.key.name for s in open_note(note, keys).signatures] == ["one"]
    with refused():
        open_note(sign_note("text\n", [three]), keys)
    forged = sign_note("other\n", [two]).split(b"\n\n")[1]
    with refused():
        open_note(note + forged, keys)
    many = sign_note("text\n", [signer(f"n{n}") for n in range(90)] + [two])
    assert len(open_note(many, keys).signatures) == 1


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text",
        b"text\n",
        b"text\n\n",
        GO_NOTE[:-1],
        GO_NOTE + b"\n",
        GO_NOTE.replace(b"\n\n", b"\n"),
        GO_NOTE.replace(b"you", b"yo\x00"),
        GO_NOTE.replace(b"you", b"yo\t"),
        GO_NOTE.replace(b"you", b"yo\xff"),
        GO_NOTE.replace("— ".encode(), b"- "),
        GO_NOTE.replace(b"PeterNeumann x", b"Peter+Neumann x"),
        GO_NOTE.replace(b"x08g", b"x0!g"),
        GO_NOTE.replace(b"JnAM=", b"JnAN="),
        GO_NOTE + "— short AAAAAA==\n".encode(),
        GO_TEXT.encode() + b"\n" + GO_LINE.encode() * 101,
        b"x" * 70_000 + GO_NOTE,
    ],
)
def test_malformed_notes_are_refused(note: bytes) -> None:
    with refused():
        open_note(note, [VerifierKey.parse(GO_KEY)])


def test_names_hold_neither_spaces_nor_controls_nor_plus_signs() -> None:
    """Every character below U+3400, beside ASCII and beside other letters."""
    payload = base64.b64encode(bytes(68)).decode()

    def taken(name: str) -> bool:
        try:
            split_note(f"text\n\n\N{EM DASH} {name} {payload}\n".encode())
        except ProbegateError:
            return False
        return True

    for one in map(chr, range(0x3400)):
        kind = unicodedata.category(one)
        refused = one == "+" or one.isspace() or kind in {"Cc", "Zs", "Zl", "Zp"}
        for name in (one, f"log{one}", f"{one}\N{LATIN SMALL LETTER E WITH ACUTE}"):
            assert taken(name) is not refused, (hex(ord(one)), name)
    assert not taken("")


def test_cosignatures_cover_time_and_text() -> None:
    log, witness = signer("log.example"), signer("witness", SignatureType.COSIGNATURE_V1)
    note = sign_checkpoint(Checkpoint("log.example", 1, b"r" * 32), log).note
    keys = [VerifierKey.of(log), VerifierKey.of(witness)]
    whole = note + cosign(note, witness, 1_790_000_000)
    assert open_note(whole, keys).signatures[1].timestamp == 1_790_000_000
    assert open_checkpoint(whole, keys).checkpoint.size == 1
    line = cosign(note, witness, 5).decode()
    payload = bytearray(base64.b64decode(line.split(" ")[2]))
    payload[11] ^= 1
    with refused():
        open_note(note + f"— witness {base64.b64encode(payload).decode()}\n".encode(), keys)


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "\n1\nAAAA\n",
        "o\n01\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "o\n-1\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "o\n٣\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "o\n9999999999999999999\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "o\n" + "9" * 5000 + "\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "o\n1\n" + base64.b64encode(b"r" * 31).decode() + "\n",
        "o\n0\n" + base64.b64encode(b"r" * 32).decode() + "\n",
        "o\n1\n" + base64.b64encode(b"r" * 32).decode() + "\nextension\n",
        "o\n1\n" + base64.b64encode(b"r" * 32).decode(),
    ],
)
def test_malformed_checkpoints_are_refused(text: str) -> None:
    with refused():
        Checkpoint.parse(text)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_no_text_crashes_the_parsers(text: str) -> None:
    for parse in (Checkpoint.parse, VerifierKey.parse, parse_proof):
        with pytest.raises(ProbegateError):
            parse(text)
    with pytest.raises(ProbegateError):
        open_note(text.encode(), [VerifierKey.parse(GO_KEY)])
    with pytest.raises(ProbegateError):
        parse_proof("c2sp.org/tlog-proof@v1\n" + text)


def test_receipts_verify_offline_and_nothing_else_does() -> None:
    log = signer("log.example")
    leaves = [f'{{"n":{n}}}'.encode() for n in range(11)]
    hashes = [merkle.leaf_hash(one) for one in leaves]

    def read(level: int, index: int) -> bytes:
        return merkle.root_of(hashes[index << level : (index + 1) << level])

    proof = merkle.inclusion_proof(read, 6, 11)
    note = sign_checkpoint(Checkpoint("log.example", 11, merkle.root_of(hashes)), log).note
    text = format_proof(6, proof, note)
    key = VerifierKey.of(log)
    assert text.startswith("c2sp.org/tlog-proof@v1\nindex 6\n")
    assert verify_receipt(text, [key], leaves[6]).checkpoint.size == 11
    with_extra = text.replace("index 6", "extra AAAA\nindex 6")
    assert verify_receipt(with_extra, [key], leaves[6]).note == note
    wrong = Reason.LOG_PROOF_INVALID
    for bad, leaf in (
        (text, leaves[5]),
        (text.replace("index 6", "index 7"), leaves[6]),
        (text.replace("index 6", "index 06"), leaves[6]),
        (text.replace("@v1", "@v2"), leaves[6]),
        (text.replace("\n\n", "\nAAAA\n\n", 1), leaves[6]),
    ):
        with refused(wrong):
            verify_receipt(bad, [key], leaf)
    with refused():
        verify_receipt(text, [VerifierKey.of(signer("log.example"))], leaves[6])
    with refused():
        verify_receipt(text, [key], leaves[6], origin="other.example")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_is_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def cyclic() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize(
    "value",
    [
        {1: "a key that is no text"},
        {b"a": 1},
        {None: 1},
        {"a": {True: 1}},
        {"\ud800": 1},
        "\ud800",
        float("nan"),
        2**53,
        -(2**53),
        {1, 2},
        object(),
        cyclic(),
        {"a": cyclic()},
    ],
)
def test_what_json_cannot_say_exactly_is_refused(value: Any) -> None:
    with pytest.raises(ProbegateError) as caught:
        canonical(value)
    assert caught.value.reason is Reason.TEXT_INVALID


def test_nesting_of_any_depth_is_written_or_refused() -> None:
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ProbegateError) as caught:
        canonical(deep)
    assert caught.value.reason is Reason.TEXT_INVALID


@given(st.binary(max_size=80))
def test_only_canonical_objects_are_leaves(raw: bytes) -> None:
    with contextlib.suppress(ProbegateError):
        assert canonical(parse_leaf(raw)) == raw


def test_leaves_say_only_commitments() -> None:
    leaf, kept = build_leaf({"b": 1, "a": "é"}, {"name": "x"})
    assert leaf.startswith('{"a":"é","b":1,"commitments":{"name":"'.encode())
    assert (kept[0].field, kept[0].value, len(kept[0].salt)) == ("name", b'"x"', 32)
    assert build_leaf({}, {"name": "x"})[0] != build_leaf({}, {"name": "x"})[0]
    for bad in (b'{"b":1,"a":2}', b"[]", b'{"a": 1}', b'{"commitments":{"x":"AB"}}', b"\xff", b"{"):
        with refused(Reason.LOG_CORRUPT):
            parse_leaf(bad)


def test_tile_paths_and_widths() -> None:
    assert tile_path(0, 1_234_067) == "tile/0/x001/x234/067"
    assert tile_path("entries", 5) == "tile/entries/005"
    assert tile_path(2, 1000, 17) == "tile/2/x001/000.p/17"
    assert list(tiles_between(0, 256)) == [(0, 256)]
    assert list(tiles_between(256, 256)) == []
    assert list(tiles_between(250, 600)) == [(0, 256), (1, 256), (2, 88)]


@given(st.lists(st.binary(max_size=300), max_size=256), st.binary(min_size=1, max_size=1))
def test_bundles_round_trip(entries: list[bytes], more: bytes) -> None:
    raw = encode_bundle(entries)
    assert decode_bundle(raw) == entries
    assert decode_bundle(raw + more) is None
