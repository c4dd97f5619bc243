"""A witness as a process: key, memory and listener, from its settings to the last signal."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from audit.cosigner import Cosigner
from audit.cosigner_memory import open_memory
from audit.notes import NoteSigner, SignatureType, VerifierKey, note_signer
from audit.policy_file import read_policy
from audit.settings import WitnessServerSettings
from audit.witness_server import WitnessServer
from trust import files, telemetry
from trust.keys import FileSigner


def witness_signer(name: str, key: Path) -> NoteSigner:
    """Return a witness's signer of a key file.

    Raises:
        ProbegateError: ``FILE_MISSING``, ``KEY_FILE_INVALID`` or ``CONFIG_INVALID``.
    """
    held = FileSigner.load(key)
    return note_signer(name, held.sign, held.public_key, SignatureType.COSIGNATURE_V1)


async def run(settings: WitnessServerSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ProbegateError: why it cannot.
    """
    signer = witness_signer(settings.name, settings.key)
    policy = read_policy(settings.policy)
    engine = open_memory(settings.state_dir, settings.database_url)
    server: WitnessServer | None = None
    try:
        cosigner = Cosigner.open(
            engine,
            policy,
            signer,
            history_max=settings.history_max_count,
            evidence_max=settings.evidence_max_count,
        )
        server = WitnessServer(cosigner, settings)
        stopped = asyncio.Event()
        for one in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(one, stopped.set)
        port = await server.start()
        if settings.port_file is not None:
            files.write_atomic(settings.port_file, f"{port}\n".encode())
        telemetry.log(f"witness {VerifierKey.of(signer)} serves", port=port, count=len(policy.logs))
        await stopped.wait()
    finally:
        if server is not None:
            await server.close()
        engine.dispose()
