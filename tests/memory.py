"""Looks for secrets where they must not be: in a process's memory and in files.

The kernel shows a process's memory to root and to its parent, which a test is to what it started.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

WINDOW: Final = 16
"""Bytes of a template or salt that are looked for at once."""
STEP: Final = 4
"""Bytes from one window to the next: one float32."""
_MIXED_BITS: Final = 20
_MULTIPLIER: Final = np.uint32(2_654_435_761)
"""Knuth's: 2**32 by the golden ratio."""
_CHUNK: Final = 16 * 2**20
_OVERLAP: Final = 4096
_UNREADABLE: Final = frozenset({"[vvar]", "[vsyscall]", "[vvar_vclock]"})


@dataclass(slots=True)
class Secrets:
    """What is looked for: windows of binary values, and whole words.

    Attributes:
        windows: every 16-byte window at 4-byte steps, with the name of what it is of.
        words: texts, in UTF-8.
    """

    windows: dict[bytes, str] = field(default_factory=dict)
    words: dict[bytes, str] = field(default_factory=dict)

    def add_binary(self, name: str, value: bytes, step: int = STEP) -> None:
        """Look for any 16 bytes of a value, wherever they start on a step of it."""
        for at in range(0, len(value) - WINDOW + 1, step):
            self.windows[value[at : at + WINDOW]] = name

    def add_words(self, name: str, values: Iterable[str]) -> None:
        """Look for texts."""
        self.words |= {value.encode(): f"{name} {value!r}" for value in values if value}

    def found_in(self, pieces: Iterable[bytes]) -> set[str]:
        """Return the names of the secrets that lie in any of the pieces, at any alignment."""
        eights = [int.from_bytes(one[: 2 * STEP], "little") for one in self.windows]
        firsts = np.unique(np.array(eights, dtype=np.uint64))
        # Most of memory is ruled out by a small table of what windows' first four bytes mix to.
        likely = np.zeros(1 << _MIXED_BITS, dtype=bool)
        likely[_mixed(firsts.astype("<u4"))] = True
        found: set[str] = set()
        for piece in pieces:
            found |= {name for word, name in self.words.items() if word in piece}
            for shift in range(min(STEP, len(piece))):
                count = (len(piece) - shift) // STEP
                numbers = np.frombuffer(piece, "<u4", count=count, offset=shift)
                hits = np.flatnonzero(likely[_mixed(numbers[:-1])])
                eight = numbers[hits] | numbers[hits + 1].astype("u8") << np.uint64(32)
                for hit in hits[np.isin(eight, firsts)]:
                    at = shift + STEP * int(hit)
                    name = self.windows.get(piece[at : at + WINDOW])
                    if name is not None:
                        found.add(name)
        return found


def _mixed(numbers: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return numbers * _MULTIPLIER >> np.uint32(32 - _MIXED_BITS)


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield everything a process can read of its own memory, in pieces that overlap."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            addresses, rights, *_, name = line.split(maxsplit=5) + [""] * (len(line.split()) < 6)
            if not rights.startswith("r") or name in _UNREADABLE:
                continue
            start, end = (int(number, 16) for number in addresses.split("-"))
            for at in range(start, end, _CHUNK):
                with suppress(OSError, ValueError):  # unmapped meanwhile, or a device
                    memory.seek(at)
                    yield memory.read(min(_CHUNK + _OVERLAP, end - at))


def files_under(*folders: Path) -> Iterator[bytes]:
    """Yield the contents of every file under some folders."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path.read_bytes()


def leaks(secrets: Secrets, places: Mapping[str, Iterable[bytes]]) -> dict[str, set[str]]:
    """Return what was found where; empty when nothing was."""
    found = {where: secrets.found_in(pieces) for where, pieces in places.items()}
    return {where: names for where, names in found.items() if names}
