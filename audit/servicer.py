"""An organisation's logs over gRPC, the same at the broker and at every adapter.

1. Checkpoints and proofs hold nothing but hashes: any member may read them, for a log that nobody
   can check convinces nobody.
2. Entries are read by auditors and by the organisation itself, for one of the four purposes of
   DPA 2018 s.62(4), and each read is an entry of the admin log, durable before anything is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from audit import wire
from audit.kinds import READ
from audit.organisation import admin_leaf
from audit.writer import LogWriter, NewEntry
from trust.directory import Role
from trust.errors import ProbegateError, Reason
from trust.rpc import Call, Servicer, Surroundings, unary

MAX_PAGE: Final = 256
"""Most entries in one answer: one bundle's worth."""
ANY_MEMBER: Final = (Role.AUTHORITY, Role.FORCE, Role.BROKER, Role.AGENCY, Role.AUDITOR)


class AuditServicer(Servicer, wire.AuditServicerBase):
    """Reads the logs named ``search`` and ``admin`` of member ``owner``."""

    def __init__(
        self, surroundings: Surroundings, *, owner: str, logs: Mapping[str, LogWriter]
    ) -> None:
        super().__init__(surroundings)
        self._owner = owner
        self._logs = logs

    @unary(*ANY_MEMBER)
    async def GetCheckpoint(  # noqa: N802 - gRPC's name
        self, request: wire.GetCheckpointRequest, call: Call
    ) -> wire.GetCheckpointResponse:
        """Read the newest checkpoint (1)."""
        del call
        return wire.GetCheckpointResponse(checkpoint=self._log(request.log).checkpoint.note)

    @unary(*ANY_MEMBER)
    async def GetInclusionProof(  # noqa: N802
        self, request: wire.GetInclusionProofRequest, call: Call
    ) -> wire.GetInclusionProofResponse:
        """Prove that an entry is in the log (1)."""
        del call
        hashes = self._log(request.log).inclusion(request.index, request.tree_size)
        return wire.GetInclusionProofResponse(hashes=hashes)

    @unary(*ANY_MEMBER)
    async def GetConsistencyProof(  # noqa: N802
        self, request: wire.GetConsistencyProofRequest, call: Call
    ) -> wire.GetConsistencyProofResponse:
        """Prove that one checkpoint continues another (1)."""
        del call
        hashes = self._log(request.log).consistency(request.old_size, request.new_size)
        return wire.GetConsistencyProofResponse(hashes=hashes)

    @unary(*ANY_MEMBER)
    async def ListEntries(  # noqa: N802
        self, request: wire.ListEntriesRequest, call: Call
    ) -> wire.ListEntriesResponse:
        """Read a page of entries for a stated purpose, on the record (2)."""
        if call.peer.member.role is not Role.AUDITOR and call.peer.member.id != self._owner:
            raise ProbegateError(Reason.CHANNEL_ROLE)
        purpose = wire.PURPOSES.get(request.purpose)
        if purpose is None:
            raise ProbegateError(Reason.READ_PURPOSE_MISSING, field="purpose")
        if request.page_size < 0:
            raise ProbegateError(Reason.PAGE_INVALID, field="page_size")
        log = self._log(request.log)
        size = log.checkpoint.checkpoint.size
        end = min(size, request.start + min(request.page_size or MAX_PAGE, MAX_PAGE))
        await self._logs["admin"].append(
            NewEntry(
                leaf=admin_leaf(
                    READ,
                    datetime.now(UTC),
                    reader=call.peer.member.id,
                    log=wire.LOG_NAMES[request.log],
                    start=request.start,
                    end=max(end, request.start),
                    purpose=purpose,
                )
            )
        )
        entries = [log.leaf(index) for index in range(request.start, end)]
        return wire.ListEntriesResponse(entries=entries, next_start=max(end, request.start))

    def _log(self, number: int) -> LogWriter:
        name = wire.LOG_NAMES.get(number)  # type: ignore[call-overload]
        if name is None:
            raise ProbegateError(Reason.NOT_FOUND, field="log")
        return self._logs[name]
