"""Key files: who may read them, what they hold, and that they never print."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.killed import killed_writing
from trust import files
from trust.algorithms import Algorithm, key_id
from trust.errors import ProbegateError, Reason
from trust.keys import FileOpener, FileSigner, Opener, Signer

SEALING = [Algorithm.X25519, Algorithm.MLKEM768_X25519]


def refusal(error: pytest.ExceptionInfo[ProbegateError]) -> Reason:
    return error.value.reason


def test_a_signer_survives_its_file(tmp_path: Path) -> None:
    made = FileSigner.generate(tmp_path / "keys" / "sign.pem")
    loaded = FileSigner.load(tmp_path / "keys" / "sign.pem")
    assert isinstance(loaded, Signer)
    assert (loaded.kid, loaded.public_key) == (made.kid, made.public_key)
    public = ed25519.Ed25519PublicKey.from_public_bytes(made.public_key)
    public.verify(loaded.sign(b"data"), b"data")


@pytest.mark.parametrize("suite", SEALING)
def test_an_opener_survives_its_file(tmp_path: Path, suite: Algorithm) -> None:
    made = FileOpener.generate(tmp_path / "seal.pem", suite)
    loaded = FileOpener.load(tmp_path / "seal.pem")
    assert isinstance(loaded, Opener)
    assert (loaded.kid, loaded.suite, loaded.public_key) == (made.kid, suite, made.public_key)


def test_key_files_are_private_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sign.pem"
    FileSigner.generate(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_key_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    signing, sealing = tmp_path / "sign.pem", tmp_path / "seal.pem"
    FileSigner.generate(signing)
    FileOpener.generate(sealing)
    for path, load in ((signing, FileSigner.load), (sealing, FileOpener.load)):
        path.chmod(mode)
        with pytest.raises(ProbegateError) as error:
            load(path)
        assert refusal(error) is Reason.KEY_FILE_INVALID


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "sign.pem"
    first = FileSigner.generate(path)
    with pytest.raises(ProbegateError) as error:
        FileSigner.generate(path)
    assert refusal(error) is Reason.FILE_EXISTS
    assert FileSigner.load(path).kid == first.kid
    assert [one.name for one in tmp_path.iterdir()] == ["sign.pem"]


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    FileSigner.generate(tmp_path / "sign.pem")
    FileOpener.generate(tmp_path / "seal.pem")
    files.write_private(tmp_path / "ecdsa.pem", pem)
    files.write_private(tmp_path / "noise.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n")
    files.write_private(
        tmp_path / "bad.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    )
    files.write_private(tmp_path / "two.pem", pem + (tmp_path / "sign.pem").read_bytes())
    for name in ("seal.pem", "ecdsa.pem", "noise.pem", "bad.pem", "two.pem"):
        with pytest.raises(ProbegateError) as error:
            FileSigner.load(tmp_path / name)
        assert refusal(error) is Reason.KEY_FILE_INVALID
    for name in ("sign.pem", "ecdsa.pem", "noise.pem", "bad.pem", "two.pem"):
        with pytest.raises(ProbegateError) as error:
            FileOpener.load(tmp_path / name)
        assert refusal(error) is Reason.KEY_FILE_INVALID
    with pytest.raises(ProbegateError) as error:
        FileOpener.generate(tmp_path / "x.pem", Algorithm.ED25519)
    assert refusal(error) is Reason.KEY_FILE_INVALID
    with pytest.raises(ProbegateError) as error:
        FileSigner.load(tmp_path / "absent.pem")
    assert refusal(error) is Reason.FILE_MISSING


def test_private_keys_do_not_print(tmp_path: Path) -> None:
    signer = FileSigner.generate(tmp_path / "sign.pem")
    opener = FileOpener.generate(tmp_path / "seal.pem")
    assert repr(signer) == f"FileSigner(kid='{signer.kid}')"
    assert repr(opener) == f"FileOpener(kid='{opener.kid}', suite='X25519')"
    assert not hasattr(signer, "__dict__")
    assert not hasattr(opener, "__dict__")


def test_a_key_id_binds_the_algorithm() -> None:
    raw = bytes(32)
    assert key_id(Algorithm.ED25519, raw) != key_id(Algorithm.X25519, raw)
    assert key_id(Algorithm.ED25519, raw) == hashlib.sha256(b"Ed25519" + raw).hexdigest()[:16]


def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write_atomic(path, b"old")

    def no_room(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(ProbegateError) as error:
        files.write_atomic(path, b"new")
    assert refusal(error) is Reason.DISK_FULL
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_write_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "file.other"
    killed_writing(other)
    (others,) = tmp_path.iterdir()
    killed_writing(path)
    files.write_atomic(path, b"old")
    assert len(list(tmp_path.iterdir())) == 3
    files.sweep(path)
    assert {*tmp_path.iterdir()} == {others, path}


def test_what_killed_writes_left_in_a_folder_goes_once_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomic(path, b"old")
    killed_writing(path)
    (left,) = {*tmp_path.iterdir()} - {path}
    written = datetime.fromtimestamp(left.stat().st_mtime, UTC)
    assert files.sweep_folder(tmp_path, written - timedelta(seconds=1)) == 0
    assert left.exists()
    assert files.sweep_folder(tmp_path, written + timedelta(seconds=1)) == 1
    assert list(tmp_path.iterdir()) == [path]
    assert files.sweep_folder(tmp_path / "none", written) == 0


def test_a_place_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for write in (files.write_atomic, files.write_private):
        with pytest.raises(ProbegateError) as error:
            write(tmp_path / "file" / "below", b"")
        assert refusal(error) is Reason.FILE_UNWRITABLE
