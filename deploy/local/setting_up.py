"""Makes a local federation: scheme, agreements, galleries, settings. All of it is invented."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np

import policy
from agency_adapters.galleries.importing import import_gallery
from agency_adapters.registry import kind_named
from audit.notes import VerifierKey
from deploy.local.calibrations import CALIBRATED, write_calibrations
from deploy.local.generate import DEFAULT_ROWS, DemoFacts, demo_plan, write_demo
from deploy.local.people import MODEL
from deploy.local.place import AGENCIES, AUDITOR, BROKER, FORCES, Place
from policy.bundle import OpenedBundle, build_bundle, open_bundle
from trust import files
from trust.ceremony import Scheme
from trust.clock import utc_now
from trust.directory import KeyUse, Role
from trust.errors import ProbegateError, Reason

TRUST_DOMAIN: Final = "probegate.example"
BUNDLE_LIFETIME: Final = timedelta(days=365)
PREFERRED_PORT: Final = 47_600
"""First of the ports a federation asks for; others are taken where these are in use."""
PORT_VARIABLE: Final = "PROBEGATE_DEMO_PORT"
"""The variable of the environment that names another first port."""
TITLES: Final = {
    "northshire": "Northshire Police (invented)",
    "southmere": "Southmere Constabulary (invented)",
    "custody": "Custody images (invented)",
    "pnd": "Police National Database (invented)",
    "passport": "Passport Office (invented)",
    "asylum": "Asylum casework (invented)",
    "nhs": "Health service (invented)",
    "dwp": "Work and pensions (invented)",
    BROKER: "Probegate broker",
    AUDITOR: "Inspectorate (invented)",
}
OFFICERS: Final = """\
# Invented people of an invented force. A number, not a name, is what the broker's audit sees.
{force}-1041: {{role: facial_search_operator, rank: constable, unit: major-crime,
  accreditation: facial-search-2026, accreditation_expires: 2031-03-31}}
{force}-1180: {{role: facial_search_operator, rank: sergeant, unit: major-crime,
  accreditation: facial-search-2026, accreditation_expires: 2031-03-31}}
{force}-2207: {{role: investigating_officer, rank: sergeant, unit: major-crime}}
{force}-3302: {{role: investigating_officer, rank: inspector, unit: major-crime}}
{force}-4401: {{role: investigating_officer, rank: superintendent, unit: major-crime}}
{force}-5101: {{role: facial_examiner, rank: police_staff, unit: imaging,
  accreditation: facial-examination-2026, accreditation_expires: 2031-03-31}}
{force}-5102: {{role: facial_examiner, rank: police_staff, unit: imaging,
  accreditation: facial-examination-2026, accreditation_expires: 2031-03-31}}
{force}-5103: {{role: facial_examiner, rank: constable, unit: imaging,
  accreditation: facial-examination-2026, accreditation_expires: 2031-03-31}}
"""

LEAST_PORT: Final = 1024
MOST_PORT: Final = 65_000
"""The lowest and the highest port that may be asked for first."""

Progress = Callable[[str], None]


def set_up(place: Place, *, rows: int = DEFAULT_ROWS, seed: int = 1, say: Progress) -> None:
    """Make a federation from nothing; what a cut-short attempt left behind is removed first.

    Args:
        place: where to make it.
        rows: invented records in each gallery.
        seed: of the invented people.
        say: told what is being done.
    """
    if place.root.exists():
        shutil.rmtree(place.root)
    place.root.mkdir(parents=True, mode=0o700)
    say("keys, certificates and the signed directory")
    scheme = make_scheme(place)
    say("agreements, signed by six agencies and two forces")
    sign_agreements(place, scheme)
    say(f"{rows:,} invented records for each of {len(AGENCIES)} galleries")
    facts = write_demo(demo_plan(seed, rows), place.sources)
    for agency in AGENCIES:
        source = place.sources / agency
        report = import_gallery(
            kind=kind_named(agency),
            templates=source / "templates.npy",
            records=source / "records.csv",
            model=MODEL,
            out=place.gallery(agency),
            now=utc_now(),
        )
        (source / "import.json").write_text(report.model_dump_json(indent=2) + "\n")
        (source / "templates.npy").unlink()  # the gallery has its own
        shutil.copytree(source / "images", place.images(agency))
    say(f"calibrations for {len(CALIBRATED)} of them, on comparisons with their own galleries")
    write_calibrations(place, scheme, facts)
    write_probes(place, facts)
    write_settings(place, scheme)
    write_vkeys(place, scheme)
    files.write_atomic(place.ready, json.dumps({"rows": rows, "seed": seed}).encode() + b"\n")


def make_scheme(place: Place) -> Scheme:
    """Make every member's keys, certificates and the directory."""
    scheme = Scheme.create(place.scheme, "Probegate demonstration", TRUST_DOMAIN)
    ports = dict(zip((BROKER, *AGENCIES), free_ports(1 + len(AGENCIES)), strict=True))
    roles = dict.fromkeys(FORCES, Role.FORCE) | dict.fromkeys(AGENCIES, Role.AGENCY)
    for member, role in (roles | {BROKER: Role.BROKER, AUDITOR: Role.AUDITOR}).items():
        endpoint = f"127.0.0.1:{ports[member]}" if member in ports else None
        scheme.add_member(member, role, endpoint=endpoint, title=TITLES[member])
        scheme.issue_certificate(member)
    scheme.add_link_key()
    scheme.publish_directory()
    return scheme


