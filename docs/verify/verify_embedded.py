# ruff: noqa: INP001 - a script on its own, not part of a package
"""Hold a Probegate log to what the logs of other parties embed of it; beside verify_log.py.

    python verify_embedded.py FOLDER VKEY OTHER [OTHER ...]

FOLDER and VKEY are as for verify_log.py, which is run first. OTHER is the folder of another
party's log, such as the broker's when FOLDER is an agency's: each checkpoint of this log that its
entries embed must be signed by VKEY, and this log must continue it. Prints what is wrong and exits
1, or prints how many checkpoints there are and exits 0; where there are none, nothing is shown of
this log. OTHER itself is only read: verify it with verify_log.py and its own key.
"""

import base64
import json
import sys
from collections.abc import Iterator
from functools import reduce
from itertools import chain
from pathlib import Path

from verify_log import (
    WIDTH,
    Wrong,
    leaf_hash,
    node_hash,
    open_checkpoint,
    read_entries,
    tree_hash,
    verify,
)


def embedded(said: object, origin: str) -> Iterator[str]:
    """Yield the signed checkpoints of a log that an entry of another log embeds, as notes."""
    if isinstance(said, dict):
        if "signature" in said and said.get("origin") == origin:
            root = base64.b64encode(bytes.fromhex(str(said.get("root", "")))).decode()
            text = f"{origin}\n{said.get('size')}\n{root}\n"
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
    for size, entry in enumerate(chain([b""], all_entries(folder))):
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
    try:
        text = Path(vkey).read_text("utf-8") if Path(vkey).is_file() else vkey
        origin, size, _ = verify(folder, text)
        held = sum(check_continues(folder, text, Path(other)) for other in others)
    except (Wrong, OSError, ValueError) as error:
        print(f"WRONG {error}")  # noqa: T201 - a command's output
        return 1
    shown = "" if held or not others else ", so they show nothing of it"
    print(f"OK {origin} size {size} continues {held} checkpoints that others embed{shown}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
