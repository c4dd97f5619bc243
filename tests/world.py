"""A whole scheme for tests: members, keys, certificates, directory, agreements, and orders.

Everything is real: keys are generated, certificates issued, agreements signed. What varies between
tests is passed in; what does not has a lawful default.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import itertools
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from broker.models import CreateParams, SealedProbe
from broker.settings import BrokerSettings
from policy.bundle import build_bundle
from trust import dsse, sealing
from trust.ceremony import MemberFolder, Scheme
from trust.commitment import probe_commitment
from trust.directory import Directory, KeyUse, Role
from trust.dsse import Envelope
from trust.messages import (
    Justification,
    Offence,
    Person,
    ProbeManifest,
    ProbePayload,
    SearchLimits,
    SearchOrder,
)
from trust.payload_types import PayloadType
from trust.tokens import Part
from trust.wire import encode_order, encode_probe

DIMS = 512
MODEL = "invented-face-1"
FORCES = ("northshire", "southmere")
AGENCIES = ("custody", "pnd", "passport", "asylum", "nhs", "dwp")


FIRST_PORT = 12_000
"""First port of worlds, below those that the system gives to whoever asks for any."""
PORTS_OF_ONE_PROCESS = 5_000
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.cycle(range(PORTS_OF_ONE_PROCESS))


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, and that nobody else's world asks for soon."""
    found: list[int] = []
    while len(found) < count:
        port = FIRST_PORT + PORTS_OF_ONE_PROCESS * (_process % 4) + next(_ports)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found


NOWHERE = "127.0.0.1:65535"
"""Where a member listens before its world has ports."""
_kept = tempfile.mkdtemp(prefix="probegate-worlds-")
_bundles: dict[str, bytes] = {}
"""Bundles of agreements as everybody signed them, by what they are made of."""


@atexit.register
def forget() -> None:
    """Delete what worlds of this process share; a test process must be told that it ends."""
    shutil.rmtree(_kept, ignore_errors=True)


@functools.cache
def _members(forces: Sequence[str], agencies: Sequence[str]) -> Path:
    """Make the members of a scheme, once in this process: keys and certificates take a second."""
    scheme = Scheme.create(
        Path(tempfile.mkdtemp(dir=_kept)) / "scheme", "Test Scheme", "probegate.test"
    )
    for force in forces:
        scheme.add_member(force, Role.FORCE)
    for agency in agencies:
        scheme.add_member(agency, Role.AGENCY, endpoint=NOWHERE)
    scheme.add_member("broker", Role.BROKER, endpoint=NOWHERE)
    scheme.add_member("inspectorate", Role.AUDITOR)
    for member in (*forces, *agencies, "broker", "inspectorate"):
        scheme.issue_certificate(member)
    scheme.add_link_key()
    return scheme.folder


def _digest(members: Path, agreements: Path) -> str:
    """Return what names a bundle: who signs it, and every byte that is signed."""
    content = hashlib.sha256(str(members).encode())
    for path in sorted(agreements.rglob("*")):
        if path.is_file():
            content.update(f"\n{path.relative_to(agreements)}\n".encode())
            content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


