r"""Changes a gallery in a child process, kills the child with SIGKILL, and looks at what is left.

Run as ``python -m tests.gallery_crashes FOLDER SEED ROUNDS``; prints one JSON object. In every
round a forked child makes changes, telling before each what it is about to do and after each that
it is done, and is killed: at the n-th flush or rename it makes (every one of them in turn), or
after some random time. Then the parent holds the gallery against what was told:

1. It opens, every digest right.
2. It is what it was after the last change that was acknowledged, or what the one under way makes.
3. Once the next command has held the lock, no file has a template or an id of a record that is not
   in the gallery, and none is there that belongs to no gallery.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries import editing as editing_module
from agency_adapters.galleries.editing import JOURNAL, LOCK, editing, swept
from agency_adapters.galleries.manifest import MANIFEST
from agency_adapters.galleries.segment_content import NewRecord, contents_of
from agency_adapters.galleries.store import SEGMENTS, Check, StoredGallery
from agency_adapters.galleries.templates import unit_rows
from tests.galleries import custody_record

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIMS = 32
SEGMENT_ROWS = 24
PEOPLE = 90
WINDOW = 16
"""How many of a template's bytes are looked for; no other has the same."""
State = dict[str, int]
"""Record id to the version of its template."""


@cache  # every round looks for each that ever was
def template(name: str, version: int) -> np.ndarray:
    seed = int(name[1:]) * 1000 + version
    made: np.ndarray = unit_rows(np.random.default_rng(seed).standard_normal((1, DIMS)))[0]
    return made


def new_record(name: str, version: int) -> NewRecord:
    return NewRecord(custody_record(name), template(name, version))


def change(gallery: Path, what: str, versions: State) -> None:
    """Make one change, as the commands do."""
    with editing(gallery, CUSTODY) as editor:
        match what:
            case "enrol":
                editor.enrol([new_record(*one) for one in versions.items()], NOW)
            case "erase":
                editor.erase(sorted(versions), NOW)
            case "compact":
                editor.compact(NOW)
            case _:
                records = (new_record(*one) for one in versions.items())
                editor.replace("m-1", DIMS, contents_of(CUSTODY, records), NOW)


def after(state: State, what: str, versions: State) -> State:
    """What a change makes of a gallery."""
    match what:
        case "enrol":
            return state | versions
        case "erase":
            return {name: version for name, version in state.items() if name not in versions}
        case "compact":
            return state
        case _:
            return dict(versions)


def pick(chance: random.Random, state: State, stamp: int) -> tuple[str, State]:
    """Choose a change."""
    what = chance.choices(["enrol", "erase", "compact", "import"], [5, 4, 2, 1])[0]
    names = [f"R{n:03d}" for n in chance.sample(range(PEOPLE), chance.randint(1, 12))]
    if what == "erase":
        names = chance.sample(sorted(state), min(len(state), len(names)))
    if what == "import":
        names = [f"R{n:03d}" for n in chance.sample(range(PEOPLE), 40)]
    if what == "compact" or not names:
        return "compact", {}
    return what, dict.fromkeys(names, stamp)


def dying_at(step: int) -> None:
    """Have this process killed at the ``step``-th flush or rename that it makes from now on."""
    left = [step]

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)

        return call

    os.fsync = deadly(os.fsync)
    os.replace = deadly(os.replace)
    os.rename = deadly(os.rename)
    os.rmdir = deadly(os.rmdir)
    Path.replace = deadly(Path.replace)  # type: ignore[method-assign]


def child(gallery: Path, chance: random.Random, state: State, told: int, step: int | None) -> None:
    """Make changes until killed, or until a few are made."""
    for number in range(3):
        what, versions = pick(chance, state, chance.randrange(1, 1000))
        os.write(told, json.dumps(["about", what, versions]).encode() + b"\n")
        if step is not None and number == 0:
            dying_at(step)
        change(gallery, what, versions)
        os.write(told, b'["done"]\n')
        state = after(state, what, versions)


def held(gallery: Path) -> dict[str, bytes]:
    """Read which records are there, and their templates (1)."""
    stored = StoredGallery.open(gallery, check=Check.FULL)
    found = {}
    for segment in stored.segments:
        for row in range(segment.rows):
            found[segment.record_id(row)] = segment.templates[row].tobytes()
    assert len(found) == stored.manifest.count
    return found


def left_behind(gallery: Path, gone: dict[str, set[int]], state: State) -> list[str]:
    """Return what is in some file of records and versions that are no more (3)."""
    content = b"".join(path.read_bytes() for path in gallery.rglob("*") if path.is_file())
    found = sorted({path.name for path in gallery.iterdir()} - {MANIFEST, JOURNAL, LOCK, SEGMENTS})
    # Wherever it may lie in a file, and however many versions there ever were.
    windows = {content[at : at + WINDOW] for at in range(len(content))}
    for name, versions in gone.items():
        if name not in state and f'"{name}"'.encode() in content:
            found.append(name)
        found += [
            f"{name}/{version}"
            for version in versions
            if state.get(name) != version and template(name, version).tobytes()[:WINDOW] in windows
        ]
    return found


def round_of(
    gallery: Path, seed: int, state: State, gone: dict[str, set[int]], step: int | None
) -> tuple[State, bool]:
    """Have one child killed, judge what it left, and return the state and whether it was killed."""
    chance = random.Random(seed)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(gallery, chance, dict(state), writing, step)
        finally:
            os._exit(0)
    os.close(writing)
    if step is None:
        time.sleep(random.Random(seed + 1).uniform(0.0, 0.05))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading) as stream:
        lines = [json.loads(line) for line in stream if line.endswith("\n")]
    possible = [dict(state)]
    for line in lines:
        if line[0] == "about":
            possible.append(after(possible[-1], line[1], line[2]))
            for name, version in line[2].items():
                gone.setdefault(name, set()).add(version)
        else:
            possible = possible[-1:]
    data = held(gallery)
    for candidate in possible[-2:]:
        if data == {name: template(name, v).tobytes() for name, v in candidate.items()}:  # (2)
            state = candidate
            break
    else:
        raise AssertionError(f"seed {seed}: the gallery is neither before nor after {lines[-1:]}")
    swept(gallery)
    remains = left_behind(gallery, gone, state)
    if remains:
        raise AssertionError(f"seed {seed}: still in a file: {remains}")
    return state, os.WIFSIGNALED(status)


def main(folder: str, seed: str, rounds: str) -> None:
    setattr(editing_module, "SEGMENT_ROWS", SEGMENT_ROWS)  # noqa: B010 - it is a constant elsewhere
    gallery = Path(folder) / "gallery"
    state: State = {f"R{n:03d}": 0 for n in range(60)}
    change(gallery, "import", state)
    gone: dict[str, set[int]] = {name: {0} for name in state}
    killed = steps = 0
    for number in range(int(rounds)):
        step = number % 40 if number % 2 else None
        state, dead = round_of(gallery, int(seed) + number, state, gone, step)
        killed += dead
        steps += step is not None and dead
    json.dump({"rounds": int(rounds), "killed": killed, "at_a_step": steps}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
