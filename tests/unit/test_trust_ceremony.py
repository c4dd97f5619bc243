"""The key ceremony: which member gets which keys, and the commands that make them."""

from __future__ import annotations

import doctest
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import trust
from cli.keys import app
from trust.algorithms import Algorithm
from trust.ceremony import Scheme
from trust.clock import utc_now
from trust.directory import MAX_LINK_KEYS, KeyUse, Role, verify_directory
from trust.directory_store import DirectoryStore, PinnedScheme
from trust.errors import ProbegateError, Reason
from trust.link_keys import LINK_KEY_LEAD, LinkKey, newest_at, opened
from trust.tokens import Part, verify_token

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY_FILES = {
    Role.FORCE: {"sign", "seal", "identity"},
    Role.BROKER: {"sign", "log-search", "log-admin"},
    Role.AGENCY: {"sign", "seal", "log-search", "log-admin", "witness"},
    Role.AUDITOR: set[str](),
}


@pytest.fixture
def scheme(tmp_path: Path) -> Scheme:
    return Scheme.create(tmp_path / "scheme", "Test", "probegate.example", now=NOW)


@pytest.mark.parametrize("role", KEY_FILES)
def test_each_role_has_its_own_keys_and_no_others(scheme: Scheme, role: Role) -> None:
    folder = scheme.add_member("one", role, now=NOW)
    assert {path.stem for path in folder.path.glob("keys/*")} == KEY_FILES[role]
    assert len({key.kid for key in folder.member().keys}) == len(KEY_FILES[role])
    for path in folder.path.glob("keys/*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_loaders_give_the_keys_on_the_card(scheme: Scheme) -> None:
    agency = scheme.add_member("pnd", Role.AGENCY, now=NOW)
    force = scheme.add_member("northshire", Role.FORCE, now=NOW)
    loaded = {
        (KeyUse.SIGN, None): agency.signer().kid,
        (KeyUse.SEAL, None): agency.opener().kid,
        (KeyUse.LOG, "pnd.probegate.example/search"): agency.log_search_signer().kid,
        (KeyUse.LOG, "pnd.probegate.example/admin"): agency.log_admin_signer().kid,
        (KeyUse.WITNESS, "pnd.probegate.example/witness"): agency.witness_signer().kid,
    }
    assert {(key.use, key.name): key.kid for key in agency.member().keys} == loaded
    assert force.identity_signer().kid in {key.kid for key in force.member().keys}
    with pytest.raises(ProbegateError) as error:
        force.witness_signer()
    assert error.value.reason is Reason.FILE_MISSING


def test_nothing_private_is_published(scheme: Scheme) -> None:
    scheme.add_member("pnd", Role.AGENCY, suite=Algorithm.MLKEM768_X25519, now=NOW)
    scheme.issue_certificate("pnd", now=NOW)
    scheme.publish_directory(NOW)
    private = {
        path.relative_to(scheme.folder)
        for path in scheme.folder.rglob("*")
        if path.is_file() and b"PRIVATE" in path.read_bytes()
    }
    for name in private:
        assert stat.S_IMODE((scheme.folder / name).stat().st_mode) == 0o600
    assert len(private) == 2 + 5 + 1
    assert scheme.directory_path.relative_to(scheme.folder) not in private


def test_versions_rise_and_never_repeat(scheme: Scheme) -> None:
    assert [scheme.publish_directory(NOW).version for _ in range(3)] == [1, 2, 3]
    assert Scheme.open(scheme.folder).publish_directory(NOW).version == 4
    assert (scheme.name, scheme.trust_domain) == ("Test", "probegate.example")


def test_nothing_is_made_twice(scheme: Scheme) -> None:
    before = scheme.add_member("pnd", Role.AGENCY, now=NOW).signer().kid
    with pytest.raises(ProbegateError) as error:
        scheme.add_member("pnd", Role.AGENCY, now=NOW)
    assert error.value.reason is Reason.FILE_EXISTS
    with pytest.raises(ProbegateError) as error:
        Scheme.create(scheme.folder, "Other", "other.example", now=NOW)
    assert error.value.reason is Reason.FILE_EXISTS
    assert scheme.member_folder("pnd").signer().kid == before
    assert scheme.name == "Test"


@pytest.mark.parametrize("member_id", ["../x", "a/b", "", "UPPER", ".", "a" * 64])
def test_an_id_never_becomes_a_path(scheme: Scheme, member_id: str) -> None:
    before = sorted(scheme.folder.parent.rglob("*"))
    with pytest.raises(ProbegateError) as error:
        scheme.add_member(member_id, Role.FORCE, now=NOW)
    assert error.value.reason is Reason.CONFIG_INVALID
    assert error.value.metadata["field"] == "id"
    with pytest.raises(ProbegateError) as error:
        scheme.issue_certificate(member_id, now=NOW)
    assert error.value.reason is Reason.NOT_FOUND
    assert sorted(scheme.folder.parent.rglob("*")) == before


def test_a_trust_domain_out_of_form_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProbegateError) as error:
        Scheme.create(tmp_path / "x", "Test", "not a domain")
    assert error.value.reason is Reason.CONFIG_INVALID
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("endpoint", ["no-port", ":1", "host:", "host:123456", "a b:1", "::1:80"])
def test_an_endpoint_out_of_form_makes_nothing(scheme: Scheme, endpoint: str) -> None:
    with pytest.raises(ProbegateError) as error:
        scheme.add_member("pnd", Role.AGENCY, endpoint=endpoint, now=NOW)
    assert error.value.metadata["field"] == "endpoint"
    assert scheme.members() == ()
    assert not scheme.member_folder("pnd").path.exists()


