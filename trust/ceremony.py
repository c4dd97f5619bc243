"""The key ceremony: making a scheme, its members' keys and certificates, and its directory.

A scheme's folder::

    scheme.json                  the pinned scheme key: what every process trusts
    ca.pem                       the certificate authority
    directory.json               the signed directory
    authority/                   the scheme authority's alone: its signing key, the CA's key, state,
                                 the link keys that agencies share
    members/<id>/keys/*.pem      a member's private keys (0600); retired/ holds replaced ones
    members/<id>/tls/*.pem       its certificate and key
    members/<id>/card.json       its public entry, which the directory collects

A real scheme makes each ``members/<id>`` on that member's own machine and sends the card to the
authority; here one folder stands for all of them. A key is made for one use and never for two.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trust import dsse, files
from trust.algorithms import Algorithm
from trust.clock import utc_now
from trust.directory import (
    MAX_LINK_KEYS,
    Directory,
    DirectoryDocument,
    KeyUse,
    Member,
    MemberKey,
    Role,
    Title,
    TrustDomain,
    verify_directory,
)
from trust.directory_store import PinnedKey, PinnedScheme
from trust.errors import ProbegateError, Reason
from trust.keys import FileOpener, FileSigner
from trust.link_keys import (
    LINK_KEY_LEAD,
    LINK_KEY_LIFETIME,
    KeptLinkKey,
    read_kept,
    write_kept,
)
from trust.member_folder import IDENTITY, KEYS_OF_ROLE, SEAL, SIGN, KeySlot, MemberFolder
from trust.payload_types import PayloadType
from trust.pki import BACKDATING, CERTIFICATE_LIFETIME, CertificateAuthority

__all__ = ["DIRECTORY_LIFETIME", "KEY_LIFETIME", "MemberFolder", "Scheme"]

KEY_LIFETIME: Final = timedelta(days=730)
DIRECTORY_LIFETIME: Final = timedelta(days=30)
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


Checked = TypeVar("Checked", bound=BaseModel)
ROTATING: Final = {KeyUse.SIGN: SIGN, KeyUse.SEAL: SEAL, KeyUse.IDENTITY: IDENTITY}
"""Keys that are replaced by ``rotate_key``; a log's or witness's key is its identity and stays."""


class _State(BaseModel):
    """What the authority remembers between ceremonies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Title
    trust_domain: TrustDomain
    version: int = Field(default=0, ge=0)