@dataclass(slots=True)
class World:
    """One scheme in a folder, with everything needed to play any of its members."""

    root: Path
    scheme: Scheme
    directory: Directory
    ports: Mapping[str, int]
    bundle: Path
    forces: Sequence[str] = FORCES
    agencies: Sequence[str] = AGENCIES

    @classmethod
    def make(
        cls,
        root: Path,
        *,
        agreements: Path,
        forces: Sequence[str] = FORCES,
        agencies: Sequence[str] = AGENCIES,
    ) -> World:
        """Make a scheme under ``root`` with the agreements of a folder, signed by everybody.

        Keys and certificates are those of every other world of these members in this process: what
        differs between tests is where the members listen and what they agreed.
        """
        made = _members(tuple(forces), tuple(agencies))
        shutil.copytree(made, root / "scheme")
        scheme = Scheme(root / "scheme")
        ports = dict(zip(("broker", *agencies), free_ports(1 + len(agencies)), strict=True))
        for member, port in ports.items():
            card = scheme.member_folder(member).card
            card.write_text(card.read_text().replace(NOWHERE, f"127.0.0.1:{port}"))
        directory = scheme.publish_directory()
        world = cls(root, scheme, directory, ports, root / "bundle.json", forces, agencies)
        said = _digest(made, agreements)
        if said not in _bundles:
            world.sign_bundle(agreements, version=1)
            _bundles[said] = world.bundle.read_bytes()
        world.bundle.write_bytes(_bundles[said])
        return world

    def sign_bundle(
        self,
        agreements: Path,
        version: int,
        signers: Iterable[str] | None = None,
        path: Path | None = None,
    ) -> None:
        """Write the bundle of a folder of agreements, signed by the parties.

        Args:
            agreements: the folder.
            version: the bundle's version.
            signers: who signs; everybody if left out.
            path: where to; the file that every member reads if left out.
        """
        now = datetime.now(UTC)
        names = (*self.forces, *self.agencies) if signers is None else tuple(signers)
        raw = build_bundle(
            agreements,
            *(self.folder(name).signer() for name in names),
            set_id="test",
            version=version,
            not_before=now - timedelta(days=1),
            not_after=now + timedelta(days=30),
        )
        (path or self.bundle).write_bytes(raw)

    def folder(self, member: str) -> MemberFolder:
        """Return a member's folder."""
        return self.scheme.member_folder(member)

    def broker_settings(self, **changes: object) -> BrokerSettings:
        """Return settings for a broker of this scheme."""
        values: dict[str, object] = {
            "member_folder": self.folder("broker").path,
            "directory": self.scheme.directory_path,
            "scheme_key": self.scheme.pinned_path,
            "bundle": self.bundle,
            "state_dir": self.root / "state" / "broker",
            "logs_dir": self.root / "logs" / "broker",
            "listen": f"127.0.0.1:{self.ports['broker']}",
        }
        return BrokerSettings.model_validate(values | changes)


OFFICER = Person(
    id="officer-1041",
    role="facial_search_operator",
    rank="constable",
    accreditation="facial-search-2026",
    accreditation_expires=datetime(2031, 3, 31, tzinfo=UTC).date(),
)
AUTHORISER = Person(id="inspector-0207", role="investigating_officer", rank="inspector")


def template(seed: int = 1, dims: int = DIMS) -> np.ndarray:
    """Return an invented unit template."""
    vector = np.random.default_rng(seed).standard_normal(dims)
    return (vector / np.linalg.norm(vector)).astype("<f4")


