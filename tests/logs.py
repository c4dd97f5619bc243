"""Logs made for a test: entries in, a signed folder out, with the writer that servers use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine

from audit.checkpoints import Checkpoint, sign_checkpoint
from audit.embedded import embed
from audit.notes import VerifierKey, note_signer
from audit.writer import LogWriter, NewEntry


@dataclass(slots=True)
class MadeLog:
    """A log that a test writes.

    Attributes:
        folder: its files.
        database: the URL of the database beside it.
        roots: the root at every size.
    """

    folder: Path
    origin: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    roots: list[bytes] = field(default_factory=list)

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder}.db"

    @property
    def vkey(self) -> VerifierKey:
        return VerifierKey.of(self._signer())

    def checkpoint(self, size: int) -> dict[str, Any]:
        """What earlier versions' entries held of this log's checkpoint."""
        return {"origin": self.origin, "size": size, "root": self.roots[size].hex()}

    def embedded(self, size: int, root: bytes | None = None) -> dict[str, Any]:
        """What another log's entry embeds of this log's checkpoint, or of another root."""
        checkpoint = Checkpoint(self.origin, size, self.roots[size] if root is None else root)
        return embed(sign_checkpoint(checkpoint, self._signer()).note)

    def write(
        self, entries: Sequence[Mapping[str, Any]], private: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        asyncio.run(self._write(entries, private))

    def _signer(self) -> Any:
        public = self.key.public_key().public_bytes_raw()
        return note_signer(self.origin, self.key.sign, public)

    async def _write(
        self, entries: Sequence[Mapping[str, Any]], private: Sequence[Mapping[str, Any]]
    ) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(self.database)
        log = LogWriter.open(
            engine, name="search", origin=self.origin, signer=self._signer(), folder=self.folder
        )
        if not self.roots:
            self.roots.append(log.checkpoint.checkpoint.root)
        for number, entry in enumerate(entries):
            kept = private[number] if number < len(private) else {}
            done = await log.append(NewEntry(entry, private=kept))
            self.roots.append(done.checkpoint.checkpoint.root)
        await log.close()
        engine.dispose()
