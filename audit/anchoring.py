"""RFC 3161: an authority outside the federation says since when a log's entries exist.

Witnesses say that nobody is shown another history; a timestamp says that this one is not younger
than it claims, even if every key of the federation were in one hand.

The rules, as numbered in the code:

1. What is timestamped is the signed note of a checkpoint, its exact bytes, by SHA-256. The log's
   key must have signed it.
2. A token counts if the authority granted it, it is over those bytes, and its signer has the
   critical extended key usage for timestamping and leads to a certificate that the reader trusts
   and named itself, valid at the token's time. Revocation is not looked up: that needs a network.
3. An answer must hold the nonce that was sent, and is checked as (2) before it is kept.
4. A token proves something of a log only if the log continues the checkpoint it is over.

The parsing and the signatures are rfc3161-client's (extra ``anchor``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from audit.checkpoints import Checkpoint, open_checkpoint
from audit.folder import LogFolder
from audit.log_source import call
from audit.notes import VerifierKey
from audit.roots import root_at
from audit.timestamp_tokens import with_sorted_certificates
from trust import files
from trust.errors import ProbegateError, Reason

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

STORE_FOLDER: Final = "anchored"
"""Where notes and tokens are kept, in the log's own folder unless told otherwise."""
TOKEN_MAX_BYTES: Final = 65_536
"""Longest answer of an authority that is read; one with its certificates takes about 6 kB."""
_QUERY: Final = "application/timestamp-query"
_OK: Final = 200
_NOTE, _TOKEN = ".note", ".tsr"
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Stamped:
    """What a token that counts says.

    Attributes:
        checkpoint: of this one.
        at: it existed by then, as the authority says.
        authority: the signer's name, as its certificate has it.
    """

    checkpoint: Checkpoint
    at: datetime
    authority: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One token that was found: what it says, or why it does not count."""

    file: str
    stamped: Stamped | None
    error: ProbegateError | None = None


def read_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """Read the certificates of authorities that are trusted, PEM.

    Raises:
        ProbegateError: ``FILE_MISSING``; ``CONFIG_INVALID`` if there is none.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(files.read(path)))
    except ValueError:
        why = f"{path.name}: no certificates in PEM"
        raise ProbegateError(Reason.CONFIG_INVALID, why, setting="tsa-cert") from None


def anchor(
    folder: Path,
    url: str,
    authorities: Sequence[x509.Certificate],
    *,
    key: VerifierKey | None = None,
    store: Path | None = None,
    ca_file: Path | None = None,
) -> Stamped:
    """Have a log's newest checkpoint timestamped, and keep the token.

    Args:
        folder: the log's files.
        url: the authority's address, http or https.
        authorities: the certificates to trust.
        key: the log's key; by default the one the folder names.
        store: where the token goes, by default in the log's folder.
        ca_file: authorities for HTTPS instead of the system's, PEM.

    Raises:
        ProbegateError: ``CHECKPOINT_INVALID``; ``SERVICE_UNREACHABLE``; ``ANCHOR_INVALID`` if what
            came back does not count; ``DISK_FULL`` or ``FILE_UNWRITABLE``.
    """
    tsp = _library()
    log = LogFolder(folder)
    note = log.checkpoint()
    signed = open_checkpoint(note, [key or log.vkey()])  # (1)
    builder = tsp.TimestampRequestBuilder().data(note).cert_request(cert_request=True)
    request = builder.hash_algorithm(tsp.HashAlgorithm.SHA256).build()
    status, answer = call(
        "POST",
        url,
        request.as_bytes(),
        most=TOKEN_MAX_BYTES,
        ca_file=ca_file,
        content_type=_QUERY,
    )
    if status != _OK:
        raise ProbegateError(Reason.SERVICE_UNREACHABLE, f"HTTP {status}")
    at, authority = check_token(note, answer, authorities, nonce=request.nonce)  # (3)
    _keep(store or folder / STORE_FOLDER, signed.checkpoint, note, answer)
    return Stamped(signed.checkpoint, at, authority)


