"""The policy file: what it accepts, what it refuses and where, and when a quorum holds."""

from __future__ import annotations

import base64
import contextlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.checkpoints import Checkpoint
from audit.notes import NoteSigner, SignatureType, VerifierKey, cosign, note_signer, sign_note
from audit.policy_file import LogPolicy, parse_policy, read_policy
from tests.scale import scaled
from trust.errors import ProbegateError

ORIGIN = "broker.example/search"
ROOT = sha256(b"root").digest()


def signer(name: str, kind: SignatureType = SignatureType.COSIGNATURE_V1) -> NoteSigner:
    key = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
    return note_signer(name, key.sign, key.public_key().public_bytes_raw(), kind)


LOG = signer(ORIGIN, SignatureType.ED25519)
LOG_KEY = str(VerifierKey.of(LOG))


def vkey(name: str) -> str:
    return str(VerifierKey.of(signer(name)))


def checkpoint(*witnesses: str, size: int = 5) -> bytes:
    note = sign_note(Checkpoint(ORIGIN, size, ROOT).text(), [LOG])
    return note + b"".join(cosign(note, signer(one), 1_790_000_000) for one in witnesses)


def refused(line: int) -> Any:
    return pytest.raises(ProbegateError, match=rf"^POLICY_FILE_INVALID: .*\[line={line}\]")


