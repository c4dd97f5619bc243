"""A log is copied from a web server, continues its copy or is refused, and verifies offline."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from audit.mirroring import EVIDENCE, mirror
from audit.verify import verify_folder
from cli.audit import app
from tests.logs import MadeLog
from trust.errors import ProbegateError, Reason


class Silent(SimpleHTTPRequestHandler):
    """Any web server will do: a log's folder is plain files."""

    fetched: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        self.fetched.append(self.path)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    Silent.fetched.clear()
    handler = functools.partial(Silent, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", Silent.fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def entries(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"v": 1, "type": "test", "n": start + n} for n in range(count)]


def reason_of(url: str, copy: Path, log: MadeLog) -> Reason:
    with pytest.raises(ProbegateError) as raised:
        mirror(url, copy, log.vkey)
    return raised.value.reason


def test_a_copy_grows_with_its_log_and_fetches_nothing_twice(tmp_path: Path) -> None:
    log, copy = MadeLog(tmp_path / "log", "broker.example/search"), tmp_path / "copy"
    log.write(entries(300))
    with served(log.folder) as (url, fetched):
        assert mirror(url, copy, log.vkey).size == 300
        assert verify_folder(copy, log.vkey).ok
        log.write(entries(300, 300))
        fetched.clear()
        done = mirror(url, copy, log.vkey)
        assert (done.before, done.size) == (300, 600)
        assert "/tile/entries/000" not in fetched
        assert verify_folder(copy, log.vkey).entries == 600
        fetched.clear()
        assert mirror(url, copy, log.vkey).files == 0
        assert fetched == ["/checkpoint"]


def test_a_log_that_was_cut_or_forked_is_refused_and_both_notes_are_kept(tmp_path: Path) -> None:
    log, copy = MadeLog(tmp_path / "log", "broker.example/search"), tmp_path / "copy"
    log.write(entries(20))
    shutil.copytree(log.folder, tmp_path / "old")
    log.write(entries(300, 20))
    with served(log.folder) as (url, _):
        mirror(url, copy, log.vkey)
    before = (copy / "checkpoint").read_bytes()
    with served(tmp_path / "old") as (url, _):
        assert reason_of(url, copy, log) is Reason.CHECKPOINT_INCONSISTENT
    fork = MadeLog(tmp_path / "fork", log.origin, log.key)
    fork.write(entries(400, 7))
    with served(fork.folder) as (url, _):
        assert reason_of(url, copy, log) in {Reason.CHECKPOINT_INCONSISTENT, Reason.LOG_CORRUPT}
    assert (copy / "checkpoint").read_bytes() == before
    assert verify_folder(copy, log.vkey).ok
    kept = list((tmp_path / f"copy.{EVIDENCE}").rglob("shown"))
    assert kept


def test_what_is_not_the_log_is_refused(tmp_path: Path) -> None:
    log, copy = MadeLog(tmp_path / "log", "broker.example/search"), tmp_path / "copy"
    log.write(entries(300))
    stranger = MadeLog(tmp_path / "stranger", log.origin)
    stranger.write(entries(3))
    with served(stranger.folder) as (url, _):
        assert reason_of(url, copy, log) is Reason.CHECKPOINT_INVALID
    tile = log.folder / "tile" / "0" / "000"
    raw = tile.read_bytes()
    tile.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with served(log.folder) as (url, _):
        assert reason_of(url, copy, log) is Reason.LOG_CORRUPT
    tile.write_bytes(raw[:-1])
    with served(log.folder) as (url, _):
        assert reason_of(url, copy, log) is Reason.LOG_CORRUPT
    assert not [path for path in copy.rglob("*") if path.is_file()]
    tile.write_bytes(raw)
    shutil.rmtree(log.folder / "tile" / "entries")
    with served(log.folder) as (url, _):
        assert reason_of(url, copy, log) is Reason.FILE_MISSING
    assert not (copy / "checkpoint").exists()


def test_the_command_copies_and_verifies(tmp_path: Path) -> None:
    log, copy = MadeLog(tmp_path / "log", "broker.example/search"), tmp_path / "copy"
    log.write(entries(5))
    key = tmp_path / "key"
    key.write_text(f"{log.vkey}\n")
    with served(log.folder) as (url, _):
        line = ["mirror", url, str(copy), "--vkey", str(key)]
        done = json.loads(CliRunner().invoke(app, [*line, "--json"]).stdout)
        assert done == {
            "origin": log.origin,
            "before": 0,
            "size": 5,
            "files": done["files"],
            "verified": True,
        }
        assert "5 entries, 0 of them new" in CliRunner().invoke(app, line).stdout
