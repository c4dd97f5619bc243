"""The directory: rollback, expiry, strangers' signatures, and whose key is whose when."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trust import dsse, strict_json
from trust.algorithms import Algorithm
from trust.ceremony import Scheme
from trust.directory import Directory, KeyUse, Role, verify_directory
from trust.directory_store import DirectoryStore, PinnedScheme
from trust.errors import ProbegateError, Reason
from trust.keys import FileSigner
from trust.payload_types import PayloadType

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Federation:
    scheme: Scheme
    directory: Directory
    scheme_keys: dict[str, bytes]
    signer: FileSigner

    @property
    def envelope(self) -> bytes:
        return self.scheme.directory_path.read_bytes()

    def signed(self, payload: bytes, kind: str = PayloadType.DIRECTORY) -> bytes:
        return dsse.sign(kind, payload, self.signer).to_json()

    def changed(self, change: Callable[[Any], object]) -> bytes:
        """Return the document, changed, honestly signed and in canonical form."""
        document = json.loads(dsse.Envelope.from_json(self.envelope).payload)
        change(document)
        return self.signed(strict_json.canonical(document))


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    scheme = Scheme.create(
        tmp_path_factory.mktemp("scheme"), "Test scheme", "probegate.example", now=NOW
    )
    scheme.add_member("northshire", Role.FORCE, now=NOW)
    scheme.add_member("southshire", Role.FORCE, now=NOW, suite=Algorithm.MLKEM768_X25519)
    scheme.add_member("broker", Role.BROKER, endpoint="127.0.0.1:7400", now=NOW)
    scheme.add_member("pnd", Role.AGENCY, endpoint="[::1]:7401", now=NOW)
    scheme.add_member("nhs", Role.AGENCY, suite=Algorithm.MLKEM768_X25519, now=NOW)
    directory = scheme.publish_directory(NOW)
    keys = dict(PinnedScheme.load(scheme.pinned_path).by_kid())
    signer = FileSigner.load(scheme.folder / "authority" / "scheme-key.pem")
    return Federation(scheme, directory, keys, signer)


def refused(federation: Federation, envelope: bytes, now: datetime = NOW, **floor: Any) -> Reason:
    with pytest.raises(ProbegateError) as error:
        verify_directory(envelope, federation.scheme_keys, now, **floor)
    return error.value.reason


def test_a_published_directory_verifies(federation: Federation) -> None:
    directory = verify_directory(federation.envelope, federation.scheme_keys, NOW)
    assert directory.version == 1
    assert directory.sha256 == federation.directory.sha256
    assert [m.id for m in directory.members(Role.AGENCY)] == ["nhs", "pnd"]
    assert len(directory.members()) == 5
    assert directory.ca_pem == federation.scheme.ca_path.read_bytes()
    assert repr(directory) == "Directory(scheme='Test scheme', version=1)"


def test_only_the_pinned_key_signs(federation: Federation, tmp_path: Path) -> None:
    stranger = FileSigner.generate(tmp_path / "stranger.pem")
    payload = dsse.Envelope.from_json(federation.envelope).payload
    by_stranger = dsse.sign(PayloadType.DIRECTORY, payload, stranger)
    by_both = dsse.sign(PayloadType.DIRECTORY, payload, federation.signer, stranger)
    member = federation.scheme.member_folder("pnd").signer()
    by_member = dsse.sign(PayloadType.DIRECTORY, payload, member)
    for envelope in (by_stranger, by_both, by_member):
        assert refused(federation, envelope.to_json()) is Reason.DIRECTORY_INVALID


def test_tampered_bytes(federation: Federation) -> None:
    envelope = dsse.Envelope.from_json(federation.envelope)
    payload = envelope.payload.replace(b"northshire", b"northshirf")
    changed = dsse.Envelope(envelope.payload_type, payload, envelope.signatures)
    assert refused(federation, changed.to_json()) is Reason.DIRECTORY_INVALID
    assert refused(federation, federation.envelope[:-1]) is Reason.DIRECTORY_INVALID
    other = federation.signed(envelope.payload, PayloadType.AGREEMENT_BUNDLE)
    assert refused(federation, other) is Reason.DIRECTORY_INVALID


def test_a_document_not_in_canonical_form(federation: Federation) -> None:
    payload = dsse.Envelope.from_json(federation.envelope).payload
    for changed in (payload + b" ", payload.replace(b'"version":1', b'"version":1.0')):
        assert refused(federation, federation.signed(changed)) is Reason.DIRECTORY_INVALID


def test_expiry_and_the_future(federation: Federation) -> None:
    envelope, keys = federation.envelope, federation.scheme_keys
    assert refused(federation, envelope, NOW + 30 * DAY) is Reason.DIRECTORY_EXPIRED
    assert refused(federation, envelope, NOW - DAY) is Reason.DIRECTORY_EXPIRED
    late = NOW + 30 * DAY - timedelta(seconds=1)
    verify_directory(envelope, keys, late).require_current(late)
    with pytest.raises(ProbegateError) as error:
        federation.directory.require_current(NOW + 30 * DAY)
    assert error.value.reason is Reason.DIRECTORY_EXPIRED


def test_rollback(federation: Federation) -> None:
    envelope, sha256 = federation.envelope, federation.directory.sha256
    verify_directory(envelope, federation.scheme_keys, NOW, 1, sha256)
    assert refused(federation, envelope, floor_version=2) is Reason.DIRECTORY_ROLLBACK
    twin = federation.changed(lambda document: document.update(scheme="Another"))
    assert refused(federation, twin, floor_version=1, floor_sha256=sha256) is (
        Reason.DIRECTORY_ROLLBACK
    )


def test_a_document_from_before_link_keys_keeps_its_bytes(federation: Federation) -> None:
    """What was signed then has no such field, and none with an empty list is made now."""
    payload = dsse.Envelope.from_json(federation.envelope).payload
    assert b"link_keys" not in payload
    verify_directory(federation.envelope, federation.scheme_keys, NOW)
    empty = federation.changed(lambda document: document["members"][3].update(link_keys=[]))
    assert refused(federation, empty) is Reason.DIRECTORY_INVALID


def linked(document: Any, member: str, **changes: Any) -> Any:
    """Add a link key to a member of a document, with changes, and return the document."""
    owner = next(one for one in document["members"] if one["id"] == member)
    seal = next((key["kid"] for key in owner["keys"] if key["use"] == "seal"), "0" * 64)
    made = {
        "id": "link-1",
        "kid": seal,
        "not_before": "2026-11-01T00:00:00Z",
        "not_after": "2027-11-01T00:00:00Z",
        "sealed": "AAAA",
    }
    owner.setdefault("link_keys", []).append(made | changes)
    return document


def test_a_document_with_link_keys_verifies(federation: Federation) -> None:
    def both(document: Any) -> None:
        linked(document, "pnd")
        linked(document, "nhs")

    directory = verify_directory(federation.changed(both), federation.scheme_keys, NOW)
    (key,) = directory.member("pnd").link_keys
    assert key.sealed_bytes == bytes(3)


LINK_KEYS: dict[str, Callable[[Any], object]] = {
    "of a force": lambda d: linked(d, "northshire"),
    "of the broker": lambda d: linked(d, "broker"),
    "sealed to another's key": lambda d: linked(
        d, "pnd", kid=next(m for m in d["members"] if m["id"] == "nhs")["keys"][1]["kid"]
    ),
    "sealed to a signing key": lambda d: linked(
        d, "pnd", kid=next(m for m in d["members"] if m["id"] == "pnd")["keys"][0]["kid"]
    ),
    "twice": lambda d: [linked(d, "pnd"), linked(d, "pnd")],
    "not base64": lambda d: linked(d, "pnd", sealed="*"),
    "never valid": lambda d: linked(d, "pnd", not_after="2026-11-01T00:00:00Z"),
    "another validity elsewhere": lambda d: [
        linked(d, "pnd"),
        linked(d, "nhs", not_after="2027-11-02T00:00:00Z"),
    ],
    "too many": lambda d: [linked(d, "pnd", id=f"link-{n}") for n in range(9)],
    "an id out of form": lambda d: linked(d, "pnd", id="Link 1"),
}


@pytest.mark.parametrize("name", LINK_KEYS)
def test_an_unfit_link_key_is_refused_though_signed(federation: Federation, name: str) -> None:
    assert refused(federation, federation.changed(LINK_KEYS[name])) is Reason.DIRECTORY_INVALID


CHANGES: dict[str, Callable[[Any], object]] = {
    "unknown field": lambda d: d.update(extra=1),
    "missing field": lambda d: d.pop("scheme"),
    "no authority": lambda d: d.update(ca_certificates=[]),
    "version 0": lambda d: d.update(version=0),
    "time without zone": lambda d: d.update(expires_at="2030-01-01T00:00:00"),
    "member id twice": lambda d: d["members"][1].update(id=d["members"][0]["id"]),
    "SPIFFE id twice": lambda d: d["members"][1].update(spiffe_id=d["members"][0]["spiffe_id"]),
    "key twice": lambda d: d["members"][0]["keys"].append(d["members"][0]["keys"][0]),
    "key of two members": lambda d: d["members"][1]["keys"].append(d["members"][2]["keys"][0]),
    "another's key id": lambda d: d["members"][1]["keys"][0].update(
        kid=d["members"][2]["keys"][0]["kid"]
    ),
    "short key": lambda d: d["members"][0]["keys"][0].update(public_key="AAAA"),
    "not base64": lambda d: d["members"][0]["keys"][0].update(public_key="*"),
    "use does not fit": lambda d: d["members"][2]["keys"][0].update(use="seal"),
    "unknown role": lambda d: d["members"][0].update(role="god"),
    "name on a signing key": lambda d: d["members"][2]["keys"][0].update(name="a/b"),
    "unnamed log key": lambda d: d["members"][0]["keys"][1].update(name=None),
    "name of two owners": lambda d: d["members"][0]["keys"][1].update(
        name=next(k["name"] for m in d["members"][1:] for k in m["keys"] if k["name"])
    ),
    "path in an id": lambda d: d["members"][0].update(id="../x"),
    "never valid": lambda d: d["members"][0]["keys"][0].update(not_after="2020-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_unfit_document_is_refused_though_signed(federation: Federation, name: str) -> None:
    assert refused(federation, federation.changed(CHANGES[name])) is Reason.DIRECTORY_INVALID


def test_look_ups_never_raise_a_stray_error(federation: Federation) -> None:
    directory = federation.directory
    assert directory.member("pnd", Role.AGENCY) is directory.find("pnd")
    assert directory.find("nobody") is None
    assert directory.by_spiffe("spiffe://probegate.example/agency/pnd") is directory.find("pnd")
    assert directory.by_spiffe("spiffe://probegate.example/agency/PND") is None
    assert directory.owner_of_name("pnd.probegate.example/search") is directory.find("pnd")
    assert directory.owner_of_name("elsewhere/search") is None
    cases = (("x", Role.AGENCY), ("broker", Role.AGENCY), ("x", None), ("pnd", Role.FORCE))
    for member_id, role in cases:
        with pytest.raises(ProbegateError) as error:
            directory.member(member_id, role)
        expected = Reason.AGENCY_UNKNOWN if role is Role.AGENCY else Reason.NOT_FOUND
        assert error.value.reason is expected


def test_a_key_is_one_member_s_for_one_use(federation: Federation) -> None:
    directory = federation.directory
    kid = federation.scheme.member_folder("northshire").signer().kid
    assert len(directory.resolver("northshire", KeyUse.SIGN, NOW)(kid)) == 32
    for member_id, use in (
        ("southshire", KeyUse.SIGN),
        ("northshire", KeyUse.IDENTITY),
        ("northshire", KeyUse.SEAL),
        ("nobody", KeyUse.SIGN),
    ):
        with pytest.raises(ProbegateError) as error:
            directory.resolver(member_id, use, NOW)(kid)
        assert error.value.reason is Reason.KEY_UNKNOWN


def test_validity_is_asked_for_an_instant(federation: Federation) -> None:
    key = federation.directory.current_key("pnd", KeyUse.SIGN, NOW)
    for at in (key.not_before - timedelta(seconds=1), key.not_after):
        with pytest.raises(ProbegateError) as error:
            federation.directory.resolver("pnd", KeyUse.SIGN, at)(key.kid)
        assert error.value.reason is Reason.KEY_REVOKED
        with pytest.raises(ProbegateError) as error:
            federation.directory.current_key("pnd", KeyUse.SIGN, at)
        assert error.value.reason is Reason.KEY_UNKNOWN


def test_log_keys_are_told_apart_by_name(federation: Federation) -> None:
    name = "broker.probegate.example/admin"
    key = federation.directory.current_key("broker", KeyUse.LOG, NOW, name)
    assert key.kid == federation.scheme.member_folder("broker").log_admin_signer().kid
    assert len(federation.directory.keys("broker", KeyUse.LOG, NOW)) == 2


def test_the_hybrid_suite_needs_both_sides(federation: Federation) -> None:
    directory = federation.directory
    hybrid = directory.sealing_key("nhs", "southshire", NOW)
    assert hybrid.algorithm is Algorithm.MLKEM768_X25519
    assert directory.sealing_key("pnd", "southshire", NOW).algorithm is Algorithm.X25519
    with pytest.raises(ProbegateError) as error:
        directory.sealing_key("nhs", "northshire", NOW)  # has only a hybrid key
    assert error.value.reason is Reason.KEY_UNKNOWN


def test_revocation_and_rotation(tmp_path: Path) -> None:
    scheme = Scheme.create(tmp_path, "Test", "probegate.example", now=NOW)
    folder = scheme.add_member("pnd", Role.AGENCY, now=NOW)
    old, old_seal = folder.signer(), folder.opener()
    later = NOW + DAY
    scheme.rotate_key("pnd", KeyUse.SIGN, later)
    scheme.rotate_key("pnd", KeyUse.SEAL, later)
    scheme.revoke_key("pnd", old.kid, later)
    scheme.revoke_key("pnd", old.kid, later + DAY)
    directory = scheme.publish_directory(later)

    assert folder.signer().kid != old.kid
    assert directory.current_key("pnd", KeyUse.SIGN, later).kid == folder.signer().kid
    assert directory.current_key("pnd", KeyUse.SEAL, later).kid == folder.opener().kid
    assert set(folder.openers()) == {old_seal.kid, folder.opener().kid}
    before = directory.resolver("pnd", KeyUse.SIGN, later - timedelta(seconds=1))
    assert before(old.kid) == old.public_key
    for at in (later, later + timedelta(hours=1)):
        with pytest.raises(ProbegateError) as error:
            directory.resolver("pnd", KeyUse.SIGN, at)(old.kid)
        assert error.value.reason is Reason.KEY_REVOKED
    for unfit in ((KeyUse.LOG), (KeyUse.IDENTITY)):
        with pytest.raises(ProbegateError) as error:
            scheme.rotate_key("pnd", unfit, later)
        assert error.value.reason is Reason.KEY_UNKNOWN


def test_a_rotation_at_the_same_instant_still_has_one_newest_key(tmp_path: Path) -> None:
    scheme = Scheme.create(tmp_path, "Test", "probegate.example", now=NOW)
    folder = scheme.add_member("pnd", Role.AGENCY, now=NOW)
    for _ in range(3):
        scheme.rotate_key("pnd", KeyUse.SIGN, NOW)
    directory = scheme.publish_directory(NOW)
    assert directory.current_key("pnd", KeyUse.SIGN, NOW).kid == folder.signer().kid


@pytest.fixture
def store_of(tmp_path: Path) -> tuple[Scheme, Callable[[], DirectoryStore]]:
    scheme = Scheme.create(tmp_path / "scheme", "Test", "probegate.example", now=NOW)
    scheme.add_member("pnd", Role.AGENCY, now=NOW)
    scheme.publish_directory(NOW)
    state = tmp_path / "state" / "directory.json"
    return scheme, lambda: DirectoryStore(scheme.directory_path, scheme.pinned_path, state)


def test_the_store_never_goes_back(store_of: tuple[Scheme, Callable[[], DirectoryStore]]) -> None:
    scheme, make = store_of
    first = scheme.directory_path.read_bytes()
    store = make()
    assert store.load(NOW).version == 1
    scheme.add_member("nhs", Role.AGENCY, now=NOW)
    scheme.publish_directory(NOW)
    assert store.reload_if_changed(NOW).version == 2
    scheme.directory_path.write_bytes(first)
    for again in (store.reload_if_changed, make().load):  # running, and after a restart
        with pytest.raises(ProbegateError) as error:
            again(NOW)
        assert error.value.reason is Reason.DIRECTORY_ROLLBACK
    assert store.current.version == 2


def test_the_store_refuses_a_second_document_of_one_version(
    store_of: tuple[Scheme, Callable[[], DirectoryStore]],
) -> None:
    scheme, make = store_of
    make().load(NOW)
    state = scheme.folder / "authority" / "state.json"
    state.write_bytes(state.read_bytes().replace(b'"version": 1', b'"version": 0'))
    assert scheme.publish_directory(NOW + timedelta(seconds=1)).version == 1
    with pytest.raises(ProbegateError) as error:
        make().load(NOW + timedelta(seconds=1))
    assert error.value.reason is Reason.DIRECTORY_ROLLBACK


def test_the_store_reloads_only_what_changed_and_watches_the_clock(
    store_of: tuple[Scheme, Callable[[], DirectoryStore]],
) -> None:
    _, make = store_of
    store = make()
    loaded = store.reload_if_changed(NOW)
    assert store.reload_if_changed(NOW + DAY) is loaded
    with pytest.raises(ProbegateError) as error:
        store.reload_if_changed(NOW + 30 * DAY)
    assert error.value.reason is Reason.DIRECTORY_EXPIRED


def test_the_store_fails_closed(store_of: tuple[Scheme, Callable[[], DirectoryStore]]) -> None:
    scheme, make = store_of
    store = make()
    with pytest.raises(ProbegateError) as error:
        _ = store.current
    assert error.value.reason is Reason.DIRECTORY_INVALID
    store.load(NOW)
    state = scheme.folder.parent / "state" / "directory.json"
    state.write_bytes(b"{")
    with pytest.raises(ProbegateError) as error:
        store.load(NOW)
    assert error.value.reason is Reason.STATE_UNAVAILABLE
    scheme.pinned_path.write_bytes(b"{}")
    with pytest.raises(ProbegateError) as error:
        store.load(NOW)
    assert error.value.reason is Reason.DIRECTORY_INVALID
    scheme.directory_path.unlink()
    with pytest.raises(ProbegateError) as error:
        store.reload_if_changed(NOW)
    assert error.value.reason is Reason.FILE_MISSING
