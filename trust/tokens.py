"""Officer tokens: who is asking, vouched for by their force, usable on their force's channel alone.

The rules of ``verify_token``:

1. The token is a compact JWS of type ``at+jwt`` (RFC 9068) whose header holds ``alg``, ``kid`` and
   ``typ`` and nothing else; the algorithm is Ed25519 by either of its names. ``none``, MACs and
   keys or key locations carried in the header have no way in.
2. ``kid`` names an identity key of the force that owns the channel; the signature verifies.
3. ``iss`` is that force and ``aud`` is ``probegate``.
4. It is at most ``MAX_TOKEN_AGE`` old, not expired, and not from the future beyond clock skew.
5. ``cnf.x5t#S256`` is the channel's own certificate (RFC 8705), so a stolen token is of no use.
6. It was issued for this part: an officer's token is never an authoriser's or a reviewer's.

Any failure is ``OFFICER_TOKEN_INVALID`` with the name of the check, never with a claim's content.
A ``TokenCache`` spares the signature on a repeated token; rules 2 (the key is still valid) and 4
are checked again each time, and the rest is part of the cache's key.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from trust import ed25519, strict_json
from trust.clock import MAX_CLOCK_SKEW
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.messages import Code, Identifier, MemberId, OptionalCode

MAX_TOKEN_AGE: Final = timedelta(minutes=5)
"""Oldest a token may be."""
MAX_TOKEN_CHARS: Final = 8192
"""Longest token, characters."""
DEFAULT_CACHED_TOKENS: Final = 4096
"""Most verified tokens a cache keeps."""
AUDIENCE: Final = "probegate"
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - a media type, not a secret
SIGNING_ALGORITHM: Final = "Ed25519"
ACCEPTED_ALGORITHMS: Final = frozenset({"Ed25519", "EdDSA"})

AuthenticationMethod = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]


class Part(StrEnum):
    """The part a person plays in one search."""

    OFFICER = "officer"
    AUTHORISER = "authoriser"
    REVIEWER = "reviewer"


class OfficerClaims(BaseModel):
    """What a verified token says about a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    force: MemberId
    """The issuing force (``iss``)."""
    sub: Identifier
    """The person's id at their force."""
    part: Part
    role: Code
    rank: Code
    unit: OptionalCode = ""
    accreditation: OptionalCode | None = None
    accreditation_expires: date | None = None
    acr: Annotated[str, Field(max_length=128)] = ""
    """The authentication context class."""
    amr: Annotated[tuple[AuthenticationMethod, ...], Field(max_length=8)] = ()
    """The authentication methods (RFC 8176)."""
    iat: AwareDatetime
    exp: AwareDatetime
    jti: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
    channel_sha256: Annotated[bytes, Field(min_length=32, max_length=32)]
    """SHA-256 of the DER certificate the token is bound to (``cnf.x5t#S256``)."""


def issue_token(
    signer: Signer,
    *,
    force: str,
    officer: str,
    part: Part,
    role: str,
    rank: str,
    channel_cert_sha256: bytes,
    now: datetime,
    unit: str = "",
    accreditation: str | None = None,
    accreditation_expires: date | None = None,
    acr: str = "",
    amr: tuple[str, ...] = (),
    lifetime: timedelta = MAX_TOKEN_AGE,
) -> str:
    """Issue a token as a force's identity provider does; for demonstrations and tests.

    Args:
        signer: the force's identity key.
        force: the force's directory id.
        officer: the person's id at the force.
        part: what the token is for.
        role: the person's role code.
        rank: the person's rank code.
        channel_cert_sha256: the force's client certificate digest, 32 bytes.
        now: the time of issue.
        unit: the person's unit code.
        accreditation: the code of the accreditation held.
        accreditation_expires: the last day it is valid.
        acr: authentication context class.
        amr: authentication methods.
        lifetime: how long until it expires.
    """
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": force,
        "aud": AUDIENCE,
        "sub": officer,
        "client_id": force,
        "iat": issued_at,
        "exp": issued_at + int(lifetime.total_seconds()),
        "jti": uuid.uuid4().hex,
        "part": part.value,
        "role": role,
        "rank": rank,
        "unit": unit,
        "accreditation": accreditation,
        "accreditation_expires": accreditation_expires and accreditation_expires.isoformat(),
        "acr": acr,
        "amr": list(amr),
        "cnf": {"x5t#S256": _encode(channel_cert_sha256)},
    }
    header = {"alg": SIGNING_ALGORITHM, "kid": signer.kid, "typ": TOKEN_TYPE}
    present = {name: value for name, value in claims.items() if value not in (None, "", [])}
    signed = f"{_encode(strict_json.canonical(header))}.{_encode(strict_json.canonical(present))}"
    return f"{signed}.{_encode(signer.sign(signed.encode()))}"


def verify_token(
    token: str,
    *,
    resolve: Callable[[str], bytes],
    force_id: str,
    channel_cert_sha256: bytes,
    now: datetime,
    part: Part,
) -> OfficerClaims:
    """Verify a token by the module's rules.

    Args:
        token: the compact JWS.
        resolve: the force's identity keys, ``Directory.resolver(force_id, KeyUse.IDENTITY, now)``.
        force_id: the force that owns the channel.
        channel_cert_sha256: SHA-256 of the channel's DER certificate, 32 bytes.
        now: the time of use.
        part: what the token is wanted for.

    Raises:
        ProbegateError: ``OFFICER_TOKEN_INVALID`` with the failed ``check``.
    """
    _, claims = _verify(token, resolve, force_id, channel_cert_sha256, now, part)
    return claims


