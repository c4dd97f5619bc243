"""Who is who, and how one organisation's word is checked by another.

Everything here starts from one pinned key: the scheme authority's. It signs the directory of
members and their keys; the directory says whose signature, seal, certificate or officer token is
whose, and at what time. Nothing else is trusted.

    >>> from datetime import UTC, datetime
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from trust import dsse
    >>> from trust.ceremony import Scheme
    >>> from trust.directory import KeyUse, Role
    >>> from trust.payload_types import PayloadType
    >>> now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    >>> with TemporaryDirectory() as folder:
    ...     scheme = Scheme.create(Path(folder), "Demo", "probegate.example", now)
    ...     force = scheme.add_member("northshire", Role.FORCE, now=now)
    ...     directory = scheme.publish_directory(now)
    ...     envelope = dsse.sign(PayloadType.SEARCH_ORDER, b"an order", force.signer())
    >>> resolve = directory.resolver("northshire", KeyUse.SIGN, now)
    >>> kids = dsse.verify(envelope, PayloadType.SEARCH_ORDER, resolve)
    >>> kids == (directory.current_key("northshire", KeyUse.SIGN, now).kid,)
    True

What is where:

- foundations: ``errors`` (the catalogue of reasons), ``clock``, ``files``, ``strict_json``;
- keys: ``algorithms``, ``ed25519``, ``keys`` (``Signer`` and ``Opener``, file-backed keys);
- signing and sealing: ``payload_types``, ``dsse``, ``sealing`` (HPKE);
- membership: ``directory`` (models and rules), ``directory_store`` (its files, no way back);
- people: ``tokens`` (officer tokens bound to a channel);
- channels: ``pki`` (the certificate authority), ``mtls`` (gRPC credentials, the peer's identity);
- setting up: ``member_folder`` (one member's keys and certificate), ``ceremony`` (a whole scheme);
- the wire: ``messages`` (the signed messages of a search), ``wire`` (the only reader of the
  generated stubs), ``rpc`` and ``server`` (errors and servers over gRPC), ``telemetry``.
"""
