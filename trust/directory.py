"""The directory: one signed document of members and keys, which every process trusts alone.

The rules of ``verify_directory``:

1. It is a DSSE envelope of the directory type, signed by a pinned scheme key and by no other key.
2. Its payload is the RFC 8785 form of the document, so that one version has one set of bytes.
3. It is in force: issued at or before now (but for clock skew) and not yet expired.
4. Its version is not below the highest one seen (``DIRECTORY_ROLLBACK``).
5. A version seen before has the very bytes seen before (``DIRECTORY_ROLLBACK``).
6. Member ids and SPIFFE ids are unique; no key id appears twice, so no key has two uses or owners.
7. Every key id is that of its key, every key has its algorithm's length, and its algorithm fits its
   use: sealing keys seal, all the others sign.
8. Log and witness keys carry a name (C2SP signed-note); other keys none; no name has two owners.
9. Link keys are agencies' alone, each sealed to a sealing key of that agency, once; one link key id
   has one validity for all of them, so that they choose alike.

Whether a *key* is valid is asked for an instant (``at``), so that old signatures stay checkable.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from trust import dsse, strict_json
from trust.algorithms import (
    KEY_ID_PATTERN,
    PUBLIC_KEY_BYTES,
    SEALING_SUITES,
    Algorithm,
    key_id,
)
from trust.clock import MAX_CLOCK_SKEW
from trust.errors import ProbegateError, Reason
from trust.messages import MemberId
from trust.payload_types import PayloadType

MAX_MEMBERS: Final = 1024
"""Most members of one scheme."""
MAX_KEYS_PER_MEMBER: Final = 64
"""Most keys of one member, retired ones included."""
MAX_LINK_KEYS: Final = 8
"""Most link keys of one agency: the one in use, the one before it, and what is to come."""
MAX_SEALED_CHARS: Final = 4096
"""Longest sealed link key, characters of base64."""

KeyId = Annotated[str, StringConstraints(pattern=KEY_ID_PATTERN)]
LinkKeyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
KeyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9./-]{0,253}$")]
TrustDomain = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)*$", max_length=190)
]
DnsName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)*$", max_length=253)
]
SpiffeId = Annotated[
    str, StringConstraints(pattern=r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$", max_length=2048)
]
Endpoint = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}$")
]
Title = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
CertificatePem = Annotated[
    str,
    StringConstraints(
        pattern=r"^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n$",
        max_length=16_384,
    ),
]


class Role(StrEnum):
    """What a member is in the scheme."""

    AUTHORITY = "authority"
    FORCE = "force"
    BROKER = "broker"
    AGENCY = "agency"
    AUDITOR = "auditor"


class KeyUse(StrEnum):
    """The one thing a key is for."""

    SIGN = "sign"
    """Envelopes."""
    SEAL = "seal"
    """Opening what others seal."""
    LOG = "log"
    """Checkpoints of a log."""
    WITNESS = "witness"
    """Cosignatures on others' checkpoints."""
    IDENTITY = "identity"
    """A force's officer tokens."""


NAMED_USES: Final = frozenset({KeyUse.LOG, KeyUse.WITNESS})


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MemberKey(_Document):
    """One public key of a member, for one use, with its validity."""

    kid: KeyId
    use: KeyUse
    algorithm: Algorithm
    public_key: str = Field(max_length=4096)
    """The raw public key in base64."""
    not_before: AwareDatetime
    not_after: AwareDatetime
    revoked_at: AwareDatetime | None = None
    name: KeyName | None = None
    """For log and witness keys, the key name of their signed notes (a log's origin)."""

    @cached_property
    def public_bytes(self) -> bytes:
        """The raw public key."""
        return base64.b64decode(self.public_key, validate=True)

    def valid_at(self, at: datetime) -> bool:
        """Say whether the key was in its validity and not revoked at an instant."""
        revoked = self.revoked_at is not None and self.revoked_at <= at
        return self.not_before <= at < self.not_after and not revoked

    @model_validator(mode="after")
    def _key_fits(self) -> Self:  # (7) (8)
        try:
            raw = self.public_bytes
        except binascii.Error:
            raise ValueError("not base64") from None
        if len(raw) != PUBLIC_KEY_BYTES[self.algorithm]:
            raise ValueError("wrong key length")
        if self.kid != key_id(self.algorithm, raw):
            raise ValueError("not this key's id")
        if (self.use is KeyUse.SEAL) != (self.algorithm in SEALING_SUITES):
            raise ValueError("the algorithm does not fit the use")
        if (self.use in NAMED_USES) != (self.name is not None):
            raise ValueError("log and witness keys are named, others are not")
        if self.not_before >= self.not_after:
            raise ValueError("never valid")
        return self