def verify_recorded_token(
    token: str,
    *,
    resolve: Callable[[str], bytes],
    force_id: str,
    used_at: datetime,
    part: Part,
) -> OfficerClaims:
    """Verify a token that was used on another channel, at an instant that is on the record.

    An agency is shown the tokens of reviewers whom the broker has let in. Rules 1 to 4 and 6 hold
    as they held at ``used_at``; rule 5 cannot be checked by whoever was not on that channel, so
    this says who a person was, and never lets anybody in.

    Args:
        token: the compact JWS.
        resolve: the force's identity keys at ``used_at``.
        force_id: the force that vouches for the person.
        used_at: when it was used, as a signed statement says.
        part: what it was used for.

    Raises:
        ProbegateError: ``OFFICER_TOKEN_INVALID`` with the failed ``check``.
    """
    return _verify(token, resolve, force_id, None, used_at, part)[1]


class TokenCache:
    """Remembers verified tokens, so that a repeated one costs a look-up and not a signature.

    Bounded, least recently used out first. Nothing is remembered past its expiry, and nothing is
    remembered of a token that failed.

    Args:
        capacity: most tokens kept.
    """

    def __init__(self, capacity: int = DEFAULT_CACHED_TOKENS) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[tuple[bytes, bytes, str, Part], tuple[str, OfficerClaims]] = (
            OrderedDict()
        )
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def verify(
        self,
        token: str,
        *,
        resolve: Callable[[str], bytes],
        force_id: str,
        channel_cert_sha256: bytes,
        now: datetime,
        part: Part,
    ) -> OfficerClaims:
        """Do what ``verify_token`` does, sooner."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        entry_key = (digest, channel_cert_sha256, force_id, part)
        with self._lock:
            entry = self._entries.get(entry_key)
            if entry is not None:
                self._entries.move_to_end(entry_key)
        if entry is not None:
            kid, claims = entry
            try:
                _resolve_key(resolve, kid)  # (2) a key revoked since then counts at once
                _check_times(claims, now)  # (4)
            except ProbegateError:
                with self._lock:
                    self._entries.pop(entry_key, None)
                raise
            return claims
        kid, claims = _verify(token, resolve, force_id, channel_cert_sha256, now, part)
        with self._lock:
            self._entries[entry_key] = (kid, claims)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return claims


def _verify(
    token: str,
    resolve: Callable[[str], bytes],
    force_id: str,
    channel_cert_sha256: bytes | None,
    now: datetime,
    part: Part,
) -> tuple[str, OfficerClaims]:
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise _refused("format")
    kid = _key_id(token)  # (1)
    key = _resolve_key(resolve, kid)  # (2)
    try:
        payload = jws.extract_compact(token.encode()).payload
        signed, _, encoded = token.rpartition(".")
        signature = _decode(encoded)
    except (JoseError, ValueError):
        raise _refused("signature") from None
    if not ed25519.is_valid(key, signature, signed.encode()):
        raise _refused("signature")
    claims = _read_claims(payload, force_id)  # (3)
    _check_times(claims, now)  # (4)
    if channel_cert_sha256 not in (None, claims.channel_sha256):  # (5)
        raise _refused("channel")
    if claims.part is not part:  # (6)
        raise _refused("part")
    return kid, claims


def _key_id(token: str) -> str:
    """Return the header's key id, the header being one of ours and no other."""
    try:
        header = strict_json.parse(_decode(token.partition(".")[0]))
    except ValueError:
        raise _refused("format") from None
    match header:
        case {"alg": str(alg), "kid": str(kid), "typ": str(typ), **others} if (
            not others
            and alg in ACCEPTED_ALGORITHMS
            and typ.lower().removeprefix("application/") == TOKEN_TYPE  # RFC 9068, section 4
        ):
            return kid
        case _:
            raise _refused("header")


def _read_claims(payload: bytes, force_id: str) -> OfficerClaims:
    try:
        claims = strict_json.parse(payload)
        if claims["iss"] != force_id:
            raise _refused("issuer")
        if claims["aud"] != AUDIENCE and claims["aud"] != [AUDIENCE]:
            raise _refused("audience")
        # Claims that Probegate gives no meaning to are passed over (RFC 7519, section 4).
        ours = {name: claims[name] for name in OfficerClaims.model_fields if name in claims}
        return OfficerClaims.model_validate(
            ours
            | {
                "force": claims["iss"],
                "iat": _instant(claims["iat"]),
                "exp": _instant(claims["exp"]),
                "channel_sha256": _decode(claims["cnf"]["x5t#S256"]),
            }
        )
    except (ValueError, ValidationError, KeyError, TypeError, AttributeError, OverflowError):
        raise _refused("claims") from None


def _check_times(claims: OfficerClaims, now: datetime) -> None:
    future = claims.iat > now + MAX_CLOCK_SKEW
    if future or now - claims.iat > MAX_TOKEN_AGE or now >= claims.exp:
        raise _refused("age")


def _resolve_key(resolve: Callable[[str], bytes], kid: str) -> bytes:
    try:
        return resolve(kid)
    except ProbegateError as error:
        raise _refused("key", error.reason.name) from None


def _instant(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a NumericDate")
    try:
        return datetime.fromtimestamp(value, UTC)
    except OSError:
        raise ValueError("not a NumericDate") from None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _encode(data) != text:
        raise ValueError("not the one base64url form")
    return data


def _refused(check: str, detail: str = "") -> ProbegateError:
    return ProbegateError(Reason.OFFICER_TOKEN_INVALID, detail, check=check)
