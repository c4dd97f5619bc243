"""Erasures that were begun, as they are kept until their certificate is handed over.

1. Before anything is destroyed it is written what will be: which of the records the gallery held,
   their image files, and the generation before. An erasure that was cut short is finished when the
   same is asked for again, and its certificate names what the first attempt destroyed as well.
2. The signed certificate is kept with it, so that what could not be written to a file is given
   again, the very same.
3. All of this names record ids. It goes when the certificate is handed over, and
   ``CERTIFICATE_KEPT`` after it was signed at the latest (``retention``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, insert, select, update

from agency_adapters.tables import erasures
from audit.tables import state_storage
from trust.clock import to_us
from trust.dsse import Envelope
from trust.strict_json import canonical

CERTIFICATE_KEPT: Final = timedelta(days=30)
"""How long a certificate that is not handed over is kept."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An erasure that was begun.

    Attributes:
        key: what it is known by.
        erased: the records that the gallery held, in order.
        images: the names of their image files, in order.
        generation: the gallery's before it.
        certificate: the signed certificate, once there is one.
    """

    key: bytes
    erased: tuple[str, ...]
    images: tuple[str, ...]
    generation: int
    certificate: Envelope | None = None

    def and_more(self, more: Begun) -> Begun:
        """Return it with what is found when it is asked for again, which is not certified yet."""
        return replace(
            self,
            erased=tuple(sorted({*self.erased, *more.erased})),
            images=tuple(sorted({*self.images, *more.images})),
            certificate=None,
        )


def key_of(record_ids: Sequence[str], authority: str) -> bytes:
    """Return what the erasure of some records, each once and in order, is known by."""
    return sha256(canonical([authority, list(record_ids)])).digest()


def begin(engine: Engine, found: Begun, at: datetime, *, said: bool = False) -> Begun | None:
    """Write what is to be destroyed (1); return it with what was before.

    Args:
        engine: the adapter's database.
        found: what there is to destroy now.
        at: when.
        said: whether something was kept of them that could still be told, which is gone by now.

    Returns:
        the erasure. Where it was certified and nothing of it has come back, with its certificate;
        None where there is nothing to destroy, and never was under this key.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    with state_storage(), engine.begin() as connection:
        known = _known(connection, found.key)
        if not found.erased and not found.images and not said:
            return known
        begun = found if known is None else known.and_more(found)
        connection.execute(delete(erasures).where(erasures.c.key == found.key))
        row = {
            "key": begun.key,
            "begun_us": to_us(at),
            "erased": json.dumps(begun.erased),
            "images": json.dumps(begun.images),
            "generation": begun.generation,
        }
        connection.execute(insert(erasures), row)
    return begun


def keep_certificate(engine: Engine, key: bytes, certificate: Envelope, at: datetime) -> None:
    """Write the certificate of an erasure that is done (2).

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE`` or ``DISK_FULL``.
    """
    signed = {"certificate": certificate.to_json(), "certified_us": to_us(at)}
    with state_storage(), engine.begin() as connection:
        connection.execute(update(erasures).where(erasures.c.key == key).values(signed))


def forget(engine: Engine, key: bytes) -> None:
    """Erase what is kept of an erasure (3).

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    with state_storage(), engine.begin() as connection:
        connection.execute(delete(erasures).where(erasures.c.key == key))


def forget_old(engine: Engine, now: datetime) -> bool:
    """Erase what is kept of erasures that were certified long ago (3); return whether any was.

    Raises:
        ProbegateError: ``STATE_UNAVAILABLE``.
    """
    old = erasures.c.certified_us <= to_us(now - CERTIFICATE_KEPT)
    with state_storage(), engine.begin() as connection:
        return bool(connection.execute(delete(erasures).where(old)).rowcount)


def _known(connection: Connection, key: bytes) -> Begun | None:
    row: Any = connection.execute(select(erasures).where(erasures.c.key == key)).first()
    if row is None:
        return None
    return Begun(
        key=key,
        erased=tuple(json.loads(row.erased)),
        images=tuple(json.loads(row.images)),
        generation=row.generation,
        certificate=Envelope.from_json(row.certificate) if row.certificate else None,
    )
