"""Officer tokens: every way of presenting the wrong one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust.ceremony import Scheme
from trust.clock import MAX_CLOCK_SKEW
from trust.directory import Directory, KeyUse, Role
from trust.errors import ProbegateError, Reason
from trust.keys import FileSigner
from trust.tokens import (
    MAX_TOKEN_AGE,
    OfficerClaims,
    Part,
    TokenCache,
    issue_token,
    verify_token,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CHANNEL = hashlib.sha256(b"northshire's certificate").digest()
FORCE = "northshire"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.scheme = Scheme.create(folder, "Test", "probegate.example", now=NOW)
        for force in (FORCE, "southshire"):
            self.scheme.add_member(force, Role.FORCE, now=NOW)
        self.directory = self.scheme.publish_directory(NOW)
        self.signer = self.scheme.member_folder(FORCE).identity_signer()

    def issue(self, **changes: Any) -> str:
        values: dict[str, Any] = {
            "force": FORCE,
            "officer": "officer-17",
            "part": Part.OFFICER,
            "role": "investigator",
            "rank": "sergeant",
            "channel_cert_sha256": CHANNEL,
            "now": NOW,
            "accreditation": "fr-operator",
            "accreditation_expires": date(2027, 1, 1),
            "amr": ("pwd", "hwk"),
        }
        signer = changes.pop("signer", self.signer)
        return issue_token(signer, **(values | changes))

    def forge(self, header: Any, claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
        """Return an honest token's header and claims with changes, signed as told."""
        head, body, _ = self.issue().split(".")
        whole = (decoded(head) | header, decoded(body) | claims)
        signed = ".".join(encoded(json.dumps(part).encode()) for part in whole)
        return f"{signed}.{encoded(sign(signed.encode()))}"

    def verify(self, token: str, cache: TokenCache | None = None, **changes: Any) -> OfficerClaims:
        now = changes.get("now", NOW)
        directory: Directory = changes.pop("directory", self.directory)
        values: dict[str, Any] = {
            "resolve": directory.resolver(changes.get("force_id", FORCE), KeyUse.IDENTITY, now),
            "force_id": FORCE,
            "channel_cert_sha256": CHANNEL,
            "now": NOW,
            "part": Part.OFFICER,
        }
        verify = verify_token if cache is None else cache.verify
        return verify(token, **(values | changes))

    def refused(self, token: str, cache: TokenCache | None = None, **changes: Any) -> str:
        with pytest.raises(ProbegateError) as error:
            self.verify(token, cache, **changes)
        assert error.value.reason is Reason.OFFICER_TOKEN_INVALID
        assert list(error.value.metadata) == ["check"]
        return error.value.metadata["check"]


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("scheme"))


def test_an_honest_token(bench: Bench) -> None:
    claims = bench.verify(bench.issue())
    assert (claims.force, claims.sub, claims.part) == (FORCE, "officer-17", Part.OFFICER)
    assert (claims.rank, claims.role, claims.unit) == ("sergeant", "investigator", "")
    assert claims.accreditation_expires == date(2027, 1, 1)
    assert claims.amr == ("pwd", "hwk")
    assert claims.exp - claims.iat == MAX_TOKEN_AGE


def test_both_names_of_the_algorithm_are_ed25519(bench: Bench) -> None:
    bench.verify(bench.forge({"alg": "EdDSA"}, {}, bench.signer.sign))


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_the_type_s_spellings(bench: Bench, typ: str) -> None:
    bench.verify(bench.forge({"typ": typ}, {}, bench.signer.sign))


def test_claims_without_a_meaning_here_are_passed_over(bench: Bench) -> None:
    claims = {"name": "x", "aud": ["probegate"]}
    assert bench.verify(bench.forge({}, claims, bench.signer.sign)).sub == "officer-17"


