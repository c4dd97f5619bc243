"""Evidence that stands on its own: an append-only log that anybody can verify offline.

A log is a Merkle tree over canonical JSON entries, kept in the public C2SP formats. Its writer
shares a database with its caller, so that the caller's state and its log entry commit together;
whoever acts on an entry asks for a proof that it is in the log; and a witness makes sure that the
log shows everybody the same history.

>>> import asyncio, tempfile
>>> from pathlib import Path
>>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
>>> from sqlalchemy import create_engine
>>> from audit.notes import VerifierKey, note_signer
>>> from audit.proofs import format_proof, verify_receipt
>>> from audit.verify import verify_folder
>>> from audit.writer import LogWriter, NewEntry
>>> key = Ed25519PrivateKey.generate()
>>> origin = "broker.example/search"
>>> signer = note_signer(origin, key.sign, key.public_key().public_bytes_raw())
>>> async def example(folder):
...     log = LogWriter.open(
...         create_engine(f"sqlite:///{folder}/state.db"),
...         name="search", origin=origin, signer=signer, folder=folder / "log",
...     )
...     done = await log.append(NewEntry({"type": "order"}, private={"officer": "PC 1234"}))
...     await log.close()
...     return done
>>> folder = Path(tempfile.mkdtemp())
>>> done = asyncio.run(example(folder))
>>> receipt = format_proof(done.index, done.proof, done.checkpoint.note)
>>> verify_receipt(receipt, [VerifierKey.of(signer)], done.leaf).checkpoint.size
1
>>> verify_folder(folder / "log", VerifierKey.of(signer)).ok
True

Pure: ``merkle`` (RFC 6962), ``notes`` (signed notes, keys), ``checkpoints``, ``tiles`` (paths and
encodings), ``leaves`` (RFC 8785 entries, commitments), ``proofs`` (receipts).
Writing: ``writer`` (the sequencer), ``entry`` (what goes in and what comes back), ``tables``
(the database), ``tree`` (hashes of a live log), ``publisher`` (the folder's files).
Reading: ``folder``, ``reader``, ``verify``.
Watching: ``witness`` (an adapter's), ``cosigner`` and ``witness_server`` (one that cosigns for
others), ``witness_push`` (a log's side), ``policy_file`` and ``quorum`` (whose cosignatures count).
Telling: ``statistics``, ``suppression``, ``publication`` (what may be published); ``watching``,
``signals`` (leads to misuse).
Limits: ``settings``.
"""
