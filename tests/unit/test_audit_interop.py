"""Logs and receipts read by code that is not ours, in another language, and theirs by ours.

Two strangers judge: sigstore-js, which npm itself verifies packages with, and a reader written from
the specifications with nothing but Node's own crypto. They must run in CI; elsewhere they run where
Node is.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import create_engine

from audit.checkpoints import open_checkpoint
from audit.merkle import verify_consistency
from audit.notes import VerifierKey, note_signer
from audit.proofs import format_proof, verify_receipt
from audit.verify import verify_folder
from audit.writer import LogWriter, NewEntry
from tests.interop.node import NodeClientError, judged_by_sigstore, node_available, run_node_log
from tests.logs import MadeLog
from tests.scale import scaled
from trust.errors import ProbegateError

ORIGIN: Final = "broker.example/search"
ENTRIES: Final = 600
SIZES: Final = (1, 2, 3, 7, 8, 255, 256, 257, 512, 513, 600)
INDEXES: Final = (0, 1, 2, 6, 7, 128, 254, 255, 256, 511, 512, 599)
Case = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """A log that our writer wrote, and everything it proved."""

    log: MadeLog
    receipts: list[Case]
    proofs: list[Case]

    @property
    def vkey(self) -> str:
        return str(self.log.vkey)


def text64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    log = MadeLog(tmp_path_factory.mktemp("interop") / "log", ORIGIN)
    signer = note_signer(ORIGIN, log.key.sign, log.key.public_key().public_bytes_raw())
    receipts: list[Case] = []
    proofs: list[Case] = []

    async def write() -> None:
        engine = create_engine(log.database)
        writer = LogWriter.open(
            engine, name="search", origin=ORIGIN, signer=signer, folder=log.folder
        )
        roots = [writer.checkpoint.checkpoint.root]
        for number in range(ENTRIES):
            done = await writer.append(NewEntry({"n": number, "say": "caf\u00e9 \u2014"}))
            checkpoint = done.checkpoint.checkpoint
            roots.append(checkpoint.root)
            if checkpoint.size not in SIZES:
                continue
            for index in (one for one in INDEXES if one < checkpoint.size):
                proof = writer.inclusion(index, checkpoint.size)
                receipts.append(
                    {
                        "kind": "receipt",
                        "text": format_proof(index, proof, done.checkpoint.note),
                        "leaf": text64(writer.leaf(index)),
                        "vkey": str(log.vkey),
                    }
                )
        for new in SIZES:
            for old in (one for one in SIZES if one <= new):
                proof = writer.consistency(old, new)
                proofs.append(
                    {
                        "kind": "consistency",
                        "old": old,
                        "new": new,
                        "old_root": text64(roots[old]),
                        "new_root": text64(roots[new]),
                        "proof": [text64(one) for one in proof],
                    }
                )
        await writer.close()
        engine.dispose()

    asyncio.run(write())
    return Written(log, receipts, proofs)


def ours(case: Case) -> bool:
    """Whether our own code accepts a case."""
    try:
        if case["kind"] == "receipt":
            vkey = VerifierKey.parse(case["vkey"])
            verify_receipt(case["text"], [vkey], base64.b64decode(case["leaf"]))
        elif case["kind"] == "checkpoint":
            open_checkpoint(case["note"].encode(), [VerifierKey.parse(case["vkey"])])
        else:
            proof = tuple(map(base64.b64decode, case["proof"]))
            old_root, new_root = (base64.b64decode(case[n]) for n in ("old_root", "new_root"))
            verify_consistency(case["old"], case["new"], old_root, new_root, proof)
    except ProbegateError:
        return False
    return True


def spoiled_receipts(case: Case, other_vkey: str) -> Iterator[Case]:
    """One receipt, wrong in one way after another."""
    head, _, note = case["text"].partition("\n\n")
    lines, signed = head.split("\n"), note.split("\n")
    index = int(lines[1].removeprefix("index "))

    def with_head(*changed: str) -> Case:
        return case | {"text": "\n".join(changed) + "\n\n" + note}

    def with_note(*changed: str) -> Case:
        return case | {"text": head + "\n\n" + "\n".join(changed)}

    yield with_head(lines[0], f"index {index + 1}", *lines[2:])
    yield with_head(*lines, text64(bytes(32)))
    for at in range(2, len(lines)):
        wrong = bytearray(base64.b64decode(lines[at]))
        wrong[at] ^= 1
        yield with_head(*lines[:at], text64(bytes(wrong)), *lines[at + 1 :])
        yield with_head(*lines[:at], *lines[at + 1 :])
    yield case | {"leaf": text64(base64.b64decode(case["leaf"]) + b" ")}
    yield case | {"vkey": other_vkey}
    yield with_note(signed[0], str(int(signed[1]) + 1), *signed[2:])
    yield with_note(*signed[:2], text64(bytes(32)), *signed[3:])
    yield with_note("other.example/search", *signed[1:])
    name, _, encoded = signed[4].rpartition(" ")
    signature = bytearray(base64.b64decode(encoded))
    signature[20] ^= 0x40
    yield with_note(*signed[:4], f"{name} {text64(bytes(signature))}", *signed[5:])


def test_two_strangers_accept_every_receipt_that_our_writer_made(written: Written) -> None:
    assert len(written.receipts) > 50
    assert all(map(ours, written.receipts))
    if not node_available():
        return
    assert set(judged_by_sigstore(written.receipts)) == {None}
    assert set(run_node_log("judge", cases=written.receipts)) == {None}


def test_two_strangers_refuse_every_receipt_that_is_wrong(written: Written, tmp_path: Path) -> None:
    other = str(MadeLog(tmp_path / "other", ORIGIN).vkey)
    wrong = [one for case in written.receipts for one in spoiled_receipts(case, other)]
    assert len(wrong) > 500
    assert not any(map(ours, wrong))
    if not node_available():
        return
    assert None not in judged_by_sigstore(wrong)
    assert None not in run_node_log("judge", cases=wrong)


def test_a_stranger_agrees_with_us_on_consistency_right_and_wrong(written: Written) -> None:
    wrong: list[Case] = []
    for case in written.proofs:
        wrong.append(case | {"proof": [*case["proof"], text64(bytes(32))]})
        wrong += [
            case | {"proof": [*case["proof"][:at], *case["proof"][at + 1 :]]}
            for at in range(len(case["proof"]))
        ]
        wrong.append(case | {"new_root": text64(bytes(32))})
        wrong.append(case | {"old_root": text64(bytes(32))})
    assert all(map(ours, written.proofs))
    assert not any(map(ours, wrong))
    if not node_available():
        return
    assert set(run_node_log("judge", cases=written.proofs)) == {None}
    assert None not in run_node_log("judge", cases=wrong)


def test_a_stranger_and_we_agree_on_receipts_of_random_bytes(written: Written) -> None:
    draw = random.Random(6962)
    cases = []
    for _ in range(scaled(400, 20_000)):
        case = draw.choice(written.receipts)
        text = list(case["text"])
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(text))
            text[at] = draw.choice([text[at], draw.choice("\n +/=0AZaz\u2014"), ""])
        cases.append(case | {"text": "".join(text)})
    if not node_available():
        return
    theirs = [verdict is None for verdict in run_node_log("judge", cases=cases)]
    assert theirs == list(map(ours, cases))
    assert {True, False} <= set(theirs)


def test_a_stranger_verifies_a_whole_log_and_finds_what_was_changed(
    written: Written, tmp_path: Path
) -> None:
    if not node_available():
        return
    report = verify_folder(written.log.folder, written.log.vkey)
    said = run_node_log("folder", written.log.folder, written.vkey)
    assert said == {"origin": ORIGIN, "size": ENTRIES, "root": report.root, "held": 0}
    for name in ("tile/entries/001", "tile/0/001", "tile/1/000.p/2", "checkpoint"):
        path = written.log.folder / name
        whole = path.read_bytes()
        try:
            path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
            with pytest.raises(NodeClientError):
                run_node_log("folder", written.log.folder, written.vkey)
        finally:
            path.write_bytes(whole)
    other = MadeLog(tmp_path / "other", ORIGIN)
    with pytest.raises(NodeClientError, match="not signed by this key"):
        run_node_log("folder", written.log.folder, other.vkey)


@pytest.mark.parametrize("count", [1, 255, 256, 300])
def test_we_verify_a_log_that_a_stranger_wrote(count: int, tmp_path: Path) -> None:
    if not node_available():
        return
    made = run_node_log("make", tmp_path / "log", "stranger.example/search", count)
    vkey = VerifierKey.parse(made["vkey"])
    report = verify_folder(tmp_path / "log", vkey)
    assert report.ok
    assert (report.entries, report.root) == (count, made["root"])
    receipts = [one | {"kind": "receipt", "vkey": made["vkey"]} for one in made["receipts"]]
    assert all(map(ours, receipts))
    assert set(judged_by_sigstore(receipts)) == {None}
    proofs = [
        one | {"kind": "consistency", "new": count, "new_root": made["root"]}
        for one in made["proofs"]
    ]
    assert all(map(ours, proofs))


def test_a_stranger_holds_an_agency_to_what_the_brokers_log_embeds(tmp_path: Path) -> None:
    if not node_available():
        return
    agency = MadeLog(tmp_path / "agency", "custody.example/search")
    agency.write([{"n": number} for number in range(5)])
    broker = MadeLog(tmp_path / "broker", ORIGIN)
    broker.write([{"outcomes": [{"checkpoint": agency.embedded(size)}]} for size in (1, 3, 5)])
    assert run_node_log("folder", agency.folder, agency.vkey, broker.folder)["held"] == 3
    broker.write([{"outcomes": [{"checkpoint": agency.embedded(4, bytes(32))}]}])
    with pytest.raises(NodeClientError, match="another history"):
        run_node_log("folder", agency.folder, agency.vkey, broker.folder)
