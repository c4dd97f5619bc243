"""Bundles: both parties sign, nothing unknown is let in, and there is no way back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.policy import app
from policy.agreements import AgreementFile, parse_agreement
from policy.bundle import (
    Manifest,
    ManifestFile,
    build_bundle,
    countersign,
    load_bundle,
    new_bundle,
    open_bundle,
)
from policy.decision import Bundle, compile_bundle
from policy.facts import Facts
from policy.store import BundleStore
from trust import dsse, strict_json
from trust.ceremony import Scheme
from trust.directory import Directory, KeyUse, Role
from trust.errors import ProbegateError, Reason
from trust.keys import FileSigner
from trust.payload_types import PayloadType

EXAMPLES = Path(__file__).parents[2] / "policy" / "examples"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
AGENCIES = ("asylum", "custody", "dwp", "nhs", "passport", "pnd")
FORCES = ("northshire", "southshire")


@dataclass(frozen=True)
class Federation:
    scheme: Scheme
    directory: Directory

    def signer(self, member: str) -> FileSigner:
        return self.scheme.member_folder(member).signer()

    def bundle(self, *members: str, version: int = 3, folder: Path = EXAMPLES) -> bytes:
        return build_bundle(
            folder,
            *(self.signer(member) for member in members),
            set_id="test",
            version=version,
            not_before=NOW - DAY,
            not_after=NOW + 30 * DAY,
        )

    def load(self, raw: bytes, floor: int = 0, at: datetime = NOW) -> Bundle:
        return load_bundle(raw, self.directory, at, floor)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    scheme = Scheme.create(tmp_path_factory.mktemp("s"), "Test", "probegate.example", now=NOW - DAY)
    for force in FORCES:
        scheme.add_member(force, Role.FORCE, now=NOW - DAY)
    for agency in AGENCIES:
        scheme.add_member(agency, Role.AGENCY, now=NOW - DAY)
    scheme.add_member("broker", Role.BROKER, now=NOW - DAY)
    return Federation(scheme, scheme.publish_directory(NOW))


def refused(load: Callable[[], Any], reason: Reason = Reason.BUNDLE_INVALID) -> ProbegateError:
    with pytest.raises(ProbegateError) as caught:
        load()
    assert caught.value.reason is reason
    return caught.value


def named(force: str) -> AgreementFile:
    """The custody example, between custody and one named force."""
    text = (EXAMPLES / "custody/custody.yaml").read_text()
    return parse_agreement(
        text.replace("forces: all", f"forces: [{force}]").encode(), "custody.yaml"
    )


def test_an_agreement_open_to_all_binds_only_the_forces_that_signed(federation: Federation) -> None:
    raw = federation.bundle(*AGENCIES, "northshire")
    bundle = federation.load(raw)
    assert {force for party in bundle.agreements for force in party.forces} == {"northshire"}
    joined = federation.load(countersign(raw, federation.signer("southshire")))
    assert {force for party in joined.agreements for force in party.forces} == set(FORCES)
    assert joined.sha256 == bundle.sha256
    policy = compile_bundle(bundle)
    southern = policy.decide(Facts(force="southshire"), "custody", NOW)
    assert southern.code == "NO_AGREEMENT"


@pytest.mark.parametrize("absent", AGENCIES)
def test_every_agency_must_have_signed(federation: Federation, absent: str) -> None:
    members = [*(agency for agency in AGENCIES if agency != absent), *FORCES, "broker"]
    error = refused(lambda: federation.load(federation.bundle(*members)))
    assert error.metadata["file"] == f"{absent}/{absent}.yaml"


def test_every_force_that_is_named_must_have_signed(federation: Federation) -> None:
    bundle = new_bundle(
        [named("northshire")], set_id="t", version=1, not_before=NOW - DAY, not_after=NOW + DAY
    )
    half = bundle.signed_by(federation.signer("custody"), federation.signer("southshire"))
    error = refused(lambda: federation.load(half.to_bytes()))
    assert error.metadata["field"] == "forces"
    both = half.signed_by(federation.signer("northshire"))
    (party,) = federation.load(both.to_bytes()).agreements
    assert party.forces == {"northshire"}


def test_a_member_of_another_role_cannot_stand_for_a_party(federation: Federation) -> None:
    bundle = new_bundle(
        [named("broker")], set_id="t", version=1, not_before=NOW - DAY, not_after=NOW + DAY
    ).signed_by(federation.signer("custody"), federation.signer("broker"))
    refused(lambda: federation.load(bundle.to_bytes()))


def test_a_revoked_signature_counts_for_nobody(tmp_path: Path) -> None:
    scheme = Scheme.create(tmp_path / "s", "Test", "probegate.example", now=NOW - DAY)
    for member, role in (("custody", Role.AGENCY), ("northshire", Role.FORCE)):
        scheme.add_member(member, role, now=NOW - DAY)
    before = Federation(scheme, scheme.publish_directory(NOW))
    raw = before.bundle("custody", "northshire", folder=EXAMPLES / "custody")
    assert before.load(raw).agreements[0].forces == {"northshire"}

    def without(member: str) -> Federation:
        kid = before.directory.current_key(member, KeyUse.SIGN, NOW).kid
        scheme.revoke_key(member, kid, NOW - timedelta(hours=1))
        return Federation(scheme, scheme.publish_directory(NOW))

    assert without("northshire").load(raw).agreements[0].forces == frozenset()
    after = without("custody")
    refused(lambda: after.load(raw))


def changed(raw: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(raw)
    change(document)
    return json.dumps(document).encode()


def test_nothing_in_the_file_can_be_changed(federation: Federation) -> None:
    raw = federation.bundle(*AGENCIES, *FORCES)
    assert federation.load(changed(raw, lambda _: None)).version == 3

    def retext(document: dict[str, Any]) -> None:
        document["files"]["nhs/nhs.yaml"] = document["files"]["nhs/nhs.yaml"].replace(
            "value: 50", "value: 0"
        )

    def tamper(document: dict[str, Any]) -> None:
        signature = bytearray(base64.b64decode(document["envelope"]["signatures"][0]["sig"]))
        signature[0] ^= 1
        document["envelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()

    changes: list[Callable[[dict[str, Any]], object]] = [
        retext,
        tamper,
        lambda d: d["files"].pop("nhs/nhs.yaml"),
        lambda d: d["files"].update({"extra.yaml": "id: x"}),
        lambda d: d["files"].update({"../up.yaml": "id: x"}),
        lambda d: d.update(note="hello"),
        lambda d: d.pop("envelope"),
        lambda d: d["envelope"].update(payloadType=PayloadType.DIRECTORY.value),
        lambda d: d["envelope"]["signatures"].append(d["envelope"]["signatures"][0]),
        lambda d: d["envelope"]["signatures"][0].update(keyid="0" * 64),
        lambda d: d["envelope"].update(signatures=[]),
        lambda d: d["files"].update({"nhs/nhs.yaml": "\ud800"}),
    ]
    for change in changes:
        altered = changed(raw, change)
        refused(partial(federation.load, altered))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b"\xff", b'{"a":1,"a":2}', b"[" * 100_000])
def test_what_is_not_a_bundle_is_refused(federation: Federation, raw: bytes) -> None:
    refused(lambda: federation.load(raw))


def honestly_signed(federation: Federation, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A bundle whose manifest was changed and then signed by every party."""
    document = json.loads(federation.bundle())
    manifest = json.loads(base64.b64decode(document["envelope"]["payload"]))
    change(manifest)
    signers = [federation.signer(member) for member in (*AGENCIES, *FORCES)]
    envelope = dsse.sign(PayloadType.AGREEMENT_BUNDLE, strict_json.canonical(manifest), *signers)
    return json.dumps(document | {"envelope": json.loads(envelope.to_json())}).encode()


