"""One member's own folder: its private keys, its certificate and its public card.

Settings point a broker, an adapter or a force's client at one such folder. A key is made for one
use and never for two; which keys there are follows from the member's role (``KEYS_OF_ROLE``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from trust import files, mtls, tokens
from trust.directory import KeyUse, Member, Role
from trust.errors import ProbegateError, Reason
from trust.keys import FileOpener, FileSigner


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One of a member's keys: its file, its use, and the last part of its name if it has one."""

    file: str
    use: KeyUse
    name_part: str | None = None


SIGN: Final = KeySlot("sign.pem", KeyUse.SIGN)
SEAL: Final = KeySlot("seal.pem", KeyUse.SEAL)
IDENTITY: Final = KeySlot("identity.pem", KeyUse.IDENTITY)
LOG_SEARCH: Final = KeySlot("log-search.pem", KeyUse.LOG, "search")
LOG_ADMIN: Final = KeySlot("log-admin.pem", KeyUse.LOG, "admin")
WITNESS: Final = KeySlot("witness.pem", KeyUse.WITNESS, "witness")

KEYS_OF_ROLE: Final[Mapping[Role, tuple[KeySlot, ...]]] = {
    Role.AUTHORITY: (),
    Role.FORCE: (SIGN, SEAL, IDENTITY),
    Role.BROKER: (SIGN, LOG_SEARCH, LOG_ADMIN),
    Role.AGENCY: (SIGN, SEAL, LOG_SEARCH, LOG_ADMIN, WITNESS),
    Role.AUDITOR: (),
}


@dataclass(frozen=True, slots=True)
class MemberFolder:
    """Where one member keeps its keys, its certificate and its card.

    Every loader raises ``FILE_MISSING`` for a key that the member's role does not have, and
    ``KEY_FILE_INVALID`` for one that others can read.
    """

    path: Path

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.path / "keys"

    @property
    def retired(self) -> Path:
        """The folder of replaced private keys."""
        return self.keys / "retired"

    @property
    def sign_key(self) -> Path:
        """The envelope signing key's file."""
        return self.keys / SIGN.file

    @property
    def seal_key(self) -> Path:
        """The sealing key's file."""
        return self.keys / SEAL.file

    @property
    def identity_key(self) -> Path:
        """The officer token key's file (forces)."""
        return self.keys / IDENTITY.file

    @property
    def log_search_key(self) -> Path:
        """The search log's key file (broker, agencies)."""
        return self.keys / LOG_SEARCH.file

    @property
    def log_admin_key(self) -> Path:
        """The administration log's key file (broker, agencies)."""
        return self.keys / LOG_ADMIN.file

    @property
    def witness_key(self) -> Path:
        """The witness key's file (agencies)."""
        return self.keys / WITNESS.file

    @property
    def tls_cert(self) -> Path:
        """The certificate chain's file."""
        return self.path / "tls" / "cert.pem"

    @property
    def tls_key(self) -> Path:
        """The certificate's private key file."""
        return self.path / "tls" / "key.pem"

    @property
    def card(self) -> Path:
        """The public card's file."""
        return self.path / "card.json"

    def signer(self) -> FileSigner:
        """Load the envelope signing key."""
        return FileSigner.load(self.sign_key)

    def opener(self) -> FileOpener:
        """Load the current sealing key."""
        return FileOpener.load(self.seal_key)

    def openers(self) -> Mapping[str, FileOpener]:
        """Load every sealing key, replaced ones included, by key id."""
        retired = sorted(self.retired.glob(f"*-{SEAL.file}"))
        loaded = [FileOpener.load(path) for path in (*retired, self.seal_key)]
        return {opener.kid: opener for opener in loaded}

    def identity_signer(self) -> FileSigner:
        """Load the officer token key."""
        return FileSigner.load(self.identity_key)

    def log_search_signer(self) -> FileSigner:
        """Load the search log's key."""
        return FileSigner.load(self.log_search_key)

    def log_admin_signer(self) -> FileSigner:
        """Load the administration log's key."""
        return FileSigner.load(self.log_admin_key)

    def witness_signer(self) -> FileSigner:
        """Load the witness key."""
        return FileSigner.load(self.witness_key)

    def member(self) -> Member:
        """Read the card.

        Raises:
            ProbegateError: ``FILE_MISSING`` or ``DIRECTORY_INVALID``.
        """
        try:
            return Member.model_validate_json(files.read(self.card))
        except ValidationError:
            raise ProbegateError(
                Reason.DIRECTORY_INVALID, f"{self.card} is not a member's card"
            ) from None

    def certificate_sha256(self) -> bytes:
        """Return the certificate's SHA-256 over DER, to which officer tokens are bound."""
        return mtls.certificate_fingerprint(self.tls_cert)

    def issue_token(
        self,
        *,
        officer: str,
        part: tokens.Part,
        rank: str,
        role: str,
        now: datetime,
        unit: str = "",
        accreditation: str | None = None,
        accreditation_expires: date | None = None,
        lifetime: timedelta = tokens.MAX_TOKEN_AGE,
    ) -> str:
        """Issue an officer token bound to this force's certificate, as its identity provider."""
        return tokens.issue_token(
            self.identity_signer(),
            force=self.member().id,
            officer=officer,
            part=part,
            role=role,
            rank=rank,
            channel_cert_sha256=self.certificate_sha256(),
            now=now,
            unit=unit,
            accreditation=accreditation,
            accreditation_expires=accreditation_expires,
            lifetime=lifetime,
        )