@pytest.mark.parametrize(
    "alg", ["none", "None", "HS256", "ES256", "Ed448", "", None, 1, ["Ed25519"]]
)
def test_other_algorithms(bench: Bench, alg: Any) -> None:
    assert bench.refused(bench.forge({"alg": alg}, {}, bench.signer.sign)) == "header"
    assert bench.refused(bench.forge({"alg": alg}, {}, lambda _: b"")) == "header"


def test_the_public_key_as_a_mac_secret(bench: Bench) -> None:
    def mac(data: bytes) -> bytes:
        return hmac.digest(bench.signer.public_key, data, "sha256")

    assert bench.refused(bench.forge({"alg": "HS256"}, {}, mac)) == "header"
    assert bench.refused(bench.forge({}, {}, mac)) == "signature"


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": None},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}},
        {"jku": "https://elsewhere.example/keys"},
        {"x5c": ["AAAA"]},
        {"crit": ["exp"], "exp": 1},
        {"b64": False},
        {"kid": None},
    ],
)
def test_headers_that_are_not_ours(bench: Bench, header: dict[str, Any]) -> None:
    assert bench.refused(bench.forge(header, {}, bench.signer.sign)) == "header"


def test_a_signature_over_something_else(bench: Bench) -> None:
    head, body, signature = bench.issue().split(".")
    promoted = encoded(json.dumps(decoded(body) | {"rank": "superintendent"}).encode())
    assert bench.refused(f"{head}.{promoted}.{signature}") == "signature"
    assert bench.refused(f"{head}.{body}.") == "signature"
    assert bench.refused(f"{head}.{body}") == "signature"
    assert bench.refused(f"{head}.{body}.{signature}.") == "signature"


def test_keys_of_others_and_for_other_uses(bench: Bench, tmp_path: Path) -> None:
    folder = bench.scheme.member_folder(FORCE)
    other = bench.scheme.member_folder("southshire").identity_signer()
    stranger = FileSigner.generate(tmp_path / "stranger.pem")
    for signer in (other, stranger, folder.signer()):
        assert bench.refused(bench.issue(signer=signer)) == "key"
        relabelled = bench.forge({"kid": bench.signer.kid}, {}, signer.sign)
        assert bench.refused(relabelled) == "signature"


def test_another_force_s_officer(bench: Bench) -> None:
    other = bench.scheme.member_folder("southshire").identity_signer()
    southern = bench.issue(signer=other, force="southshire")
    assert bench.refused(southern) == "key"
    assert bench.verify(southern, force_id="southshire").force == "southshire"
    posing = bench.issue(force="southshire")
    assert bench.refused(posing) == "issuer"


@pytest.mark.parametrize("aud", ["elsewhere", ["probegate", "elsewhere"], [], None])
def test_another_audience(bench: Bench, aud: Any) -> None:
    assert bench.refused(bench.forge({}, {"aud": aud}, bench.signer.sign)) == "audience"


def test_the_wrong_channel(bench: Bench) -> None:
    other = hashlib.sha256(b"another certificate").digest()
    assert bench.refused(bench.issue(), channel_cert_sha256=other) == "channel"


@pytest.mark.parametrize("made_for", Part)
@pytest.mark.parametrize("wanted", Part)
def test_a_token_plays_one_part(bench: Bench, made_for: Part, wanted: Part) -> None:
    token = bench.issue(part=made_for)
    if made_for is wanted:
        assert bench.verify(token, part=wanted).part is wanted
    else:
        assert bench.refused(token, part=wanted) == "part"