@dataclass(slots=True)
class Request:
    """What a force puts together for one search; fields may be replaced before it is built."""

    world: World
    force: str = "northshire"
    agencies: Sequence[str] = ("custody",)
    probe: np.ndarray = field(default_factory=template)
    officer: Person = OFFICER
    authoriser: Person = AUTHORISER
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    justification: Mapping[str, object] = field(default_factory=dict)
    manifest: Mapping[str, object] = field(default_factory=dict)
    limits: SearchLimits = field(default_factory=SearchLimits)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    lifetime: timedelta = timedelta(minutes=5)
    salt: bytes = hashlib.sha256(b"test salt").digest()

    def order(self) -> SearchOrder:
        """Build the order."""
        why: dict[str, object] = {
            "purpose": "crime_investigation",
            "legal_basis": "common_law_policing",
            "schedule8_condition": "statutory_purposes",
            "aim": "identify_unknown",
            "subject_category": "suspect",
            "offence": Offence(code="theft-act-1968-s8", seriousness="serious_crime"),
            "case_reference": "CASE/2026/000417",
            "necessity": "The man in the image was not identified by the officers who saw it.",
            "proportionality": "One image, one robbery, the least intrusive galleries first.",
            "tried_first": ("own_custody", "pnd"),
        }
        raw = self.probe.tobytes()
        manifest: dict[str, object] = {
            "source": "cctv",
            "captured_at": self.now - timedelta(hours=12),
            "quality": 72,
            "model": MODEL,
            "dims": self.probe.size,
            "commitment": probe_commitment(self.salt, raw),
        }
        return SearchOrder(
            request_id=self.request_id,
            force=self.force,
            officer=self.officer,
            authoriser=self.authoriser,
            authorised_at=self.now - timedelta(minutes=30),
            justification=Justification.model_validate(why | dict(self.justification)),
            probe=ProbeManifest.model_validate(manifest | dict(self.manifest)),
            agencies=tuple(self.agencies),
            limits=self.limits,
            created_at=self.now,
            expires_at=self.now + self.lifetime,
        )

    def envelope(self) -> Envelope:
        """Sign the order."""
        signer = self.world.folder(self.force).signer()
        return dsse.sign(PayloadType.SEARCH_ORDER, encode_order(self.order()), signer)

    def params(self, wait_s: float = 0.0, envelope: Envelope | None = None) -> CreateParams:
        """Sign, seal, and add the tokens."""
        envelope = envelope or self.envelope()
        digest = hashlib.sha256(envelope.payload).digest()
        return CreateParams(
            order=envelope,
            probes=tuple(self.sealed(agency, digest) for agency in self.agencies),
            officer_token=self.token(self.officer, Part.OFFICER),
            authoriser_token=self.token(self.authoriser, Part.AUTHORISER),
            wait_s=wait_s,
        )

    def sealed(self, agency: str, order_sha256: bytes) -> SealedProbe:
        """Seal the probe to an agency under an order."""
        key = self.world.directory.current_key(agency, KeyUse.SEAL, self.now)
        payload = encode_probe(ProbePayload(template=self.probe.tobytes(), salt=self.salt))
        info = sealing.probe_info(order_sha256, agency, key.kid)
        return SealedProbe(agency, key.kid, sealing.seal(payload, key, info))

    def token(self, person: Person, part: Part) -> str:
        """Issue a token for a person."""
        return self.world.folder(self.force).issue_token(
            officer=person.id,
            part=part,
            rank=person.rank,
            role=person.role,
            now=self.now,
            accreditation=person.accreditation or None,
            accreditation_expires=person.accreditation_expires,
        )


def copied_examples(target: Path, *, prior_answers: bool = False) -> Path:
    """Copy the shipped example agreements to a folder of the test's own.

    Args:
        target: where to.
        prior_answers: whether passport and asylum still ask that the police's galleries answered
            before; without it one search can be permitted everywhere.
    """
    shutil.copytree(_examples(prior_answers=prior_answers), target)
    return target


@functools.cache
def _examples(*, prior_answers: bool) -> Path:
    import policy

    source = Path(policy.__file__).parent / "examples"
    if prior_answers:
        return source
    target = Path(tempfile.mkdtemp(dir=_kept)) / "agreements"
    shutil.copytree(source, target)
    for name in ("passport", "asylum"):
        edit_agreement(target / name / f"{name}.yaml", _let_go_of_prior_answers)
    return target


def custody_agreements(target: Path, agencies: Sequence[str]) -> Path:
    """Write the shipped custody agreement once for each of many agencies."""
    import policy

    source = Path(policy.__file__).parent / "examples" / "custody" / "custody.yaml"
    for agency in agencies:
        path = target / agency / f"{agency}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(
            source.read_text()
            .replace("id: example-custody", f"id: example-{agency}", 1)
            .replace("agency: custody", f"agency: {agency}", 1)
        )
    return target


def edit_agreement(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite an agreement's file with a change to it; comments are lost."""
    agreement: dict[str, Any] = yaml.safe_load(path.read_text())
    change(agreement)
    path.write_text(yaml.safe_dump(agreement, sort_keys=False, allow_unicode=True))


def _let_go_of_prior_answers(agreement: dict[str, Any]) -> None:
    gone = {rule["id"] for rule in agreement.pop("answered_first", ())}
    route = agreement.get("urgent")
    if gone and route is not None:
        route["waives"] = [waived for waived in route["waives"] if waived not in gone]
        if not route["waives"]:
            del agreement["urgent"]
