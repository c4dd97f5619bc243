# ruff: noqa: INP001 - a script on its own, not part of a package
"""Verify a Probegate log with nothing of Probegate: only hashlib, base64, json and cryptography.

    python verify_log.py FOLDER VKEY

FOLDER holds the log's files. VKEY is the log's public key as text or the name of a file that holds
it; take it from the scheme's directory, not from FOLDER. Prints what is wrong and exits 1, or
prints the size and root and exits 0. README.md in this folder describes every format.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH, HASH = 256, 32


class Wrong(Exception):  # noqa: N818 - it reads better where it is raised
    """Something does not verify."""


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962: a leaf's hash."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962: a node's hash."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1: the root over some hashes; the left half is a power of two."""
    if len(hashes) <= 1:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(tree_hash(hashes[:split]), tree_hash(hashes[split:]))


def parse_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Read ``name+hex id+base64(0x01 || key)`` into (name, id, public key)."""
    name, key_id, encoded = text.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    derived = hashlib.sha256(f"{name}\n".encode() + raw).digest()[:4]
    if raw[0] != 1 or len(raw) != 1 + HASH or derived.hex() != key_id:
        raise Wrong("the vkey is malformed")
    return name, derived, raw[1:]


def open_checkpoint(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Check the signature of a checkpoint; return (origin, size, root)."""
    name, key_id, public_key = parse_vkey(vkey)
    text, _, signatures = note.rpartition("\n\n")
    signed, good = f"{text}\n".encode(), 0
    if not signatures.endswith("\n"):
        raise Wrong("checkpoint: cut short")
    for line in signatures.splitlines():
        _dash, signer, encoded = line.split(" ")
        payload = base64.b64decode(encoded, validate=True)
        if signer == name and payload[:4] == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(public_key).verify(payload[4:], signed)
            except InvalidSignature:
                raise Wrong("checkpoint: the signature does not verify") from None
            good += 1
    if not good:
        raise Wrong("checkpoint: not signed by this key")
    origin, size, root = text.split("\n")
    if origin != name:
        raise Wrong("checkpoint: not of this log")
    return origin, int(size), base64.b64decode(root, validate=True)


def read_tile(folder: Path, level: object, number: int, width: int) -> tuple[str, bytes]:
    """Return a tile's name and bytes: 1234067 is x001/x234/067; partial ones end in .p/WIDTH."""
    digits = f"{number:,}".split(",")
    groups = ["x" + one.zfill(3) for one in digits[:-1]] + [digits[-1].zfill(3)]
    whole = "/".join(["tile", str(level), *groups])
    for path in [whole] if width == WIDTH else [f"{whole}.p/{width}", whole]:  # now full, maybe
        if (folder / path).is_file():
            return path, (folder / path).read_bytes()
    raise Wrong(f"{whole}: missing, {width} wide")


def read_hashes(folder: Path, level: int, number: int, width: int) -> list[bytes]:
    """Return the first ``width`` hashes of a tile."""
    path, raw = read_tile(folder, level, number, width)
    if len(raw) not in {width * HASH, WIDTH * HASH}:
        raise Wrong(f"{path}: wrong length")
    return [raw[at : at + HASH] for at in range(0, width * HASH, HASH)]


def read_entries(folder: Path, number: int, width: int) -> list[bytes]:
    """Return the first ``width`` entries of a bundle: each behind its length in two bytes."""
    path, raw = read_tile(folder, "entries", number, width)
    entries, at = [], 0
    while at < len(raw):
        start, at = at + 2, at + 2 + int.from_bytes(raw[at : at + 2], "big")
        entries.append(raw[start:at])
    if at != len(raw) or len(entries) not in {width, WIDTH}:
        raise Wrong(f"{path}: malformed")
    return entries[:width]


def verify(folder: Path, vkey: str) -> tuple[str, int, bytes]:
    """Verify everything in a folder; return (origin, size, root) or raise Wrong."""
    origin, size, root = open_checkpoint((folder / "checkpoint").read_text("utf-8"), vkey)
    level, count, below, rest = 0, size, list[bytes](), list[bytes]()
    while count:
        roots: list[bytes] = []
        for number in range(-(-count // WIDTH)):
            first, width = number * WIDTH, min(WIDTH, count - number * WIDTH)
            hashes = read_hashes(folder, level, number, width)
            if level and hashes != below[first : first + width]:
                raise Wrong(f"tile {number} of level {level}: not the roots of its tiles")
            for at, entry in enumerate([] if level else read_entries(folder, number, width)):
                if leaf_hash(entry) != hashes[at]:
                    raise Wrong(f"bundle {number}: entry {first + at} is not the one logged")
                if not isinstance(json.loads(entry), dict):
                    raise Wrong(f"bundle {number}: entry {first + at} is not a JSON object")
            if width == WIDTH:
                roots.append(tree_hash(hashes))
            else:  # what lower levels left over is the last, incomplete, subtree of this level
                rest = [tree_hash(hashes + rest)]
        level, count, below = level + 1, count // WIDTH, roots
    if tree_hash(rest) != root:
        raise Wrong("checkpoint: the entries do not hash to the signed root")
    return origin, size, root


def main() -> int:
    """Run from the command line."""
    folder, vkey = Path(sys.argv[1]), sys.argv[2]
    try:
        vkey = Path(vkey).read_text("utf-8") if Path(vkey).is_file() else vkey
        origin, size, root = verify(folder, vkey)
    except (Wrong, OSError, ValueError) as error:
        print(f"WRONG {error}")  # noqa: T201 - a command's output
        return 1
    print(f"OK {origin} size {size} root {base64.b64encode(root).decode()}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
