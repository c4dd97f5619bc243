"""Runs what strangers have, in Node: a client of the broker, and verifiers of logs and receipts.

They share no code with Probegate: what they accept and refuse shows that the documents are enough.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

INTEROP: Final = Path(__file__).parent
ROOT: Final = INTEROP.parents[1]
CACHE: Final = ROOT / ".probegate" / "interop"
INSTALL_SECONDS: Final = 180
RUN_SECONDS: Final = 120


class NodeClientError(Exception):
    """The client, or the installation of its packages, failed; the text is its last line."""


def node_available() -> bool:
    """Return whether the client can run here.

    Raises:
        NodeClientError: under ``CI=true``, where it must run, if Node or npm is missing.
    """
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing and os.environ.get("CI") == "true":
        raise NodeClientError(f"not installed, and required here: {', '.join(missing)}")
    return not missing


def installed_packages() -> Path:
    """Install the client's pinned packages unless they are there; return the folder they are in."""
    manifest = (INTEROP / "package.json").read_bytes()
    done = CACHE / "installed.json"
    if done.exists() and done.read_bytes() == manifest:
        return CACHE
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", ".npmrc"):
        shutil.copyfile(INTEROP / name, CACHE / name)
    _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], INSTALL_SECONDS)
    # Written last, so that an installation that broke off is done again.
    done.write_bytes(manifest)
    return CACHE


def run_node_client(
    *,
    address: str,
    server_name: str,
    ca: Path,
    cert: Path,
    key: Path,
    search_id: str,
    order: Path,
    broker_key: bytes,
    protos: Path = ROOT / "protos",
) -> dict[str, Any]:
    """Run the client and return the document it prints.

    Args:
        address: the broker's, ``host:port``.
        server_name: the name in the broker's certificate.
        ca: PEM certificates to trust.
        cert: the caller's PEM certificate chain.
        key: the caller's PEM private key.
        search_id: a search of the caller's.
        order: a file with a SearchOrder in protobuf's JSON form, to preview.
        broker_key: the broker's raw Ed25519 public key, 32 bytes.
        protos: the folder with the .proto files.

    Raises:
        NodeClientError: it failed.
    """
    options = {
        "modules": installed_packages(),
        "address": address,
        "server-name": server_name,
        "ca": ca,
        "cert": cert,
        "key": key,
        "protos": protos,
        "search-id": search_id,
        "order": order,
        "broker-key": broker_key.hex(),
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    printed = _run(["node", str(INTEROP / "client.mjs"), *words], RUN_SECONDS)
    document: dict[str, Any] = json.loads(printed)
    return document


def run_node_log(*words: object, cases: Sequence[Mapping[str, Any]] = ()) -> Any:
    """Run ``log.mjs``, which needs no packages, and return the document it prints.

    Args:
        words: its command line.
        cases: what ``judge`` is to judge.

    Raises:
        NodeClientError: it failed; the text is why a log does not verify.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["node", str(INTEROP / "log.mjs"), *map(str, words)]
    return json.loads(_run(command, RUN_SECONDS, json.dumps(cases)))


def judged_by_sigstore(cases: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return what sigstore-js says of each receipt: None, or why it does not verify.

    Raises:
        NodeClientError: it failed.
    """
    modules = installed_packages()
    command = ["node", str(INTEROP / "sigstore.mjs"), f"--modules={modules}"]
    verdicts: list[str | None] = json.loads(_run(command, RUN_SECONDS, json.dumps(cases)))
    return verdicts


def _run(command: list[str], seconds: int, given: str = "") -> str:
    try:
        ended = subprocess.run(
            command,
            cwd=CACHE,
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeClientError(f"{command[0]} took longer than {seconds} s") from None
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"{command[0]} exit {ended.returncode}"]
        raise NodeClientError(lines[-1])
    return ended.stdout
