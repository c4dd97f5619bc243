"""The gallery behind a bare mTLS call: no papers, no signatures, no log, and nothing sealed.

What any adapter could reach at most: the bytes of the adapter's requests and answers, the adapter's
own gathering and scan, and nothing else.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from agency_adapters.galleries.files import FileGallery, ScanLimits
from agency_adapters.galleries.gallery import Query
from agency_adapters.settings import AdapterSettings
from benchmarks.matching.engines import CORES
from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.directory_store import DirectoryStore
from trust.mtls import server_credentials

METHOD: Final = "/probegate.benchmark.v1.Bare/Match"
THRESHOLD: Final = 0.3
LIMIT: Final = 20
_SERVICE, _NAME = METHOD.strip("/").split("/")


class BareGallery:
    """Scans for the probe at the end of a request; its answers are as long as the adapter's."""

    def __init__(self, server: grpc.aio.Server, port: int, gallery: FileGallery) -> None:
        self._server = server
        self._port = port
        self._gallery = gallery
        self._probe_bytes = gallery.facts.dims * np.dtype("<f4").itemsize
        self._answer = b""
        self._serving = 0
        method = grpc.unary_unary_rpc_method_handler(self.match)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {_NAME: method}),)
        )

    async def match(self, request: bytes, _context: Any) -> bytes:
        """Search for one probe, with whatever else came."""
        self._serving += 1
        try:
            probe = np.frombuffer(request[-self._probe_bytes :], dtype="<f4").astype(np.float64)
            await self._gallery.search(asked(probe, self._serving))
        finally:
            self._serving -= 1
        return self._answer

    async def handle(self, answer_bytes: int) -> int:
        """Take up how long an answer is; return the port."""
        self._answer = b"\x00" * answer_bytes
        return self._port

    async def close(self) -> None:
        """Stop serving."""
        await self._server.stop(None)
        await self._gallery.close()


def asked(probe: np.ndarray, company: int = 1) -> Query:
    """Return the search that is compared, the same for all."""
    today = date.today()  # noqa: DTZ011 - a date of birth has no time zone either
    return Query(probe, THRESHOLD, LIMIT, today, company=company)


async def start(settings: AdapterSettings, gallery: Path, waiting: int) -> BareGallery:
    """Serve a gallery with an adapter's certificate and limits."""
    known = DirectoryStore.of(settings).load(utc_now())
    folder = MemberFolder(settings.member_folder)
    limits = ScanLimits(CORES, settings.probes_per_pass, waiting, settings.gather_patience_s)
    opened = await FileGallery.open(gallery, limits)
    await opened.eligible(date.today(), frozenset())  # noqa: DTZ011
    server = grpc.aio.server()
    credentials = server_credentials(folder.tls_cert, folder.tls_key, known)
    bare = BareGallery(server, server.add_secure_port("127.0.0.1:0", credentials), opened)
    await server.start()
    return bare
