"""Signed bundles of agreements: one file, refused whole on any doubt.

A bundle is a JSON file of a DSSE envelope over a manifest (RFC 8785: set id, version, window, and
the SHA-256 of every agreement) and the agreements' exact text.

Who must sign? An agreement binds two parties, so a signature is asked of both, over the manifest
and with it over every agreement's digest: nobody can be shown one text and held to another. An
agency signs because it will answer; a force because it takes on the obligations. A third party's
signature, the broker's or the scheme authority's, stands for neither: whoever runs the broker must
not be able to agree on an agency's behalf.

Rules:
1. The file is strict JSON of exactly these fields, within the size limit; file names are plain.
2. Every signature is by a signing key of a member of the directory and verifies. One whose key was
   revoked or has lapsed counts for nobody; any other fault refuses the bundle.
3. The manifest is canonical, in its window, and its version not below the highest one trusted.
4. The files are exactly those the manifest lists, byte for byte, and every one loads.
5. Every agreement's agency is an agency of the directory and signed; so is and did every force that
   an agreement names. Otherwise the bundle is refused whole.
6. An agreement open to all forces is in force for a force only if that force signed: a force can
   join by adding its signature to the same manifest, and nobody is bound without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError

from policy.agreements import AgreementFile, distinct, parse_agreement, read_folder
from policy.clause_model import FrozenModel
from policy.decision import Bundle, PartyAgreement
from policy.settings import limits
from policy.yaml_source import invalid
from trust import dsse, strict_json
from trust.directory import Directory, KeyUse, Role
from trust.errors import ProbegateError, Reason
from trust.keys import Signer
from trust.messages import Code
from trust.payload_types import PayloadType

MAX_VERSION: Final = 2**53 - 1
"""Highest bundle version; the largest integer that RFC 8785 carries exactly."""
BUNDLE: Final = "bundle"
"""What errors call the bundle file itself."""

ModelT = TypeVar("ModelT", bound=BaseModel)
FileName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*\.yaml$", max_length=200
    ),
]


class ManifestFile(FrozenModel):
    """One agreement's file and the digest of its exact bytes."""

    name: FileName
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(FrozenModel):
    """What the parties sign."""

    set_id: Code
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    not_before: AwareDatetime
    not_after: AwareDatetime
    files: Annotated[tuple[ManifestFile, ...], Field(min_length=1)]

    def canonical(self) -> bytes:
        """Return the RFC 8785 bytes that are signed."""
        return strict_json.canonical(self.model_dump(mode="json"))


class _BundleFile(FrozenModel):
    """The file on disk; ``files`` maps a name to the agreement's exact text."""

    envelope: dict[str, Any]
    files: dict[FileName, str]


@dataclass(frozen=True, slots=True)
class OpenedBundle:
    """A bundle whose files fit its manifest; its signatures are not verified yet."""

    envelope: dsse.Envelope
    manifest: Manifest
    agreements: tuple[AgreementFile, ...]

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the manifest: names the bundle in decisions, whoever signed it."""
        return hashlib.sha256(self.envelope.payload).digest()

    def to_bytes(self) -> bytes:
        """Return the file's bytes, canonical."""
        return strict_json.canonical(
            {
                "envelope": strict_json.parse(self.envelope.to_json()),
                "files": {file.name: file.raw.decode("utf-8") for file in self.agreements},
            }
        )

    def signed_by(self, *signers: Signer) -> OpenedBundle:
        """Return the bundle with signatures added; a key that has signed does not sign again."""
        done = {signature.keyid for signature in self.envelope.signatures}
        more = dsse.sign(
            PayloadType.AGREEMENT_BUNDLE,
            self.envelope.payload,
            *(signer for signer in signers if signer.kid not in done),
        )
        envelope = dsse.Envelope(
            more.payload_type,
            more.payload,
            (*self.envelope.signatures, *more.signatures),
        )
        return OpenedBundle(envelope, self.manifest, self.agreements)


def _refused(detail: str) -> ProbegateError:
    return invalid(detail, file=BUNDLE)


