"""Timestamps of checkpoints: obtained from a real authority, kept, judged, and refused if wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from typer.testing import CliRunner, Result

from audit.anchoring import STORE_FOLDER, anchor, judge, read_authorities
from audit.timestamp_tokens import with_sorted_certificates
from cli.audit import app
from tests.logs import MadeLog
from tests.timestamps import Authority, make_authority, openssl_available, served
from trust.errors import ProbegateError, Reason

ORIGIN = "broker.example/search"

pytestmark = pytest.mark.usefixtures("authority")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    if not openssl_available():
        pytest.skip("no openssl here; under CI that is an error")
    with served(make_authority(tmp_path_factory.mktemp("tsa") / "tsa")) as made:
        yield made


@pytest.fixture(autouse=True)
def behaving(authority: Authority) -> Iterator[None]:
    yield
    authority.answers, authority.status = None, 200


@pytest.fixture
def log(tmp_path: Path) -> MadeLog:
    made = MadeLog(tmp_path / "log", ORIGIN)
    made.write([{"n": number} for number in range(300)])
    return made


def run(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def vkey_file(log: MadeLog) -> Path:
    path = log.folder.with_suffix(".vkey")
    path.write_text(f"{log.vkey}\n")
    return path


def refused(log: MadeLog, authority: Authority, trusted: Path | None = None) -> ProbegateError:
    with pytest.raises(ProbegateError) as caught:
        anchor(log.folder, authority.url, read_authorities(trusted or authority.root))
    assert not (log.folder / STORE_FOLDER).exists()
    return caught.value


def test_a_checkpoint_is_timestamped_and_the_log_may_grow(
    log: MadeLog, authority: Authority
) -> None:
    words = ("--log", log.folder, "--tsa", authority.url, "--tsa-cert", authority.root)
    done = run("anchor", *words, "--vkey", vkey_file(log))
    assert done.exit_code == 0, done.output
    (token,) = (log.folder / STORE_FOLDER).glob("*.tsr")
    theirs = ["openssl", "ts", "-verify", "-data", str(token.with_suffix(".note"))]
    theirs += ["-in", str(token), "-CAfile", str(authority.root)]
    subprocess.run(theirs, check=True, capture_output=True)
    assert "the first 300 entries existed by " in " ".join(done.output.split())
    log.write([{"n": number} for number in range(300, 600)])
    again = run("anchor", *words, "--json")
    assert json.loads(again.stdout)["size"] == 600

    shown = run("verify", log.folder, "--vkey", vkey_file(log))
    assert shown.exit_code == 0
    assert "2 timestamps are not checked: give --tsa-cert" in " ".join(shown.output.split())
    checked = ("verify", log.folder, "--vkey", vkey_file(log), "--tsa-cert", authority.root)
    shown = run(*checked)
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.output.split())
    assert "the first 300 entries existed by 20" in said
    assert "the first 600 entries existed by 20" in said
    assert "says CN=Example TSA" in said
    document = json.loads(run(*checked, "--json").stdout)
    assert [one["size"] for one in document["timestamps"]] == [300, 600]
    shutil.rmtree(log.folder / STORE_FOLDER)
    shown = run(*checked)
    assert shown.exit_code == 1
    assert "ANCHOR_INVALID" in shown.stderr


def test_certificates_in_an_order_that_der_does_not_have_are_read(
    log: MadeLog, tmp_path: Path
) -> None:
    with served(make_authority(tmp_path / "tsa", long=True)) as other:
        anchor(log.folder, other.url, read_authorities(other.root))
        (found,) = judge(log.folder, log.vkey, read_authorities(other.root))
    assert found.error is None
    (kept,) = (log.folder / STORE_FOLDER).glob("*.tsr")
    assert with_sorted_certificates(kept.read_bytes()) != kept.read_bytes(), "as it was sent"


def test_a_token_of_another_authority_a_cut_log_or_another_history_does_not_count(
    log: MadeLog, authority: Authority, tmp_path: Path
) -> None:
    trusted = read_authorities(authority.root)
    anchor(log.folder, authority.url, trusted)
    (good,) = judge(log.folder, log.vkey, trusted)
    assert good.stamped is not None

    other = read_authorities(make_authority(tmp_path / "other").root)
    (found,) = judge(log.folder, log.vkey, other)
    assert found.stamped is None

    for entries in (299, 301):
        twin = MadeLog(tmp_path / f"twin-{entries}", ORIGIN, key=log.key)
        twin.write([{"n": number, "other": True} for number in range(entries)])
        shutil.copytree(log.folder / STORE_FOLDER, twin.folder / STORE_FOLDER)
        (found,) = judge(twin.folder, log.vkey, trusted)
        assert found.stamped is None
        assert found.error is not None
        assert found.error.reason is Reason.ANCHOR_INVALID
        shown = run("verify", twin.folder, "--tsa-cert", authority.root)
        assert shown.exit_code == 1
        assert "DOES NOT COUNT" in shown.output
        assert "ANCHOR_INVALID" in shown.stderr


def test_every_byte_that_matters_of_a_token_and_its_note_is_found(
    log: MadeLog, authority: Authority
) -> None:
    trusted = read_authorities(authority.root)
    anchor(log.folder, authority.url, trusted)
    (good,) = judge(log.folder, log.vkey, trusted)
    for path in sorted((log.folder / STORE_FOLDER).iterdir()):
        whole = path.read_bytes()
        for at in range(0, len(whole), 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            (found,) = judge(log.folder, log.vkey, trusted)
            # What the signature does not cover may change; what the token says may not.
            assert found.stamped in {None, good.stamped}, (path.name, at)
            assert found.stamped is None or path.suffix == ".tsr"
        path.write_bytes(whole)


def test_answers_that_are_no_token_of_ours_are_refused_and_not_kept(
    log: MadeLog, authority: Authority, tmp_path: Path
) -> None:
    authority.answers = b"\x30\x03\x02\x01\x02"  # rejected
    assert refused(log, authority).reason is Reason.ANCHOR_INVALID
    for nonsense in (b"", b"\xff" * 100, b"<html>", b"\x30\x80", b"\x30" * 70_000):
        authority.answers = nonsense
        error = refused(log, authority)
        assert error.reason in {Reason.ANCHOR_INVALID, Reason.MESSAGE_TOO_LARGE}
    authority.answers, authority.status = b"", 503
    assert refused(log, authority).reason is Reason.SERVICE_UNREACHABLE
    authority.answers, authority.status = None, 200

    other = MadeLog(tmp_path / "other", ORIGIN)
    other.write([{"n": 1}])
    trusted = read_authorities(authority.root)
    anchor(other.folder, authority.url, trusted)
    (token,) = (other.folder / STORE_FOLDER).glob("*.tsr")
    authority.answers = token.read_bytes()  # a good token, of another log and another nonce
    assert refused(log, authority).reason is Reason.ANCHOR_INVALID
    with pytest.raises(ProbegateError):  # and of this log, replayed
        anchor(other.folder, authority.url, trusted)


def test_an_answer_that_is_too_long_leaves_no_connection_open(
    log: MadeLog, authority: Authority
) -> None:
    authority.answers = b"\x30" * 70_000
    error = refused(log, authority)  # whoever keeps it keeps what it saw
    assert error.reason is Reason.MESSAGE_TOO_LARGE
    port = urlsplit(authority.url).port
    connections = psutil.Process().net_connections("tcp")
    assert port not in {getattr(one.raddr, "port", 0) for one in connections}


def test_an_authority_whose_certificate_is_over_does_not_count(
    log: MadeLog, tmp_path: Path
) -> None:
    with served(make_authority(tmp_path / "over", over=True)) as over:
        assert refused(log, over).reason is Reason.ANCHOR_INVALID


def test_a_log_that_its_key_did_not_sign_is_not_sent_anywhere(
    log: MadeLog, authority: Authority, tmp_path: Path
) -> None:
    stranger = MadeLog(tmp_path / "stranger", ORIGIN).vkey
    with pytest.raises(ProbegateError) as caught:
        anchor(log.folder, authority.url, read_authorities(authority.root), key=stranger)
    assert caught.value.reason is Reason.CHECKPOINT_INVALID


def test_certificates_that_are_none_are_a_setting_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    path.write_text("nothing\n")
    with pytest.raises(ProbegateError) as caught:
        read_authorities(path)
    assert caught.value.reason is Reason.CONFIG_INVALID