def test_an_unknown_field_or_value_in_a_signed_manifest_refuses_the_bundle(
    federation: Federation,
) -> None:
    assert federation.load(honestly_signed(federation, lambda _: None)).version == 3
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda m: m.update(surprise=1),
        lambda m: m.update(version=0),
        lambda m: m.update(version="3"),
        lambda m: m.update(set_id="Not A Code"),
        lambda m: m.update(not_after="2026-12-01"),
        lambda m: m["files"].append(m["files"][0]),
        lambda m: m["files"][0].update(name="/etc/passwd.yaml"),
    ]
    for change in changes:
        refused(partial(federation.load, honestly_signed(federation, change)))


def test_a_bundle_outside_its_window_is_refused(federation: Federation) -> None:
    raw = federation.bundle(*AGENCIES, *FORCES)
    for at in (NOW - 2 * DAY, NOW + 31 * DAY):
        refused(partial(federation.load, raw, at=at))


def test_a_lower_version_is_refused(federation: Federation) -> None:
    raw = federation.bundle(*AGENCIES, *FORCES, version=3)
    assert federation.load(raw, floor=3).version == 3
    refused(lambda: federation.load(raw, floor=4), Reason.BUNDLE_ROLLBACK)


@pytest.mark.parametrize("hours", [0, 1])
def test_a_manifest_reads_back_to_the_same_bytes(hours: int) -> None:
    start = NOW.astimezone(timezone(timedelta(hours=hours)))
    files = (ManifestFile(name="a.yaml", sha256="0" * 64),)
    manifest = Manifest(set_id="s", version=1, not_before=start, not_after=NOW + DAY, files=files)
    assert Manifest.model_validate_json(manifest.canonical()).canonical() == manifest.canonical()


