"""An agency joins a local federation, running or not: what a real one would do, in one place.

The order matters. The gallery and the agreement are checked before anything is made. The directory
goes out before the bundle, which nobody could verify otherwise. The adapter starts last, and the
agency has joined once every server has the new directory and bundle on its admin log.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from agency_adapters.galleries.manifest import read_manifest
from agency_adapters.registry import kind_named
from audit.reader import LogReader
from deploy.local.place import BROKER, Place
from deploy.local.processes import Processes
from deploy.local.setting_up import (
    Progress,
    free_ports,
    sign_agreements,
    write_adapter_settings,
    write_vkeys,
)
from policy.agreements import parse_agreement
from policy.yaml_source import read_file
from trust import files
from trust.ceremony import Scheme
from trust.directory import Role
from trust.errors import ProbegateError, Reason

TAKE_UP_TIMEOUT_S: Final = 30.0
"""How long the servers may take until the new agreements are on their logs, seconds."""
_POLL_S: Final = 0.2
_BUNDLE_ENTRY: Final = "bundle.activated"


def add_agency(
    place: Place,
    processes: Processes,
    agency: str,
    *,
    kind: str,
    gallery: Path,
    agreement: Path,
    say: Progress,
) -> None:
    """Let an agency join: keys, certificate, directory, agreement, settings and adapter.

    Args:
        place: the federation.
        processes: its servers; the new one is started if the broker runs.
        agency: the agency's member id.
        kind: what kind of agency it is (``agency_adapters.registry``).
        gallery: its gallery, made by ``probegate adapter import``; it stays where it is.
        agreement: its data-sharing agreement, YAML.
        say: told what is being done.

    Raises:
        ProbegateError: ``CONFIG_INVALID`` if gallery or agreement are another agency's;
            ``AGREEMENT_INVALID``; ``FILE_MISSING``; ``FILE_EXISTS`` if there is such a member;
            ``SERVICE_UNREACHABLE`` if a server does not take it up.
    """
    text = _checked(agency, kind, gallery, agreement)
    scheme = Scheme.open(place.scheme)
    say("keys, certificate, and a directory that lists them")
    port = free_ports(1, preferred=_next_port(scheme))[0]
    scheme.add_member(agency, Role.AGENCY, endpoint=f"127.0.0.1:{port}")
    scheme.issue_certificate(agency)
    scheme.publish_directory()
    write_vkeys(place, scheme)
    say("the agreement, signed by every agency and force")
    folder = place.agreements / agency
    folder.mkdir()
    files.write_atomic(folder / f"{agency}.yaml", text)
    bundle = sign_agreements(place, scheme)
    write_adapter_settings(place, scheme, agency, kind=kind, gallery=gallery)
    if processes.running(BROKER):
        say("the adapter; every server takes up the directory and the agreement")
        processes.start((agency,))
        _await_bundle(place, processes, bundle.sha256.hex())


def _checked(agency: str, kind: str, gallery: Path, agreement: Path) -> bytes:
    """Return the agreement's text once it and the gallery are known to be the agency's."""
    held = read_manifest(gallery).kind
    if held != kind_named(kind).name:
        raise ProbegateError(Reason.CONFIG_INVALID, f"the gallery is of kind {held}", field="kind")
    text = read_file(agreement)
    party = parse_agreement(text, agreement.name).agreement.agency
    if party != agency:
        raise ProbegateError(
            Reason.CONFIG_INVALID, f"the agreement is {party}'s, not {agency}'s", field="agreement"
        )
    return text


def _next_port(scheme: Scheme) -> int:
    endpoints = [member.endpoint for member in scheme.members() if member.endpoint]
    return max(int(endpoint.rpartition(":")[2]) for endpoint in endpoints) + 1


def _await_bundle(place: Place, processes: Processes, sha256: str) -> None:
    deadline = time.monotonic() + TAKE_UP_TIMEOUT_S
    waiting = {member for member in processes.servers if processes.running(member)}
    while waiting:
        waiting = {member for member in waiting if not _has_bundle(place, member, sha256)}
        if waiting and time.monotonic() > deadline:
            raise ProbegateError(
                Reason.SERVICE_UNREACHABLE,
                "the new agreements are not on its log",
                member=min(waiting),
            )
        time.sleep(_POLL_S)


def _has_bundle(place: Place, member: str, sha256: str) -> bool:
    try:
        entries = LogReader(place.logs(member) / "admin").facts()
        return any(
            fact.get("type") == _BUNDLE_ENTRY and fact.get("sha256") == sha256
            for _, fact in entries
        )
    except ProbegateError:  # being written at this moment, or not there yet
        return False