class SealedLinkKey(_Document):
    """A key that agencies alone share, sealed to one of them (``trust.link_keys``)."""

    id: LinkKeyId
    """The same at every agency that has this key."""
    kid: KeyId
    """The agency's sealing key it is sealed to."""
    not_before: AwareDatetime
    not_after: AwareDatetime
    sealed: Annotated[str, Field(min_length=1, max_length=MAX_SEALED_CHARS)]
    """The encapsulated key and the ciphertext in base64."""

    @cached_property
    def sealed_bytes(self) -> bytes:
        """What is sealed, as bytes."""
        return base64.b64decode(self.sealed, validate=True)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            _ = self.sealed_bytes
        except binascii.Error:
            raise ValueError("not base64") from None
        if self.not_before >= self.not_after:
            raise ValueError("never valid")
        return self


class Member(_Document):
    """One organisation of the scheme."""

    id: MemberId
    role: Role
    title: Title
    spiffe_id: SpiffeId
    endpoint: Endpoint | None = None
    """Where it listens, ``host:port``; none for members that only call."""
    server_name: DnsName | None = None
    """The DNS name its certificate carries, which callers verify whatever they dialled."""
    keys: Annotated[tuple[MemberKey, ...], Field(max_length=MAX_KEYS_PER_MEMBER)] = ()
    suites: tuple[Algorithm, ...] = (Algorithm.X25519,)
    """Sealing suites this member can seal and open with."""
    link_keys: Annotated[tuple[SealedLinkKey, ...], Field(max_length=MAX_LINK_KEYS)] = ()

    @model_serializer(mode="wrap")
    def _without_empty_link_keys(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Documents and cards from before there were link keys keep the bytes that were signed (2).
        fields: dict[str, Any] = write(self)
        if not self.link_keys:
            del fields["link_keys"]
        return fields

    @model_validator(mode="after")
    def _link_keys_fit(self) -> Self:  # (9)
        if self.link_keys and self.role is not Role.AGENCY:
            raise ValueError("a link key of a member that is no agency")
        _require_distinct("link key id", [one.id for one in self.link_keys])
        sealing = {key.kid for key in self.keys if key.use is KeyUse.SEAL}
        if not sealing >= {one.kid for one in self.link_keys}:
            raise ValueError("a link key sealed to another's key")
        return self


class DirectoryDocument(_Document):
    """The signed document itself."""

    version: int = Field(ge=1, le=2**53 - 1)
    """Only ever rises."""
    scheme: Title
    trust_domain: TrustDomain
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    ca_certificates: Annotated[tuple[CertificatePem, ...], Field(min_length=1, max_length=16)]
    members: Annotated[tuple[Member, ...], Field(max_length=MAX_MEMBERS)]

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes that are signed."""
        return strict_json.canonical(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _all_distinct(self) -> Self:  # (6)
        _require_distinct("member id", [member.id for member in self.members])
        _require_distinct("SPIFFE id", [member.spiffe_id for member in self.members])
        _require_distinct("key id", [key.kid for member in self.members for key in member.keys])
        owners = {(k.name, member.id) for member in self.members for k in member.keys if k.name}
        _require_distinct("key name", [name for name, _ in owners])  # (8)
        validities = {
            (one.id, one.not_before, one.not_after)
            for member in self.members
            for one in member.link_keys
        }
        _require_distinct(
            "link key id with another validity", [one[0] for one in validities]
        )  # (9)
        return self


class Directory:
    """A verified directory, indexed for the questions asked on every request.

    Build it with ``verify_directory`` (or a ``DirectoryStore``); the constructor verifies nothing.

    Attributes:
        document: the whole document.
        sha256: the digest of the signed payload, 32 bytes.
        ca_pem: the scheme's certificate authorities as one PEM text.
    """

    def __init__(self, document: DirectoryDocument, payload_sha256: bytes) -> None:
        self.document = document
        self.sha256 = payload_sha256
        self.ca_pem = "".join(document.ca_certificates).encode()
        self._by_id = {member.id: member for member in document.members}
        self._by_spiffe = {member.spiffe_id: member for member in document.members}
        self._keys: dict[tuple[str, KeyUse], dict[str, MemberKey]] = {}
        self._named: dict[str, str] = {}
        for member in document.members:
            for key in sorted(member.keys, key=lambda key: key.not_before, reverse=True):
                self._keys.setdefault((member.id, key.use), {})[key.kid] = key
                if key.name is not None:
                    self._named[key.name] = member.id

    def __repr__(self) -> str:
        return f"Directory(scheme={self.document.scheme!r}, version={self.version})"

    @property
    def version(self) -> int:
        """The document's version."""
        return self.document.version

    def require_current(self, now: datetime) -> None:
        """Refuse to be used past the document's end.

        Raises:
            ProbegateError: ``DIRECTORY_EXPIRED``.
        """
        if not self.document.issued_at - MAX_CLOCK_SKEW <= now < self.document.expires_at:
            raise ProbegateError(Reason.DIRECTORY_EXPIRED, f"version {self.version}")

    def find(self, member_id: str) -> Member | None:
        """Return a member by its id, or none."""
        return self._by_id.get(member_id)

    def member(self, member_id: str, role: Role | None = None) -> Member:
        """Return a member by its id, of the given role if one is given.

        Raises:
            ProbegateError: ``AGENCY_UNKNOWN`` where an agency was asked for, otherwise
                ``NOT_FOUND``.
        """
        member = self._by_id.get(member_id)
        if member is None or role not in {None, member.role}:
            unknown = Reason.AGENCY_UNKNOWN if role is Role.AGENCY else Reason.NOT_FOUND
            raise ProbegateError(unknown, f"no {role or 'member'} {member_id!r}")
        return member

    def by_spiffe(self, uri: str) -> Member | None:
        """Return the member with a SPIFFE id, or none."""
        return self._by_spiffe.get(uri)

    def members(self, role: Role | None = None) -> tuple[Member, ...]:
        """Return the members (of a role), in the document's order."""
        return tuple(m for m in self.document.members if role in {None, m.role})

    def owner_of_name(self, key_name: str) -> Member | None:
        """Return the member whose log or witness keys carry a name, or none."""
        return self._by_id.get(self._named.get(key_name, ""))

    def keys(
        self, member_id: str, use: KeyUse, at: datetime, name: str | None = None
    ) -> tuple[MemberKey, ...]:
        """Return a member's keys for a use that are valid at an instant, the newest first.

        Args:
            member_id: whose keys.
            use: what they are for.
            at: the instant they are to be valid at.
            name: only keys of this name, where given.
        """
        mine = self._keys.get((member_id, use), {}).values()
        return tuple(k for k in mine if k.valid_at(at) and name in {None, k.name})

    def current_key(
        self, member_id: str, use: KeyUse, at: datetime, name: str | None = None
    ) -> MemberKey:
        """Return the newest key of ``keys``.

        Raises:
            ProbegateError: ``KEY_UNKNOWN`` if there is none.
        """
        for key in self.keys(member_id, use, at, name):
            return key
        raise ProbegateError(Reason.KEY_UNKNOWN, f"{member_id!r} has no valid {use} key")

    def sealing_key(self, recipient_id: str, sender_id: str, at: datetime) -> MemberKey:
        """Return the recipient's newest valid sealing key of the best suite both sides list.

        Raises:
            ProbegateError: ``KEY_UNKNOWN`` if they share none.
        """
        recipient, sender = self.member(recipient_id), self.member(sender_id)
        keys = self.keys(recipient_id, KeyUse.SEAL, at)
        for suite in SEALING_SUITES:
            if suite in recipient.suites and suite in sender.suites:
                for key in keys:
                    if key.algorithm is suite:
                        return key
        raise ProbegateError(Reason.KEY_UNKNOWN, f"no sealing suite shared with {recipient_id!r}")

    def resolver(self, member_id: str, use: KeyUse, at: datetime) -> Callable[[str], bytes]:
        """Return a function from key id to raw public key, for one member, use and instant.

        The function raises ``KEY_UNKNOWN`` for a key that is not this member's for this use, and
        ``KEY_REVOKED`` for one revoked at or before ``at`` or outside its validity.
        """
        mine: Mapping[str, MemberKey] = self._keys.get((member_id, use), {})

        def resolve(kid: str) -> bytes:
            key = mine.get(kid)
            if key is None:
                raise ProbegateError(Reason.KEY_UNKNOWN, f"{member_id!r} has no such {use} key")
            if not key.valid_at(at):
                raise ProbegateError(Reason.KEY_REVOKED, f"{member_id!r}, {use}, {kid}")
            return key.public_bytes

        return resolve


def verify_directory(
    envelope_bytes: bytes,
    scheme_keys: Mapping[str, bytes],
    now: datetime,
    floor_version: int = 0,
    floor_sha256: bytes | None = None,
) -> Directory:
    """Verify a directory by the module's rules.

    Args:
        envelope_bytes: the DSSE JSON.
        scheme_keys: the pinned scheme keys, key id to raw Ed25519 public key.
        now: the time of use.
        floor_version: the highest version seen before; 0 for none.
        floor_sha256: the payload digest of that version, if it is known.

    Raises:
        ProbegateError: ``DIRECTORY_INVALID``, ``DIRECTORY_EXPIRED`` or ``DIRECTORY_ROLLBACK``.
    """
    try:
        envelope = dsse.Envelope.from_json(envelope_bytes)
        dsse.verify(envelope, PayloadType.DIRECTORY, _pinned(scheme_keys))  # (1)
        document = DirectoryDocument.model_validate_json(envelope.payload)  # (6) (7) (8)
        if document.canonical() != envelope.payload:  # (2)
            raise _invalid("not in canonical form")
    except ProbegateError as error:
        raise _invalid(f"{error.reason.name} {error.detail}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise _invalid(f"{where}: {first['msg']}") from None
    directory = Directory(document, hashlib.sha256(envelope.payload).digest())
    directory.require_current(now)  # (3)
    if document.version < floor_version:  # (4)
        raise ProbegateError(
            Reason.DIRECTORY_ROLLBACK, f"version {document.version} after {floor_version}"
        )
    if document.version == floor_version and floor_sha256 not in {None, directory.sha256}:  # (5)
        raise ProbegateError(
            Reason.DIRECTORY_ROLLBACK, f"another document of version {floor_version}"
        )
    return directory


def _pinned(scheme_keys: Mapping[str, bytes]) -> dsse.Resolve:
    def resolve(kid: str) -> bytes:
        if kid not in scheme_keys:
            raise ProbegateError(Reason.KEY_UNKNOWN, "signed by a key that is not pinned")
        return scheme_keys[kid]

    return resolve


def _require_distinct(what: str, values: list[str | None]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"a {what} appears twice")


def _invalid(why: str) -> ProbegateError:
    return ProbegateError(Reason.DIRECTORY_INVALID, why)