def test_a_window_without_a_zone_or_upside_down_is_refused() -> None:
    naive = NOW.replace(tzinfo=None)
    for start, end in ((naive, naive + DAY), (NOW, NOW - DAY)):
        refused(
            partial(
                new_bundle,
                [named("northshire")],
                set_id="t",
                version=1,
                not_before=start,
                not_after=end,
            )
        )


def test_the_store_never_goes_back(federation: Federation, tmp_path: Path) -> None:
    path, state = tmp_path / "bundle.json", tmp_path / "state" / "floor.json"
    store = BundleStore(path, state)
    refused(lambda: store.current)
    refused(lambda: store.load(federation.directory, NOW), Reason.FILE_MISSING)
    path.write_bytes(federation.bundle(*AGENCIES, "northshire", version=5))
    first = store.load(federation.directory, NOW)
    assert store.current is first is store.reload_if_changed(federation.directory, NOW)

    path.write_bytes(federation.bundle(*AGENCIES, *FORCES, version=4))
    refused(lambda: store.reload_if_changed(federation.directory, NOW), Reason.BUNDLE_ROLLBACK)
    assert store.current is first
    again = BundleStore(path, state)  # a restart remembers
    refused(lambda: again.load(federation.directory, NOW), Reason.BUNDLE_ROLLBACK)

    # The same version with other agreements is another bundle; with more signatures it is not.
    custody = federation.bundle(*AGENCIES, *FORCES, version=5, folder=EXAMPLES / "custody")
    path.write_bytes(custody)
    refused(lambda: again.load(federation.directory, NOW), Reason.BUNDLE_ROLLBACK)
    path.write_bytes(federation.bundle(*AGENCIES, *FORCES, version=5))
    assert ("pnd", "southshire") in store.reload_if_changed(federation.directory, NOW).parties
    path.write_bytes(federation.bundle(*AGENCIES, *FORCES, version=6))
    assert again.load(federation.directory, NOW).bundle.version == 6

    state.write_text("not a floor")
    refused(lambda: again.load(federation.directory, NOW), Reason.STATE_UNAVAILABLE)


def test_the_commands_make_countersign_show_and_explain_a_bundle(
    federation: Federation, tmp_path: Path
) -> None:
    run = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"})
    members = federation.scheme.folder / "members"
    draft, final = tmp_path / "draft.json", tmp_path / "bundle.json"
    request = tmp_path / "request.yaml"
    request.write_text("force: northshire\npurpose: civil_penalty\n")

    def invoke(*words: str | Path) -> str:
        result = run.invoke(app, list(map(str, words)))
        assert result.exit_code == 0, result.output
        return result.stdout

    agencies = [word for agency in AGENCIES for word in ("--signer", members / agency)]
    start = f"{NOW - DAY:%Y-%m-%dT%H:%M:%S}"
    written = invoke(
        "sign", EXAMPLES, "--out", draft, "--version", "1", "--not-before", start, *agencies
    )
    assert "6 agreements, 6 signatures" in written.replace("\n", " ")
    invoke("sign", draft, "--out", final, "--signer", members / "northshire")
    assert "example-nhs" in invoke("show", final)
    at = f"{NOW:%Y-%m-%dT%H:%M:%S}"
    explained = invoke(
        *("explain", "--bundle", final, "--scheme", federation.scheme.folder),
        *("--facts", request, "--at", at, "--agency", "custody"),
    )
    assert "VIOLATED: core.gateway-for-purpose" in explained
    assert "not checked" not in explained
    assert len(open_bundle(final.read_bytes()).envelope.signatures) == len(AGENCIES) + 1
    unsigned = invoke("explain", "--bundle", draft, "--facts", request, "--at", at)
    assert "Signatures were not checked" in unsigned
