# ruff: noqa: INP001 - a script on its own, not part of a package
"""Verify a Probegate log with nothing of Probegate: only hashlib, base64, json and cryptography.

    python verify_log.py FOLDER VKEY [OTHER ...]

FOLDER holds the log's files. VKEY is the log's public key as text or the name of a file that holds
it; take it from the scheme's directory, not from FOLDER. OTHER is the folder of another party's
log: the checkpoints of this log that its entries embed must be signed by VKEY, and this log must
continue each of them. Prints what is wrong and exits 1, or prints the size and root and exits 0.
README.md in this folder describes every format.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from functools import reduce
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
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(tree_hash(hashes[:split]), tree_hash(hashes[split:]))


def parse_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Read ``name+hex id+base64(0x01 || key)`` into (name, id, public key)."""
    name, key_id, encoded = text.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    derived = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if raw[0] != 1 or len(raw) != 1 + HASH or derived.hex() != key_id:
        raise Wrong("the vkey is malformed")
    return name, derived, raw[1:]


def open_checkpoint(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Check the signature of a checkpoint; return (origin, size, root)."""
    name, key_id, public_key = parse_vkey(vkey)
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    if not signatures.endswith("\n"):
        raise Wrong("checkpoint: cut short")
    verified = False
    for line in signatures.splitlines():
        _dash, signer, encoded = line.split(" ")
        payload = base64.b64decode(encoded, validate=True)
        if signer == name and payload[:4] == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(public_key).verify(payload[4:], text.encode())
            except InvalidSignature:
                raise Wrong("checkpoint: the signature does not verify") from None
            verified = True
    if not verified:
        raise Wrong("checkpoint: not signed by this key")
    origin, size, root, rest = text.split("\n", 3)
    if origin != name or rest:
        raise Wrong("checkpoint: not of this log")
    return origin, int(size), base64.b64decode(root, validate=True)


def tile_path(level: str, number: int, width: int) -> str:
    """Where a tile or a bundle lies: 1234067 is x001/x234/067; partial ones end in .p/WIDTH."""
    digits = str(number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join(["tile", level, *("x" + one for one in groups[:-1]), groups[-1]])
    return path if width == WIDTH else f"{path}.p/{width}"


def read_tile(folder: Path, level: str, number: int, width: int) -> bytes:
    """Return a tile's bytes; a partial one may already have become full."""
    for path in (tile_path(level, number, width), tile_path(level, number, WIDTH)):
        if (folder / path).is_file():
            return (folder / path).read_bytes()
    raise Wrong(f"{tile_path(level, number, width)}: missing")


def read_hashes(folder: Path, level: int, number: int, width: int) -> list[bytes]:
    """Return the first ``width`` hashes of a tile."""
    raw = read_tile(folder, str(level), number, width)
    if len(raw) not in {width * HASH, WIDTH * HASH}:
        raise Wrong(f"{tile_path(str(level), number, width)}: wrong length")
    return [raw[at : at + HASH] for at in range(0, width * HASH, HASH)]


def read_entries(folder: Path, number: int, width: int) -> list[bytes]:
    """Return the first ``width`` entries of a bundle: each behind its length in two bytes."""
    raw = read_tile(folder, "entries", number, width)
    entries, at = [], 0
    while at < len(raw):
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        entries.append(raw[at + 2 : end])
        at = end
    if at != len(raw) or len(entries) not in {width, WIDTH}:
        raise Wrong(f"{tile_path('entries', number, width)}: malformed")
    return entries[:width]


def check_entries(folder: Path, number: int, hashes: list[bytes]) -> None:
    """Check that a bundle holds exactly the entries of a level 0 tile, as JSON objects."""
    for at, entry in enumerate(read_entries(folder, number, len(hashes))):
        where = f"{tile_path('entries', number, len(hashes))}: entry {number * WIDTH + at}"
        if leaf_hash(entry) != hashes[at]:
            raise Wrong(f"{where}: not the entry that was logged")
        if not isinstance(json.loads(entry), dict):
            raise Wrong(f"{where}: not a JSON object")


def verify(folder: Path, vkey: str) -> tuple[str, int, bytes]:
    """Verify everything in a folder; return (origin, size, root) or raise Wrong."""
    origin, size, root = open_checkpoint((folder / "checkpoint").read_text("utf-8"), vkey)
    level, count = 0, size
    below: list[bytes] = []
    rest: list[bytes] = []
    while count:
        roots: list[bytes] = []
        for number in range(-(-count // WIDTH)):
            width = min(WIDTH, count - number * WIDTH)
            hashes = read_hashes(folder, level, number, width)
            if level == 0:
                check_entries(folder, number, hashes)
            elif hashes != below[number * WIDTH : number * WIDTH + width]:
                raise Wrong(f"{tile_path(str(level), number, width)}: not the roots of its tiles")
            if width == WIDTH:
                roots.append(tree_hash(hashes))
            else:
                # What lower levels left over is the last, incomplete, subtree of this level.
                rest = [tree_hash(hashes + rest)]
        level, count, below = level + 1, count // WIDTH, roots
    if tree_hash(rest) != root:
        raise Wrong("checkpoint: the entries do not hash to the signed root")
    return origin, size, root


def embedded(said: object, origin: str) -> Iterator[str]:
    """Yield the signed checkpoints of a log that an entry of another log embeds, as notes."""
    if isinstance(said, dict):
        if "signature" in said and said.get("origin") == origin:
            root = base64.b64encode(bytes.fromhex(said["root"])).decode()
            text = f"{origin}\n{said['size']}\n{root}\n"
            yield f"{text}\n\u2014 {origin} {said['signature']}\n"
        said = list(said.values())
    for one in said if isinstance(said, list) else ():
        yield from embedded(one, origin)


def all_entries(folder: Path) -> Iterator[bytes]:
    """Yield the entries under a log's checkpoint; reading does not verify."""
    size = int((folder / "checkpoint").read_text("utf-8").split("\n")[1])
    for number in range(-(-size // WIDTH)):
        yield from read_entries(folder, number, min(WIDTH, size - number * WIDTH))


def check_continues(folder: Path, vkey: str, other: Path) -> int:
    """Check that a verified log continues what another log embeds of it; return how many."""
    origin, whole, _ = open_checkpoint((folder / "checkpoint").read_text("utf-8"), vkey)
    shown: dict[int, set[bytes]] = {}
    count = 0
    for entry in all_entries(other):
        for note in embedded(json.loads(entry), origin):
            _, size, root = open_checkpoint(note, vkey)
            shown.setdefault(size, set()).add(root)
            count += 1
    if any(size > whole for size in shown):
        raise Wrong(f"{other}: embeds {max(shown)} entries of this log, which has {whole}")
    subtrees: list[bytes] = []  # complete ones, from left to right
    for size, entry in enumerate([b"", *all_entries(folder)]):
        if size:
            subtrees.append(leaf_hash(entry))
            while len(subtrees) > size.bit_count():
                right, left = subtrees.pop(), subtrees.pop()
                subtrees.append(node_hash(left, right))
        # To the right of them all hangs what is not complete: folded, they are the root.
        root = reduce(
            lambda right, left: node_hash(left, right), reversed(subtrees or [tree_hash([])])
        )
        if not shown.get(size, {root}) <= {root}:
            raise Wrong(f"{other}: embeds another history of {size} entries of this log")
    return count


def main() -> int:
    """Run from the command line."""
    folder, vkey, *others = Path(sys.argv[1]), sys.argv[2], *sys.argv[3:]
    if Path(vkey).is_file():
        vkey = Path(vkey).read_text("utf-8")
    try:
        origin, size, root = verify(folder, vkey)
        held = sum(check_continues(folder, vkey, Path(other)) for other in others)
    except (Wrong, OSError, ValueError) as error:
        print(f"WRONG {error}")  # noqa: T201 - a command's output
        return 1
    print(f"OK {origin} size {size} root {base64.b64encode(root).decode()}")  # noqa: T201
    if others:
        print(f"OK it continues {held} checkpoints that other logs embed")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