def check_token(
    note: bytes,
    token: bytes,
    authorities: Sequence[x509.Certificate],
    *,
    nonce: int | None = None,
) -> tuple[datetime, str]:
    """Apply rule (2); return the token's time and the name of who signed it.

    Args:
        note: the signed note.
        token: the authority's answer, DER.
        authorities: the certificates to trust.
        nonce: what was sent with the request, if it was ours (3).

    Raises:
        ProbegateError: ``ANCHOR_INVALID``.
    """
    tsp = _library()
    try:
        response = tsp.decode_timestamp_response(with_sorted_certificates(token))
        builder = tsp.VerifierBuilder(roots=list(authorities), nonce=nonce)
        builder.build().verify(response, hashlib.sha256(note).digest())
        at = response.tst_info.gen_time
        return at.astimezone(UTC), _signer(response, authorities)
    except ProbegateError:
        raise
    except Exception as error:  # noqa: BLE001 - parsing certificates raises without a common base
        raise _invalid(str(error) or type(error).__name__) from None


def tokens(store: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield what is kept of a log: a name, the note and the token.

    Raises:
        ProbegateError: ``FILE_MISSING`` for a token without its note.
    """
    for path in sorted(store.glob(f"*{_TOKEN}")):
        yield path.name, files.read(path.with_suffix(_NOTE)), files.read(path)


def judge(
    folder: Path,
    key: VerifierKey,
    authorities: Sequence[x509.Certificate],
    store: Path | None = None,
) -> tuple[Judged, ...]:
    """Judge every token that is kept beside a log, the oldest checkpoint first.

    Args:
        folder: the log's files, which verify under the key.
        key: the log's key.
        authorities: the certificates to trust.
        store: where the tokens are, by default in the log's folder.

    Raises:
        ProbegateError: ``FILE_MISSING`` or ``LOG_CORRUPT`` for a file of the log itself.
    """
    log = LogFolder(folder)
    newest = open_checkpoint(log.checkpoint(), [key]).checkpoint
    found = []
    for name, note, token in tokens(store or folder / STORE_FOLDER):
        try:
            checkpoint = open_checkpoint(note, [key]).checkpoint  # (1)
            at, authority = check_token(note, token, authorities)
            if checkpoint.size > newest.size:  # (4)
                raise _invalid(f"the log has only {newest.size} entries")
            if root_at(log, newest.size, checkpoint.size) != checkpoint.root:  # (4)
                raise _invalid("the log does not continue it: another history")
        except ProbegateError as error:
            if error.reason not in {Reason.ANCHOR_INVALID, Reason.CHECKPOINT_INVALID}:
                raise
            found.append(Judged(name, None, error))
        else:
            found.append(Judged(name, Stamped(checkpoint, at, authority)))
    return tuple(found)


def _signer(response: TimeStampResponse, authorities: Sequence[x509.Certificate]) -> str:
    """Return the subject of the certificate that the verified signature names."""
    (signer,) = response.signed_data.signer_infos
    embedded = map(x509.load_der_x509_certificate, response.signed_data.certificates)
    for one in (*embedded, *authorities):
        if one.issuer == signer.issuer and one.serial_number == signer.serial_number:
            return one.subject.rfc4514_string()
    raise _invalid("the signer's certificate is not there")


def _keep(store: Path, checkpoint: Checkpoint, note: bytes, token: bytes) -> None:
    """Keep a note and its token; the same bytes of note have one name, and one token."""
    name = f"{checkpoint.size:012}-{hashlib.sha256(note).hexdigest()[:_DIGITS]}"
    files.write_atomic(store / f"{name}{_NOTE}", note)
    files.write_atomic(store / f"{name}{_TOKEN}", token)


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        why = "rfc3161-client is not installed (extra `anchor`)"
        raise ProbegateError(Reason.CONFIG_INVALID, why) from None
    return rfc3161_client


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.ANCHOR_INVALID, why)