def test_age(bench: Bench) -> None:
    long = bench.issue(lifetime=timedelta(days=1))
    bench.verify(long, now=NOW + MAX_TOKEN_AGE)
    assert bench.refused(long, now=NOW + MAX_TOKEN_AGE + SECOND) == "age"
    short = bench.issue(lifetime=timedelta(seconds=10))
    bench.verify(short, now=NOW + 9 * SECOND)
    assert bench.refused(short, now=NOW + 10 * SECOND) == "age"
    ahead = bench.issue(now=NOW + MAX_CLOCK_SKEW)
    bench.verify(ahead)
    assert bench.refused(bench.issue(now=NOW + MAX_CLOCK_SKEW + SECOND)) == "age"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": ""},
        {"sub": 7},
        {"part": "god"},
        {"part": None},
        {"rank": "Not A Code"},
        {"iat": "now"},
        {"iat": True},
        {"iat": 1e300},
        {"exp": -1e18},
        {"exp": None},
        {"cnf": None},
        {"cnf": {}},
        {"cnf": {"x5t#S256": 1}},
        {"cnf": {"x5t#S256": "AAAA"}},
        {"cnf": {"x5t#S256": "\u20ac"}},
        {"accreditation_expires": "soon"},
        {"jti": ""},
        {"amr": ["x"] * 9},
    ],
)
def test_claims_that_do_not_fit(bench: Bench, claims: dict[str, Any]) -> None:
    assert bench.refused(bench.forge({}, claims, bench.signer.sign)) == "claims"


@pytest.mark.parametrize("payload", [b"", b"[]", b"1", b"\xff", b'{"iss":"northshire","iss":"x"}'])
def test_payloads_that_are_not_claims(bench: Bench, payload: bytes) -> None:
    signed = f"{bench.issue().split('.')[0]}.{encoded(payload)}"
    token = f"{signed}.{encoded(bench.signer.sign(signed.encode()))}"
    assert bench.refused(token) in {"claims", "signature"}


@given(st.text(max_size=80))
def test_noise_is_always_a_catalogued_refusal(bench: Bench, noise: str) -> None:
    assert bench.refused(noise) in {"format", "header"}
    assert bench.refused(f"{bench.issue().split('.')[0]}.{noise}") in {"format", "signature"}


def test_a_token_too_long(bench: Bench) -> None:
    assert bench.refused(bench.issue() + "A" * 9000) == "format"


def test_a_refusal_says_nothing_about_the_person(bench: Bench) -> None:
    with pytest.raises(ProbegateError) as error:
        bench.verify(bench.issue(), part=Part.REVIEWER)
    assert "officer-17" not in error.value.line()


def test_the_cache_answers_again_without_the_signature(bench: Bench) -> None:
    cache, token = TokenCache(), bench.issue()
    assert bench.verify(token, cache) is bench.verify(token, cache)
    assert len(cache) == 1


def test_the_cache_s_answer_is_for_one_channel_force_and_part(bench: Bench) -> None:
    cache, token = TokenCache(), bench.issue()
    bench.verify(token, cache)
    assert bench.refused(token, cache, channel_cert_sha256=bytes(32)) == "channel"
    assert bench.refused(token, cache, part=Part.REVIEWER) == "part"
    assert bench.refused(token, cache, force_id="southshire") == "key"
    assert len(cache) == 1


def test_the_cache_forgets_at_expiry(bench: Bench) -> None:
    cache, token = TokenCache(), bench.issue()
    bench.verify(token, cache)
    assert bench.refused(token, cache, now=NOW + MAX_TOKEN_AGE) == "age"
    assert len(cache) == 0


def test_the_cache_minds_a_revocation_at_once(tmp_path: Path) -> None:
    bench, cache = Bench(tmp_path), TokenCache()
    token = bench.issue()
    bench.verify(token, cache)
    bench.scheme.revoke_key(FORCE, bench.signer.kid, NOW)
    revoked = bench.scheme.publish_directory(NOW)
    assert bench.refused(token, cache, directory=revoked) == "key"
    assert len(cache) == 0


def test_the_cache_is_bounded_and_keeps_what_is_used(bench: Bench) -> None:
    cache = TokenCache(capacity=2)
    tokens = [bench.issue() for _ in range(3)]
    first = bench.verify(tokens[0], cache)
    bench.verify(tokens[1], cache)
    bench.verify(tokens[0], cache)
    bench.verify(tokens[2], cache)
    assert len(cache) == 2
    assert bench.verify(tokens[0], cache) is first