def test_damaged_files_are_catalogued(scheme: Scheme) -> None:
    folder = scheme.add_member("pnd", Role.AGENCY, now=NOW)
    folder.card.write_bytes(b"{}")
    with pytest.raises(ProbegateError) as error:
        scheme.publish_directory(NOW)
    assert error.value.reason is Reason.DIRECTORY_INVALID
    (scheme.folder / "authority" / "state.json").write_bytes(b"")
    with pytest.raises(ProbegateError) as error:
        Scheme.open(scheme.folder)
    assert error.value.reason is Reason.STATE_UNAVAILABLE
    with pytest.raises(ProbegateError) as error:
        scheme.revoke_key("pnd", "0" * 16, NOW)
    assert error.value.reason is Reason.DIRECTORY_INVALID


def test_the_package_s_example_runs() -> None:
    results = doctest.testmod(trust)
    assert results.attempted > 0
    assert results.failed == 0


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_whole_scheme_by_commands(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    run("scheme", folder, "--name", "Demo", "--trust-domain", "probegate.example")
    run("member", folder, "northshire", "--role", "force", "--title", "Northshire Police")
    run("member", folder, "broker", "--role", "broker", "--endpoint", "127.0.0.1:7400")
    run("member", folder, "pnd", "--role", "agency", "--suite", "MLKEM768_X25519")
    run("member", folder, "oversight", "--role", "auditor")
    run("cert", folder, "northshire", "--days", "2")
    run("rotate", folder, "pnd", "seal")
    scheme = Scheme.open(folder)
    revoked = scheme.member_folder("broker").signer().kid
    run("revoke", folder, "broker", revoked)
    assert "version 1" in run("directory", folder)

    store = DirectoryStore(scheme.directory_path, scheme.pinned_path, tmp_path / "floor.json")
    directory = store.load(utc_now())
    keys = PinnedScheme.load(scheme.pinned_path).by_kid()
    envelope = scheme.directory_path.read_bytes()
    assert verify_directory(envelope, keys, utc_now(), 1, directory.sha256).version == 1
    force = scheme.member_folder("northshire")
    token = run(
        *("token", folder, "northshire", "--officer", "officer-17", "--rank", "sergeant"),
        *("--role", "investigator", "--part", "authoriser", "--accreditation", "fr-operator"),
        *("--accreditation-expires", "2027-01-31"),
    )
    claims = verify_token(
        token.strip(),
        resolve=directory.resolver("northshire", KeyUse.IDENTITY, utc_now()),
        force_id="northshire",
        channel_cert_sha256=force.certificate_sha256(),
        now=utc_now(),
        part=Part.AUTHORISER,
    )
    assert claims.sub == "officer-17"
    shown = run("show", folder)
    for expected in ("northshire", "oversight", "revoked", "certificate until", revoked):
        assert expected in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("member", "DIR", "pnd", "--role", "agency"), Reason.FILE_MISSING),
        (("directory", "DIR"), Reason.FILE_MISSING),
        (("show", "DIR"), Reason.FILE_MISSING),
        (("scheme", "DIR", "--name", "x", "--trust-domain", "?"), Reason.CONFIG_INVALID),
    ],
)
def test_an_error_is_one_line(tmp_path: Path, arguments: tuple[str, ...], reason: Reason) -> None:
    folder = str(tmp_path / "none")
    result = CliRunner().invoke(app, [folder if one == "DIR" else one for one in arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"probegate: {reason.name}: ")
    assert result.stderr.count("\n") == 1


# --- link keys --------------------------------------------------------------------------------


def link_keys_of(scheme: Scheme, agency: str, at: datetime) -> dict[str, bytes]:
    """What an agency opens of the directory that is published now, by link key id."""
    directory, folder = scheme.publish_directory(at), scheme.member_folder(agency)
    sealed = directory.member(agency).link_keys
    return {one.id: opened(one, agency, folder.openers()).key for one in sealed}


def test_every_agency_opens_the_same_link_key_and_nobody_else_has_one(scheme: Scheme) -> None:
    for member, role in (("pnd", Role.AGENCY), ("ns", Role.FORCE), ("broker", Role.BROKER)):
        scheme.add_member(member, role, now=NOW)
    scheme.add_member("nhs", Role.AGENCY, suite=Algorithm.MLKEM768_X25519, now=NOW)
    made = scheme.add_link_key(NOW)
    opened_at = link_keys_of(scheme, "pnd", NOW)
    assert opened_at == link_keys_of(scheme, "nhs", NOW)
    assert set(opened_at) == {made.id}
    directory = scheme.publish_directory(NOW)
    assert {m.id for m in directory.members() if m.link_keys} == {"pnd", "nhs"}
    with pytest.raises(ProbegateError) as error:
        opened(directory.member("pnd").link_keys[0], "pnd", scheme.member_folder("nhs").openers())
    assert error.value.reason is Reason.SEAL_INVALID
    with pytest.raises(ProbegateError) as error:
        opened(directory.member("pnd").link_keys[0], "nhs", scheme.member_folder("pnd").openers())
    assert error.value.reason is Reason.SEAL_INVALID
    (key,) = opened_at.values()
    holding = [
        path.relative_to(scheme.folder).as_posix()
        for path in scheme.folder.rglob("*")
        if path.is_file() and made.key.encode() in path.read_bytes()
    ]
    assert holding == ["authority/link-keys.json"]
    kept = scheme.folder / holding[0]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert made.key not in repr(made)
    assert repr(key) not in repr(LinkKey(made.id, key))


def test_who_joins_or_changes_keys_later_has_the_link_key_too(scheme: Scheme) -> None:
    scheme.add_member("pnd", Role.AGENCY, now=NOW)
    made = scheme.add_link_key(NOW)
    before = link_keys_of(scheme, "pnd", NOW)
    scheme.add_member("nhs", Role.AGENCY, now=NOW)
    scheme.rotate_key("pnd", KeyUse.SEAL, NOW + timedelta(days=1))
    later = NOW + timedelta(days=2)
    assert link_keys_of(scheme, "nhs", later) == link_keys_of(scheme, "pnd", later) == before
    newest = scheme.publish_directory(later).current_key("pnd", KeyUse.SEAL, later)
    (sealed,) = scheme.publish_directory(later).member("pnd").link_keys
    assert (sealed.id, sealed.kid) == (made.id, newest.kid)


def test_the_next_link_key_is_known_before_it_is_valid(scheme: Scheme) -> None:
    scheme.add_member("pnd", Role.AGENCY, now=NOW)
    first = scheme.add_link_key(NOW)
    second = scheme.add_link_key(NOW)
    keys = scheme.publish_directory(NOW).member("pnd").link_keys
    assert [one.id for one in keys] == [first.id, second.id]

    def chosen(at: datetime) -> str | None:
        one = newest_at(keys, at)
        return one.id if one else None

    turn = NOW + LINK_KEY_LEAD
    assert chosen(NOW) == first.id
    assert chosen(turn - timedelta(microseconds=1)) == first.id
    assert chosen(turn) == second.id
    assert chosen(second.not_after) is None
    assert chosen(first.not_before - timedelta(seconds=1)) is None
    # Whoever has both chooses alike, in whatever sequence they come.
    assert newest_at(reversed(keys), turn) == newest_at(keys, turn)
    # What has ended leaves the directory.
    after = first.not_after + timedelta(seconds=1)
    assert [one.id for one in scheme.publish_directory(after).member("pnd").link_keys] == [
        second.id
    ]


def test_a_link_key_that_leaked_is_withdrawn_at_once(scheme: Scheme) -> None:
    scheme.add_member("pnd", Role.AGENCY, now=NOW)
    scheme.add_link_key(NOW)
    made = scheme.add_link_key(NOW, replace=True)
    assert set(link_keys_of(scheme, "pnd", NOW)) == {made.id}
    assert made.not_before <= NOW
    for _ in range(MAX_LINK_KEYS - 1):
        scheme.add_link_key(NOW)
    with pytest.raises(ProbegateError) as error:
        scheme.add_link_key(NOW)
    assert error.value.reason is Reason.CONFIG_INVALID
    (scheme.folder / "authority" / "link-keys.json").write_text("{}")
    with pytest.raises(ProbegateError) as error:
        scheme.publish_directory(NOW)
    assert error.value.reason is Reason.STATE_UNAVAILABLE


def test_a_link_key_is_made_at_the_command_line(scheme: Scheme) -> None:
    done = CliRunner().invoke(app, ["link-key", str(scheme.folder), "--days", "30"])
    assert done.exit_code == 0
    assert "New link key link-" in done.output
    assert "keys directory" in done.output