def sign_agreements(place: Place, scheme: Scheme) -> OpenedBundle:
    """Build the next bundle of the agreements folder and let every agency and force sign it.

    The first is version 1 and holds the shipped examples.
    """
    if not place.agreements.exists():
        shutil.copytree(Path(policy.__file__).parent / "examples", place.agreements)
    version = 1
    if place.bundle.exists():
        version = open_bundle(files.read(place.bundle)).manifest.version + 1
    now = utc_now()
    parties = [one.id for one in scheme.members() if one.role in {Role.AGENCY, Role.FORCE}]
    bundle = build_bundle(
        place.agreements,
        *(scheme.member_folder(party).signer() for party in parties),
        set_id="demo",
        version=version,
        not_before=now - timedelta(hours=1),
        not_after=now + BUNDLE_LIFETIME,
    )
    files.write_atomic(place.bundle, bundle)
    return open_bundle(bundle)


def write_vkeys(place: Place, scheme: Scheme) -> None:
    """Write each log's public key as a file, taken from the members' cards and not from the log."""
    place.vkeys.mkdir(exist_ok=True)
    for member in scheme.members():
        for key in member.keys:
            if key.use is KeyUse.LOG and key.name:
                log = key.name.rpartition("/")[2]
                vkey = f"{VerifierKey.listed(key)}\n"
                files.write_atomic(place.vkey(member.id, log), vkey.encode())


def write_probes(place: Place, facts: DemoFacts) -> None:
    """Write each probe as a file of its own, its facts, and the truth about it."""
    place.probes.mkdir(exist_ok=True)
    with np.load(place.sources / "probes" / "probes.npz") as archive:
        for name in facts.probes:
            np.save(place.probes / f"{name}.npy", archive[name])
    for image in (place.sources / "probes").glob("*.png"):
        shutil.copy(image, place.probes / image.name)
    shutil.copy(place.sources / "probes" / "probes.json", place.probes / "probes.json")
    truth = {name: facts.mated(name) for name in facts.probes}
    place.truth.write_text(json.dumps(truth, indent=2) + "\n")


def write_settings(place: Place, scheme: Scheme) -> None:
    """Write every process's and force's settings file."""
    _write_toml(place.config(BROKER), _server_settings(place, scheme, BROKER))
    for agency in AGENCIES:
        write_adapter_settings(place, scheme, agency, kind=agency, gallery=place.gallery(agency))
    for force in FORCES:
        officers = {"officers": str(place.officers(force).resolve())}
        _write_toml(place.config(force), _member_settings(place, scheme, force) | officers)
        place.officers(force).write_text(OFFICERS.format(force=force))


def write_adapter_settings(
    place: Place, scheme: Scheme, agency: str, *, kind: str, gallery: Path
) -> None:
    """Write one adapter's settings file."""
    own = {"kind": kind, "gallery": str(gallery.resolve())}
    calibration = place.calibration(agency)
    if calibration.exists():
        own["calibration"] = str(calibration.resolve())
    if place.images(agency).exists():
        own["images_dir"] = str(place.images(agency).resolve())
    _write_toml(place.config(agency), _server_settings(place, scheme, agency) | own)


def _server_settings(place: Place, scheme: Scheme, member: str) -> dict[str, str]:
    return _member_settings(place, scheme, member) | {
        "id": member,
        "bundle": str(place.bundle.resolve()),
        "logs_dir": str(place.logs(member).resolve()),
        "listen": scheme.existing(member).member().endpoint or "",
    }


def _member_settings(place: Place, scheme: Scheme, member: str) -> dict[str, str]:
    return {
        "directory": str(scheme.directory_path.resolve()),
        "scheme_key": str(scheme.pinned_path.resolve()),
        "member_folder": str(scheme.member_folder(member).path.resolve()),
        "state_dir": str(place.state(member).resolve()),
    }


def free_ports(count: int, preferred: int = 0) -> list[int]:
    """Return loopback ports that are free now, the preferred ones first.

    Raises:
        ProbegateError: ``CONFIG_INVALID`` for a variable that names no port.
    """
    preferred = preferred or _first_port()
    found: list[int] = []
    held: list[socket.socket] = []
    for wanted in (*range(preferred, preferred + count), *([0] * count)):
        if len(found) == count:
            break
        one = socket.socket()
        held.append(one)
        try:
            one.bind(("127.0.0.1", wanted))
        except OSError:
            continue
        found.append(int(one.getsockname()[1]))
    for one in held:
        one.close()
    return found


def _first_port() -> int:
    said = os.environ.get(PORT_VARIABLE, str(PREFERRED_PORT))
    if not said.isdecimal() or not LEAST_PORT <= int(said) <= MOST_PORT:
        raise ProbegateError(Reason.CONFIG_INVALID, "not a port", field=PORT_VARIABLE)
    return int(said)


def _write_toml(path: Path, values: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A JSON string is a TOML basic string.
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