def _model(model: type[ModelT], raw: bytes) -> ModelT:
    try:
        strict_json.parse(raw)  # the strict reading first: pydantic's would accept repeated keys
        return model.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise invalid(fault["msg"], file=BUNDLE, at=tuple(fault["loc"])) from None
    except ValueError as error:
        raise _refused(str(error)) from None


def new_bundle(
    files: Sequence[AgreementFile],
    *,
    set_id: str,
    version: int,
    not_before: datetime,
    not_after: datetime,
) -> OpenedBundle:
    """Return an unsigned bundle of agreements.

    Raises:
        ProbegateError: BUNDLE_INVALID for a version, window or file name that is not allowed.
    """
    try:
        manifest = Manifest(
            set_id=set_id,
            version=version,
            not_before=not_before,
            not_after=not_after,
            files=tuple(
                ManifestFile(name=file.name, sha256=file.sha256.hex())
                for file in sorted(files, key=lambda file: file.name)
            ),
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise invalid(fault["msg"], file=BUNDLE, at=tuple(fault["loc"])) from None
    if manifest.not_after <= manifest.not_before:
        raise invalid("ends before it begins", file=BUNDLE, at=("not_after",))
    payload = manifest.canonical()
    return OpenedBundle(dsse.sign(PayloadType.AGREEMENT_BUNDLE, payload), manifest, tuple(files))


def build_bundle(
    folder: Path,
    *signers: Signer,
    set_id: str,
    version: int,
    not_before: datetime,
    not_after: datetime,
) -> bytes:
    """Return the bundle file of every agreement under ``folder``, signed by ``signers``.

    Raises:
        ProbegateError: BUNDLE_INVALID naming file, line and field; FILE_MISSING.
    """
    bundle = new_bundle(
        read_folder(folder),
        set_id=set_id,
        version=version,
        not_before=not_before,
        not_after=not_after,
    )
    return bundle.signed_by(*signers).to_bytes()


def countersign(raw: bytes, *signers: Signer) -> bytes:
    """Return a bundle file with signatures added, after checking that its files fit its manifest.

    Raises:
        ProbegateError: BUNDLE_INVALID.
    """
    return open_bundle(raw).signed_by(*signers).to_bytes()


def open_bundle(raw: bytes) -> OpenedBundle:
    """Return a bundle whose files fit its manifest, for reading or signing; it is not trusted yet.

    Raises:
        ProbegateError: BUNDLE_INVALID naming file, line and field.
    """
    if len(raw) > limits().max_bundle_bytes:  # (1)
        raise _refused(f"larger than {limits().max_bundle_bytes} bytes")
    file = _model(_BundleFile, raw)
    try:
        envelope = dsse.Envelope.from_json(strict_json.canonical(file.envelope))
    except ProbegateError as error:
        raise _refused(f"{error.reason.name} {error.detail}") from None
    except ValueError as error:
        raise _refused(str(error)) from None
    if envelope.payload_type != PayloadType.AGREEMENT_BUNDLE:
        raise _refused("the envelope is of another payload type")
    manifest = _model(Manifest, envelope.payload)
    if manifest.canonical() != envelope.payload:  # (3)
        raise _refused("the manifest is not in canonical form")
    return OpenedBundle(envelope, manifest, _agreements(manifest, file.files))


def _agreements(manifest: Manifest, texts: dict[str, str]) -> tuple[AgreementFile, ...]:
    names = [file.name for file in manifest.files]  # (4)
    if len(names) > limits().max_bundle_files:
        raise _refused(f"more than {limits().max_bundle_files} files")
    if len(set(names)) != len(names) or set(names) != set(texts):
        raise _refused("the files are not exactly those of the manifest")
    loaded = []
    for entry in manifest.files:
        raw = texts[entry.name].encode("utf-8", errors="replace")
        if hashlib.sha256(raw).hexdigest() != entry.sha256:
            raise invalid("not the bytes that were signed", file=entry.name)
        loaded.append(parse_agreement(raw, entry.name))
    return distinct(loaded)


def load_bundle(raw: bytes, directory: Directory, at: datetime, floor_version: int = 0) -> Bundle:
    """Verify a bundle file by the module's rules.

    Args:
        raw: the file's bytes.
        directory: who is a member and holds which key.
        at: the time of use, aware.
        floor_version: the highest version trusted before; 0 for none.

    Raises:
        ProbegateError: BUNDLE_INVALID or BUNDLE_ROLLBACK.
    """
    opened = open_bundle(raw)  # (1) (4)
    manifest = opened.manifest
    signed = _signers(opened.envelope, directory, at)  # (2)
    if not manifest.not_before <= at <= manifest.not_after:  # (3)
        raise _refused("not valid at this time")
    if manifest.version < floor_version:
        raise ProbegateError(
            Reason.BUNDLE_ROLLBACK,
            f"version {manifest.version} after {floor_version}",
            version=str(manifest.version),
        )
    return Bundle(
        set_id=manifest.set_id,
        version=manifest.version,
        not_before=manifest.not_before,
        not_after=manifest.not_after,
        sha256=opened.sha256,
        agreements=tuple(
            PartyAgreement(file, _bound_forces(file, directory, signed))
            for file in opened.agreements
        ),
    )


def _signers(envelope: dsse.Envelope, directory: Directory, at: datetime) -> frozenset[str]:
    """Return the members whose valid keys signed (2); each signature is checked on its own."""
    owners = {
        key.kid: member.id
        for member in directory.members()
        for key in member.keys
        if key.use is KeyUse.SIGN
    }
    kids = [signature.keyid for signature in envelope.signatures]
    if len(set(kids)) != len(kids):
        raise _refused("a key signed twice")
    signed: set[str] = set()
    for signature in envelope.signatures:
        member = owners.get(signature.keyid)
        if member is None:
            raise _refused("signed by a key that is not in the directory")
        # One at a time: a bundle of a whole country has more signers than one envelope may.
        alone = dsse.Envelope(envelope.payload_type, envelope.payload, (signature,))
        try:
            dsse.verify(
                alone,
                PayloadType.AGREEMENT_BUNDLE,
                directory.resolver(member, KeyUse.SIGN, at),
            )
        except ProbegateError as error:
            if error.reason is Reason.KEY_REVOKED:
                continue
            raise _refused(f"{error.reason.name} by {member}") from None
        signed.add(member)
    return frozenset(signed)


def _bound_forces(
    file: AgreementFile, directory: Directory, signed: frozenset[str]
) -> frozenset[str]:
    """Return the forces for which an agreement is in force (5) (6)."""
    agreement = file.agreement
    agencies = {member.id for member in directory.members(Role.AGENCY)}
    forces = {member.id for member in directory.members(Role.FORCE)}
    if agreement.agency not in agencies & signed:
        raise invalid("the agency has not signed", file=file.name, at=("agency",))
    if agreement.forces == "all":
        return frozenset(forces & signed)
    for force in agreement.forces:
        if force not in forces & signed:
            raise invalid(f"the force {force} has not signed", file=file.name, at=("forces",))
    return frozenset(agreement.forces)


def unsigned_bundle_for_dry_run(files: Sequence[AgreementFile], forces: Iterable[str]) -> Bundle:
    """Return agreements as if ``forces`` and every agency had signed; never decide a search on it.

    For ``explain``, ``test`` and analysis of drafts. An agreement that names its forces still binds
    only those.
    """
    window = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    opened = new_bundle(
        files, set_id="dry-run", version=1, not_before=window[0], not_after=window[1]
    )
    asked = frozenset(forces)
    return Bundle(
        set_id="dry-run",
        version=1,
        not_before=window[0],
        not_after=window[1],
        sha256=opened.sha256,
        agreements=tuple(
            PartyAgreement(
                file,
                asked if file.agreement.forces == "all" else asked & set(file.agreement.forces),
            )
            for file in files
        ),
    )
