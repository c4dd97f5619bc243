"""A checkpoint that an entry embeds is the signed note, and nothing else passes for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.embedded import embed, note_of, open_embedded
from audit.leaves import JsonValue, build_leaf, parse_leaf
from audit.notes import SignatureType, VerifierKey, cosign, note_signer
from tests.forces import strangers_verifier
from tests.logs import MadeLog
from trust.errors import ProbegateError, Reason
from trust.messages import MAX_AGENCIES

ORIGIN = "custody.example/search"
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
SIGNER = note_signer(ORIGIN, KEY.sign, PUBLIC)
VKEY = VerifierKey.of(SIGNER)
NOTE = sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(range(32))), SIGNER).note


@given(st.integers(1, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_the_note_is_made_again_byte_for_byte_after_a_leaf_held_it(size: int, root: bytes) -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, size, root), SIGNER).note
    leaf, _ = build_leaf({"type": "made", "checkpoint": embed(note)}, {})
    said: Any = parse_leaf(leaf)["checkpoint"]
    assert note_of(said) == note
    assert open_embedded(said, [VKEY]).checkpoint == Checkpoint(ORIGIN, size, root)


def test_witnesses_lines_are_left_out_and_the_log_stays_bound() -> None:
    witness = note_signer("w.example", KEY.sign, PUBLIC, SignatureType.COSIGNATURE_V1)
    said = embed(NOTE + cosign(NOTE, witness, 1_800_000_000))
    assert note_of(said) == NOTE


def test_a_note_with_two_lines_in_the_logs_name_is_not_embedded() -> None:
    other = Ed25519PrivateKey.generate()
    twin = note_signer(ORIGIN, other.sign, other.public_key().public_bytes_raw())
    line = sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(range(32))), twin).note.split(b"\n\n")[1]
    with pytest.raises(ProbegateError, match="CHECKPOINT_INVALID"):
        embed(NOTE + line)
    foreign = note_signer("other.example/search", KEY.sign, PUBLIC)
    with pytest.raises(ProbegateError, match="CHECKPOINT_INVALID"):
        embed(sign_checkpoint(Checkpoint(ORIGIN, 7, bytes(32)), foreign).note)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 8},
        {"size": "7"},
        {"size": True},
        {"size": -1},
        {"root": "00" * 32},
        {"root": "00" * 31},
        {"root": "zz" * 32},
        {"root": bytes(range(32)).hex().upper()},
        {"origin": "other.example/search"},
        {"origin": "custody.example/search\n7"},
        {"origin": "\ud800"},
        {"origin": None},
        {"signature": ""},
        {"signature": "AAAA"},
        {"signature": "not base64"},
        {"signature": 5},
        {"more": 1},
    ],
)
def test_what_is_not_what_was_signed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProbegateError) as caught:
        open_embedded(embed(NOTE) | change, [VKEY])
    assert caught.value.reason is Reason.CHECKPOINT_INVALID


@given(
    st.dictionaries(
        st.sampled_from(["origin", "size", "root", "signature"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text("a\u00e9\n\x00 +\u2014\ud800", max_size=9),
    )
)
def test_whatever_an_entry_says_is_a_catalogued_refusal(said: dict[str, Any]) -> None:
    with pytest.raises(ProbegateError) as caught:
        open_embedded(said, [VKEY])
    assert caught.value.reason is Reason.CHECKPOINT_INVALID


def test_a_result_of_every_agency_is_still_a_leaf() -> None:
    origin = f"{'a' * 128}.example/search"
    signer = note_signer(origin, KEY.sign, PUBLIC)
    note = sign_checkpoint(Checkpoint(origin, 2**53 - 1, bytes(32)), signer).note
    outcome: dict[str, JsonValue] = {
        "agency": "a" * 64,
        "state": "no_candidate",
        "reason": "SOME_RATHER_LONG_NAME_OF_A_REASON",
        "report_sha256": "0" * 64,
        "checkpoint_sha256": "0" * 64,
        "checkpoint": embed(note),
    }
    leaf, _ = build_leaf({"type": "search.result", "outcomes": [outcome] * MAX_AGENCIES}, {})
    assert len(leaf) < 60_000


def test_the_stand_alone_verifier_holds_a_log_to_what_another_embeds(tmp_path: Path) -> None:
    agency = MadeLog(tmp_path / "agency", ORIGIN)
    agency.write([{"n": number} for number in range(300)])
    broker = MadeLog(tmp_path / "broker", "broker.example/search")
    sizes = (0, 1, 2, 3, 127, 255, 256, 257, 300)
    broker.write([{"outcomes": [{"checkpoint": agency.embedded(size)}]} for size in sizes])
    checks, vkey = strangers_verifier("verify_embedded"), str(agency.vkey)
    assert checks.check_continues(agency.folder, vkey, broker.folder) == len(sizes)
    for size, root, why in (
        (255, bytes(32), "another history"),
        (301, bytes(32), "which has 300"),
    ):
        liar = MadeLog(tmp_path / f"liar-{size}", "broker.example/search")
        liar.write([{"outcomes": [{"checkpoint": agency.embedded(size, root)}]}])
        with pytest.raises(checks.Wrong, match=why):
            checks.check_continues(agency.folder, vkey, liar.folder)
    forger = MadeLog(tmp_path / "forger", "broker.example/search")
    made_up = MadeLog(agency.folder, ORIGIN).embedded(255, agency.roots[255])
    forger.write([{"broker_checkpoint": made_up}])
    with pytest.raises(checks.Wrong, match="not signed by this key"):
        checks.check_continues(agency.folder, vkey, forger.folder)
    for number, said in enumerate(
        (
            {"origin": ORIGIN, "signature": ""},
            {"origin": ORIGIN, "signature": 5, "root": 7, "size": []},
        )
    ):
        odd = MadeLog(tmp_path / f"odd-{number}", "broker.example/search")
        odd.write([{"outcomes": [{"checkpoint": said}]}])
        with pytest.raises((checks.Wrong, ValueError)):
            checks.check_continues(agency.folder, vkey, odd.folder)