TWO_LEVELS = f"""\
# The example of c2sp.org/tlog-policy, with keys.
log {LOG_KEY} https://broker.example/log

witness X1 {vkey("X1")} https://x1.example
\twitness  X2\t{vkey("X2")}\t
witness X3 {vkey("X3")}
group X-witnesses 2 X1 X2 X3

witness Y1 {vkey("Y1")}
witness Y2 {vkey("Y2")}
  # indented
witness Y3 {vkey("Y3")}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_the_example_of_the_specification() -> None:
    policy = parse_policy(TWO_LEVELS)
    assert [one.url for one in policy.logs] == ["https://broker.example/log"]
    assert policy.witnesses[0].url == "https://x1.example"
    assert [str(one.vkey) for one in policy.witnesses[:2]] == [vkey("X1"), vkey("X2")]
    for cosigned, holds in (
        (("X1", "X2", "Y3"), True),
        (("X1", "X2", "X3"), False),
        (("X1", "Y1", "Y2", "Y3"), False),
        (("X1", "X2", "X3", "Y1", "Y2", "Y3"), True),
        ((), False),
    ):
        found = policy.satisfied(checkpoint(*cosigned))
        assert found.holds is holds
        assert dict(found.signed) == dict.fromkeys(cosigned, 1_790_000_000)
        assert set(found.missing) == {"X1", "X2", "X3", "Y1", "Y2", "Y3"} - set(cosigned)
        assert found.checkpoint == Checkpoint(ORIGIN, 5, ROOT)


def test_a_policy_needs_nothing_but_a_quorum() -> None:
    policy = parse_policy("quorum none\n")
    with pytest.raises(ProbegateError, match=r"^CHECKPOINT_INVALID"):
        policy.satisfied(checkpoint())
    assert policy.satisfied(checkpoint(), [VerifierKey.of(LOG)]).holds
    single = parse_policy(f"witness one {vkey('one')}\nquorum one")
    assert single.satisfied(checkpoint("one"), [VerifierKey.of(LOG)]).holds
    assert not single.satisfied(checkpoint("two"), [VerifierKey.of(LOG)]).holds


W = f"witness a {vkey('a')}\n"
AB = W + f"witness b {vkey('b')}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 0),
        (W, 1),
        (W + "quorum", 2),
        (W + "quorum a b", 2),
        (W + "quorum b", 2),
        ("quorum a\n" + W, 1),
        (W + "quorum a\nquorum a", 3),
        (W + "quorum none\nquorum none", 3),
        (W + "Quorum a", 2),
        (W + "quorum a # why", 2),
        (W + "quorum A", 2),
        (W + W + "quorum a", 2),
        (W + f"witness b {vkey('a')}\nquorum a", 2),
        (W + f"witness a {vkey('b')}\nquorum a", 2),
        (f"witness none {vkey('a')}\nquorum none", 1),
        (f"witness a {vkey('a')} url more\nquorum a", 1),
        (f"witness a {LOG_KEY}\nquorum a", 1),
        (f"witness a {vkey('a')[:-4]}\nquorum a", 1),
        (f"witness a \udce9{vkey('a')}\nquorum a", 1),
        (f"log {vkey('a')}\nquorum none", 1),
        (f"log {LOG_KEY} url more\nquorum none", 1),
        (f"log {LOG_KEY}\nlog {LOG_KEY}\nquorum none", 2),
        ("log\nquorum none", 1),
        (AB + "group g any\nquorum g", 3),
        (AB + "group g 0 a b\nquorum g", 3),
        (AB + "group g 3 a b\nquorum g", 3),
        (AB + "group g 01 a b\nquorum g", 3),
        (AB + "group g -1 a b\nquorum g", 3),
        (AB + "group g \u0661 a b\nquorum g", 3),
        (AB + "group g most a b\nquorum g", 3),
        (AB + "group g any a a\nquorum g", 3),
        (AB + "group g any g\nquorum g", 3),
        (AB + "group g any none\nquorum g", 3),
        (AB + "group a any b\nquorum a", 3),
        (AB + "group none any a\nquorum a", 3),
        (AB + "group g any a\ngroup h any a b\nquorum h", 4),
        (AB + "group g any a c\nquorum g", 3),
        (W + "quorum a\r\n", 2),
        (W + "quorum\va", 2),
        (W + "quorum\u00a0a", 2),
        (W + "# \x00\nquorum a", 2),
        (W + "quorum a\x7f", 2),
        ("#" * (2**20 + 1), 0),
    ],
)
def test_whatever_is_not_a_policy_is_refused_with_its_line(text: str, line: int) -> None:
    with refused(line):
        parse_policy(text)


def test_names_are_bytes(tmp_path: Path) -> None:
    file = tmp_path / "policy"
    file.write_bytes(f"witness \u212a {vkey('a')}\nwitness K {vkey('b')}\nquorum K\n".encode())
    assert [one.name for one in read_policy(file).witnesses] == ["\u212a", "K"]
    file.write_bytes(b"witness \xff " + vkey("a").encode() + b"\nquorum \xff\n")
    assert read_policy(file).holds({"\udcff"})
    file.write_bytes(b"log \xff" + LOG_KEY.encode() + b"\nquorum none\n")
    with refused(1):
        read_policy(file)
    with pytest.raises(ProbegateError, match=r"^FILE_MISSING"):
        read_policy(tmp_path / "elsewhere")


@pytest.mark.parametrize("count", [32, 1024, 1025])
def test_many_of_each_are_read(count: int) -> None:
    lines = [f"log {VerifierKey.of(signer(f'l{n}', SignatureType.ED25519))}" for n in range(count)]
    lines += [f"witness w{n} {vkey(f'w{n}')}" for n in range(count)]
    lines += [f"group g{n} 1 {f'g{n - 1} ' if n else ''}w{n}" for n in range(count)]
    text = "\n".join([*lines, f"quorum g{count - 1}"])
    if count > 1024:
        with refused(1025):
            parse_policy(text)
        return
    policy = parse_policy(text)
    assert policy.holds({"w0"})
    assert not policy.holds({"other"})


def test_a_bad_cosignature_of_a_known_witness_condemns_the_note() -> None:
    policy = parse_policy(f"log {LOG_KEY}\n{AB}group g any a b\nquorum g")
    line = cosign(checkpoint(size=6), signer("a"), 5)
    with pytest.raises(ProbegateError, match=r"^CHECKPOINT_INVALID"):
        policy.satisfied(checkpoint("b") + line)


def test_a_witness_counts_once_and_strangers_not_at_all() -> None:
    policy = parse_policy(f"log {LOG_KEY}\n{AB}group g all a b\nquorum g")
    note = checkpoint("a", "a", "stranger")
    found = policy.satisfied(note + cosign(note, signer("a"), 1_790_000_009))
    assert (found.holds, dict(found.signed), found.missing) == (False, {"a": 1_790_000_009}, ("b",))
    only = sign_note(Checkpoint(ORIGIN, 5, ROOT).text(), [])
    with pytest.raises(ProbegateError, match=r"^CHECKPOINT_INVALID"):  # no log signed
        policy.satisfied(only + cosign(only + b"\xe2\x80\x94 x AAAAAAAA\n", signer("a"), 1))


# ------------------------------------------------------------------ a quorum is its formula


@st.composite
def formulas(draw: st.DrawFn) -> tuple[str, dict[str, Any], str, list[str]]:
    """Return a policy's text, what each name means, the quorum's name and the witnesses."""
    count = draw(st.integers(1, 8))
    witnesses = [f"w{n}" for n in range(count)]
    lines = [f"witness {one} {vkey(one)}" for one in witnesses]
    meaning: dict[str, Any] = {}
    free = list(witnesses)
    for at in range(draw(st.integers(0, 5))):
        members = draw(st.lists(st.sampled_from(free), min_size=1, unique=True)) if free else []
        if not members:
            break
        needed = draw(st.integers(1, len(members)))
        word = draw(
            st.sampled_from(
                [str(needed)] + ["any"] * (needed == 1) + ["all"] * (needed == len(members))
            )
        )
        name = f"g{at}"
        lines.append(f"group {name} {word} {' '.join(members)}")
        meaning[name] = (needed, members)
        free = [one for one in free if one not in members] + [name]
    quorum = draw(st.sampled_from([*witnesses, *meaning, "none"]))
    return "\n".join([f"log {LOG_KEY}", *lines, f"quorum {quorum}\n"]), meaning, quorum, witnesses


def says(meaning: dict[str, Any], name: str, signed: set[str]) -> bool:
    if name == "none":
        return True
    if name not in meaning:
        return name in signed
    needed, members = meaning[name]
    return bool(sum(says(meaning, one, signed) for one in members) >= needed)


@settings(max_examples=scaled(80, 2000), deadline=None)
@given(formulas(), st.data())
def test_a_quorum_holds_iff_its_formula_does(made: Any, data: st.DataObject) -> None:
    text, meaning, quorum, witnesses = made
    policy = parse_policy(text)
    signed = data.draw(st.sets(st.sampled_from(witnesses)))
    found = policy.satisfied(checkpoint(*signed, "stranger"))
    assert found.holds == says(meaning, quorum, signed)
    assert set(found.signed) == signed
    for more in set(witnesses) - signed:  # one more cosignature never hurts
        assert policy.holds({*signed, more}) >= found.holds


@given(st.text(alphabet="wgquorum logall123any \t\n#+/=", max_size=80))
def test_no_text_crashes_the_parser(text: str) -> None:
    with contextlib.suppress(ProbegateError):
        assert isinstance(parse_policy(text), LogPolicy)


def test_cosignatures_are_checked_as_plain_cryptography_would() -> None:
    note = checkpoint("a")
    text, _, tail = note.decode().rpartition("\n\n")
    raw = base64.b64decode(tail.splitlines()[1].split(" ")[2])
    key = Ed25519PrivateKey.from_private_bytes(sha256(b"a").digest()).public_key()
    key.verify(raw[12:], f"cosignature/v1\ntime {int.from_bytes(raw[4:12])}\n{text}\n".encode())
