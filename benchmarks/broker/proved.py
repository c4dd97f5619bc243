"""The bare fan-out with a search's proofs and nothing else: what no broker can do without.

Beside the bare calls, for every search:

1. the order's signature and the two officer tokens' are verified;
2. an entry is appended to a log, signed, durable and with its proof, before any agency is called;
3. the grant is signed;
4. of each answer the report's signature and that of the agency's checkpoint are verified;
5. the result is signed, and another entry appended, before the caller has its answer.

Left out is everything else that the broker does: no certificate is looked at, no claim, field or
date; no agreement is asked; no message is made, no candidate read, nothing combined; no search,
token, quota or answer is kept, and no outcome has a name. Entries are the broker's last ones, and
the log is the project's own, with no other change in its transactions.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc
from joserfc.util import urlsafe_b64decode
from probegate.agency.v1 import match_service_pb2 as agency_pb
from probegate.broker.v1 import search_service_pb2 as broker_pb
from probegate.common.v1 import envelope_pb2

from audit import kinds
from audit.durable import durable_engine
from audit.embedded import search_log_keys
from audit.entry import NewEntry
from audit.evidence import ORDER_ENTRY
from audit.notes import KEY_ID_BYTES, note_signer
from audit.reader import LogReader
from audit.writer import LogWriter
from benchmarks.broker.bare import TIMEOUT_S, calls_to, secure_server
from trust.ceremony import MemberFolder
from trust.clock import utc_now
from trust.directory import Directory, KeyUse
from trust.directory_store import DirectoryStore
from trust.dsse import pae
from trust.ed25519 import is_valid
from trust.payload_types import PayloadType

METHOD: Final = "/probegate.benchmark.v1.Proved/FanOut"
ORIGIN: Final = "proved.example/search"
_SERVICE, _NAME = METHOD.strip("/").split("/")
_NOT_GIVEN: Final = "commitments"
"""What a log adds to an entry by itself."""

Command = tuple[Mapping[str, bytes], int, Path]
"""The requests that agencies are sent, the length of an answer, and the broker's log."""


class ProvedFanOut:
    """Verifies, appends and signs around the bare calls.

    Args:
        server: where it is served.
        port: of that server.
        calls: agency to its call.
        keys: key id to raw public key, of every member.
        log_keys: agency to the raw public key of its search log.
        signer: the broker's.
        log: where the entries go.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        port: int,
        calls: Mapping[str, Any],
        keys: Mapping[str, bytes],
        log_keys: Mapping[str, bytes],
        signer: Any,
        log: LogWriter,
    ) -> None:
        self._server, self._port = server, port
        self._calls, self._keys, self._log_keys = calls, keys, log_keys
        self._signer, self._log = signer, log
        self._requests: Mapping[str, bytes] = {}
        self._answer = b""
        self._entries: tuple[NewEntry, NewEntry]
        method = grpc.unary_unary_rpc_method_handler(self.fan_out)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {_NAME: method}),)
        )

    async def fan_out(self, data: bytes, _context: Any) -> bytes:
        """Make all calls at once, between the proofs of a search."""
        request = broker_pb.CreateSearchRequest.FromString(data)
        self._verify(request.order, PayloadType.SEARCH_ORDER)  # (1)
        for token in (request.officer_token, request.authoriser_token):
            self._verify_token(token)  # (1)
        await self._log.append(self._entries[0])  # (2)
        self._signer.sign(pae(PayloadType.SEARCH_GRANT, request.order.payload))  # (3)
        await asyncio.gather(*[self._ask(name) for name in self._calls])
        self._signer.sign(pae(PayloadType.SEARCH_RESULT, self._answer))  # (5)
        await self._log.append(self._entries[1])  # (5)
        return self._answer

    async def _ask(self, agency: str) -> None:
        answer = await self._calls[agency](self._requests[agency], timeout=TIMEOUT_S)
        response = agency_pb.MatchResponse.FromString(answer)
        self._verify(response.report, PayloadType.MATCH_REPORT)  # (4)
        text, _, lines = response.agency_checkpoint.rpartition(b"\n\n")
        signature = base64.b64decode(lines.rpartition(b" ")[2])[KEY_ID_BYTES:]
        _require(is_valid(self._log_keys[agency], signature, text + b"\n"))  # (4)

    def _verify(self, envelope: envelope_pb2.Envelope, payload_type: str) -> None:
        signature = envelope.signatures[0]
        signed = pae(payload_type, envelope.payload)
        _require(is_valid(self._keys[signature.key_id], signature.signature, signed))

    def _verify_token(self, token: str) -> None:
        signed, _, encoded = token.rpartition(".")
        key_id = json.loads(urlsafe_b64decode(token.partition(".")[0].encode()))["kid"]
        _require(is_valid(self._keys[key_id], urlsafe_b64decode(encoded.encode()), signed.encode()))

    async def handle(self, command: Command | None) -> int:
        """Take up what the broker was seen to send and to record, if any; return the port."""
        if command is not None:
            self._requests, answer_bytes, log = command
            self._answer = b"\x00" * answer_bytes
            self._entries = _entries(log)
        return self._port

    async def close(self) -> None:
        """Stop serving."""
        await self._server.stop(None)
        await self._log.close()


async def start(
    directory: Path,
    scheme_key: Path,
    state: Path,
    broker: Path,
    agencies: tuple[str, ...],
    log_folder: Path,
) -> ProvedFanOut:
    """Serve with the broker's certificate; commands are ``ProvedFanOut.handle``."""
    known = DirectoryStore(directory, scheme_key, state).load(utc_now())
    folder = MemberFolder(broker)
    key = folder.log_search_signer()
    log = LogWriter.open(
        durable_engine(f"sqlite:///{log_folder}.db"),
        name="search",
        origin=ORIGIN,
        signer=note_signer(ORIGIN, key.sign, key.public_key),
        folder=log_folder,
    )
    server, port = secure_server(folder, known)
    proxy = ProvedFanOut(
        server,
        port,
        calls_to(agencies, folder, known),
        _keys(known),
        {name: search_log_keys(known, name, utc_now())[0].public_key for name in agencies},
        folder.signer(),
        log,
    )
    await server.start()
    return proxy


def _entries(log: Path) -> tuple[NewEntry, NewEntry]:
    """Return the newest entry of each of the two kinds that a search makes."""
    newest = {}
    for _, facts in LogReader(log).facts():
        newest[facts["type"]] = {name: facts[name] for name in facts if name != _NOT_GIVEN}
    return NewEntry(newest[ORDER_ENTRY]), NewEntry(newest[kinds.RESULT])


def _keys(known: Directory) -> dict[str, bytes]:
    now = utc_now()
    return {
        key.kid: key.public_bytes
        for member in known.members()
        for use in (KeyUse.SIGN, KeyUse.IDENTITY)
        for key in known.keys(member.id, use, now)
    }


def _require(held: bool) -> None:  # noqa: FBT001 - the outcome of a check
    if not held:
        raise RuntimeError("a signature does not verify")