class Scheme:
    """A scheme's folder, with the authority's keys in it.

    Use ``create`` once and ``open`` afterwards. Where a ``now`` may be left out, it is the clock's.

    Attributes:
        folder: the scheme's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(
        cls, folder: Path, name: str, trust_domain: str, now: datetime | None = None
    ) -> Self:
        """Make a scheme: its signing key, its certificate authority and the pinned key file.

        Raises:
            ProbegateError: ``FILE_EXISTS`` if the folder holds a scheme; ``CONFIG_INVALID``.
        """
        scheme = cls(folder)
        state = _checked(_State, scheme=name, trust_domain=trust_domain)
        signer = FileSigner.generate(scheme._signing_key)
        pinned = PinnedScheme(
            scheme=name, keys=(PinnedKey(kid=signer.kid, public_key=_base64(signer.public_key)),)
        )
        CertificateAuthority.generate(
            scheme._ca_key, scheme.ca_path, f"{name} CA", now or utc_now()
        )
        files.write_atomic(scheme.pinned_path, _pretty(pinned))
        scheme._write_state(state)
        return scheme

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a scheme made before.

        Raises:
            ProbegateError: ``FILE_MISSING`` if there is none.
        """
        scheme = cls(folder)
        scheme._state()
        return scheme

    @property
    def pinned_path(self) -> Path:
        """The pinned scheme key's file, which every process is given."""
        return self.folder / "scheme.json"

    @property
    def ca_path(self) -> Path:
        """The certificate authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def directory_path(self) -> Path:
        """The signed directory."""
        return self.folder / "directory.json"

    @property
    def name(self) -> str:
        """The scheme's name."""
        return self._state().scheme

    @property
    def trust_domain(self) -> str:
        """The SPIFFE trust domain, which is also the suffix of every DNS name."""
        return self._state().trust_domain

    def member_folder(self, member_id: str) -> MemberFolder:
        """Return where a member's keys are (or will be)."""
        return MemberFolder(self.folder / "members" / member_id)

    def existing(self, member_id: str) -> MemberFolder:
        """Return the folder of a member that has been added.

        Raises:
            ProbegateError: ``NOT_FOUND``.
        """
        # Found by its card's id, so that what the caller typed never becomes a path.
        if any(member.id == member_id for member in self.members()):
            return self.member_folder(member_id)
        raise ProbegateError(Reason.NOT_FOUND, f"no member {member_id!r}")

    def members(self) -> tuple[Member, ...]:
        """Read every member's card, by id."""
        cards = sorted((self.folder / "members").glob("*/card.json"))
        return tuple(MemberFolder(card.parent).member() for card in cards)

    def add_member(
        self,
        member_id: str,
        role: Role,
        *,
        endpoint: str | None = None,
        title: str | None = None,
        suite: Algorithm = Algorithm.X25519,
        now: datetime | None = None,
    ) -> MemberFolder:
        """Make a member's keys for its role, and its card.

        Args:
            member_id: the directory id.
            role: which decides the keys.
            endpoint: where it listens, ``host:port``.
            title: its name for people; the id if left out.
            suite: what its sealing key is for. A member with the hybrid lists both suites.
            now: the start of its keys' validity.

        Raises:
            ProbegateError: ``CONFIG_INVALID``, or ``FILE_EXISTS`` if there is such a member.
        """
        domain = self.trust_domain
        described: dict[str, Any] = {
            "id": member_id,
            "role": role,
            "title": title or member_id,
            "spiffe_id": f"spiffe://{domain}/{role.value}/{member_id}",
            "endpoint": endpoint,
            "server_name": f"{member_id}.{domain}",
            "suites": tuple(dict.fromkeys((suite, Algorithm.X25519))),
        }
        _checked(Member, **described)  # before the id becomes a path
        folder = self.member_folder(member_id)
        if folder.card.exists():
            raise ProbegateError(Reason.FILE_EXISTS, str(folder.card), member=member_id)
        at = now or utc_now()
        keys = tuple(
            _make_key(folder.keys / slot.file, slot, f"{member_id}.{domain}", suite, at)
            for slot in KEYS_OF_ROLE[role]
        )
        _write_card(folder, _checked(Member, **described, keys=keys), replace=False)
        return folder

    def issue_certificate(
        self,
        member_id: str,
        *,
        lifetime: timedelta = CERTIFICATE_LIFETIME,
        loopback: bool | None = None,
        now: datetime | None = None,
    ) -> MemberFolder:
        """Issue a member's TLS certificate, replacing the one it has.

        Args:
            member_id: whose.
            lifetime: how long it is valid.
            loopback: whether it also stands for ``localhost``; if left out, only where the member
                listens there.
            now: the time of issue.

        Raises:
            ProbegateError: ``NOT_FOUND`` or ``CONFIG_INVALID``.
        """
        folder = self.existing(member_id)
        member = folder.member()
        host = (member.endpoint or "").rpartition(":")[0]
        authority = CertificateAuthority.load(self._ca_key, self.ca_path)
        issued = authority.issue(
            spiffe_id=member.spiffe_id,
            dns_name=member.server_name or f"{member_id}.{self.trust_domain}",
            now=now or utc_now(),
            lifetime=lifetime,
            loopback=host in LOOPBACK_HOSTS if loopback is None else loopback,
        )
        files.write_private(folder.tls_key, issued.key_pem, replace=True)
        files.write_atomic(folder.tls_cert, issued.chain_pem)
        return folder

    def rotate_key(self, member_id: str, use: KeyUse, now: datetime | None = None) -> MemberKey:
        """Give a member a new signing, sealing or identity key; the old one stays listed and kept.

        Publish the directory afterwards. What was sealed to the old key can still be opened.

        Raises:
            ProbegateError: ``NOT_FOUND``, or ``KEY_UNKNOWN`` if the member has no such key.
        """
        folder = self.existing(member_id)
        member = folder.member()
        slot = ROTATING.get(use)
        if slot is None or slot not in KEYS_OF_ROLE[member.role]:
            raise ProbegateError(Reason.KEY_UNKNOWN, f"{member_id!r} has no {use} key to replace")
        current, incoming = folder.keys / slot.file, folder.keys / f"incoming-{slot.file}"
        old = max((key for key in member.keys if key.use is use), key=lambda key: key.not_before)
        kind = FileOpener if use is KeyUse.SEAL else FileSigner
        kid = kind.load(current).kid
        incoming.unlink(missing_ok=True)  # of a rotation that was cut short
        suite = old.algorithm if use is KeyUse.SEAL else Algorithm.X25519
        new = _make_key(incoming, slot, f"{member_id}.{self.trust_domain}", suite, now or utc_now())
        # Newest first by start of validity, so the new key must not tie with the one it replaces.
        start = max(new.not_before, old.not_before + timedelta(seconds=1))
        new = new.model_copy(update={"not_before": start})
        _write_card(folder, member.model_copy(update={"keys": (*member.keys, new)}))
        files.write_private(
            folder.retired / f"{kid}-{slot.file}", files.read(current), replace=True
        )
        incoming.replace(current)
        return new

    def revoke_key(self, member_id: str, kid: str, now: datetime | None = None) -> MemberKey:
        """Mark a member's key as revoked from now on; publish the directory afterwards.

        Raises:
            ProbegateError: ``NOT_FOUND``, or ``KEY_UNKNOWN`` if the member has no such key.
        """
        folder = self.existing(member_id)
        member = folder.member()
        found = next((key for key in member.keys if key.kid == kid), None)
        if found is None:
            raise ProbegateError(Reason.KEY_UNKNOWN, f"{member_id!r} has no key {kid!r}")
        if found.revoked_at is not None:
            return found  # the first revocation stands
        revoked = found.model_copy(update={"revoked_at": _whole_second(now or utc_now())})
        keys = tuple(revoked if key.kid == kid else key for key in member.keys)
        _write_card(folder, member.model_copy(update={"keys": keys}))
        return revoked

    def add_link_key(
        self,
        now: datetime | None = None,
        lifetime: timedelta = LINK_KEY_LIFETIME,
        *,
        replace: bool = False,
    ) -> KeptLinkKey:
        """Make the next link key for the agencies; publish the directory afterwards.

        The first one is valid at once, a later one after ``LINK_KEY_LEAD``.

        Args:
            now: the time.
            lifetime: how long it is valid.
            replace: withdraw every other link key, because one leaked; valid at once.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` if there are as many as an agency may have.
        """
        at = _whole_second(now or utc_now())
        kept = () if replace else self._link_keys(at)
        if len(kept) == MAX_LINK_KEYS:
            raise ProbegateError(Reason.CONFIG_INVALID, "too many link keys", field="link_keys")
        start = at + LINK_KEY_LEAD if kept else at - BACKDATING
        made = KeptLinkKey.generate(start, lifetime)
        files.write_private(self._link_keys_path, write_kept((*kept, made)), replace=True)
        return made

    def publish_directory(
        self, now: datetime | None = None, lifetime: timedelta = DIRECTORY_LIFETIME
    ) -> Directory:
        """Collect the cards, raise the version, sign, and write the directory.

        Raises:
            ProbegateError: ``CONFIG_INVALID`` if the cards do not fit together.
        """
        at = _whole_second(now or utc_now())
        state = self._state()
        raised = state.model_copy(update={"version": state.version + 1})
        document = _checked(
            DirectoryDocument,
            version=raised.version,
            scheme=state.scheme,
            trust_domain=state.trust_domain,
            issued_at=at,
            expires_at=at + lifetime,
            ca_certificates=(files.read(self.ca_path).decode(),),
            members=self._members_with_link_keys(at),
        )
        signer = FileSigner.load(self._signing_key)
        envelope = dsse.sign(PayloadType.DIRECTORY, document.canonical(), signer).to_json()
        directory = verify_directory(envelope, PinnedScheme.load(self.pinned_path).by_kid(), at)
        self._write_state(raised)  # first: a version number is never used for two documents
        files.write_atomic(self.directory_path, envelope)
        return directory

    def _members_with_link_keys(self, at: datetime) -> tuple[Member, ...]:
        """Return the members; to each agency the link keys are sealed anew, whatever its card says.

        So an agency that joined, or changed its sealing key, has them from the next directory on.
        """
        kept = self._link_keys(at)

        def given(member: Member) -> Member:
            keys = kept if member.role is Role.AGENCY else ()
            sealed = tuple(one for key in keys if (one := key.sealed_to(member, at)) is not None)
            return member.model_copy(update={"link_keys": sealed})

        return tuple(map(given, self.members()))

    def _link_keys(self, at: datetime) -> tuple[KeptLinkKey, ...]:
        """Return the link keys that are valid or yet to be."""
        if not self._link_keys_path.exists():
            return ()
        kept = read_kept(files.read(self._link_keys_path))
        return tuple(one for one in kept if one.not_after > at)

    @property
    def _link_keys_path(self) -> Path:
        return self.folder / "authority" / "link-keys.json"

    @property
    def _signing_key(self) -> Path:
        return self.folder / "authority" / "scheme-key.pem"

    @property
    def _ca_key(self) -> Path:
        return self.folder / "authority" / "ca-key.pem"

    @property
    def _state_path(self) -> Path:
        return self.folder / "authority" / "state.json"

    def _state(self) -> _State:
        try:
            return _State.model_validate_json(files.read(self._state_path))
        except ValidationError:
            raise ProbegateError(
                Reason.STATE_UNAVAILABLE, f"{self._state_path} is not a scheme's state"
            ) from None

    def _write_state(self, state: _State) -> None:
        files.write_private(self._state_path, _pretty(state), replace=True)


def _make_key(
    path: Path, slot: KeySlot, name_prefix: str, suite: Algorithm, at: datetime
) -> MemberKey:
    made = (
        FileOpener.generate(path, suite) if slot.use is KeyUse.SEAL else FileSigner.generate(path)
    )
    start = _whole_second(at - BACKDATING)
    return MemberKey(
        kid=made.kid,
        use=slot.use,
        algorithm=made.algorithm,
        public_key=_base64(made.public_key),
        not_before=start,
        not_after=start + KEY_LIFETIME,
        name=slot.name_part and f"{name_prefix}/{slot.name_part}",
    )


def _write_card(folder: MemberFolder, member: Member, *, replace: bool = True) -> None:
    files.write_atomic(folder.card, _pretty(member), replace=replace)


def _checked(model: type[Checked], **values: Any) -> Checked:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"]) or model.__name__
        raise ProbegateError(Reason.CONFIG_INVALID, first["msg"], field=field) from None


def _pretty(model: BaseModel) -> bytes:
    return model.model_dump_json(indent=2).encode() + b"\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _whole_second(at: datetime) -> datetime:
    return at.replace(microsecond=0)
