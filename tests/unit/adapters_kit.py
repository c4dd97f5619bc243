"""An adapter with a real gallery, and a broker's side that can prove, or forge, what it sends."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, create_engine

from agency_adapters.custody import CUSTODY
from agency_adapters.galleries.importing import import_gallery
from agency_adapters.models import Dossier, MatchParams
from agency_adapters.serve import Adapter
from agency_adapters.settings import AdapterSettings
from agency_adapters.wire import encode_dossier
from audit.evidence import NO_EVIDENCE, Evidence
from audit.organisation import Logs, open_logs
from audit.witness import ConsistencyProof
from audit.writer import NewEntry
from policy.facts import facts_of_order
from policy.standing import assume_nothing_on_record
from tests.world import MODEL, Request, World, copied_examples, edit_agreement, template
from trust import dsse
from trust.directory import Member
from trust.keys import FileSigner
from trust.messages import Permit, SearchGrant
from trust.payload_types import PayloadType
from trust.wire import encode_grant

GALLERY_ROWS = 60
MATE = "R00007"
HEADER = "record_id,captured_on,date_of_birth,disposal,image_source,review_due,deletion"


Change = Callable[[dict[str, Any]], None]


def make_world(
    root: Path, change: Change | None = None, agencies: Sequence[str] = ("custody",)
) -> World:
    """Make a scheme with two forces, the custody agency, a broker, and a gallery for it.

    Args:
        root: where to.
        change: what is to be different in custody's example agreement.
        agencies: the members that are agencies; none but custody has an agreement.
    """
    examples = copied_examples(root / "agreements")
    for folder in examples.iterdir():
        if folder.is_dir() and folder.name != "custody":
            shutil.rmtree(folder)
    if change is not None:
        edit_agreement(examples / "custody" / "custody.yaml", change)
    world = World.make(
        root, agreements=examples, forces=("northshire", "southmere"), agencies=agencies
    )
    make_gallery(root / "gallery")
    return world


def make_gallery(out: Path, rows: int = GALLERY_ROWS) -> None:
    """Import a gallery of invented people; row 7 is the default probe's mate."""
    vectors = np.stack([template(1000 + row) for row in range(rows)])
    mate = template() + 0.4 * vectors[7]
    vectors[7] = mate / np.linalg.norm(mate)
    source = out.parent / "source"
    source.mkdir(exist_ok=True)
    np.save(source / "t.npy", vectors)
    lines = [
        HEADER,
        *(f"R{n:05d},2020-01-01,1980-01-01,convicted,custody_photo,," for n in range(rows)),
    ]
    (source / "r.csv").write_text("\n".join(lines) + "\n")
    import_gallery(
        kind=CUSTODY,
        templates=source / "t.npy",
        records=source / "r.csv",
        model=MODEL,
        out=out,
        now=datetime.now(UTC),
    )


def adapter_settings(world: World, root: Path, **changes: object) -> AdapterSettings:
    """Return settings of the custody adapter with its state under ``root``."""
    values: dict[str, object] = {
        "id": "custody",
        "kind": "custody",
        "member_folder": world.folder("custody").path,
        "directory": world.scheme.directory_path,
        "scheme_key": world.scheme.pinned_path,
        "bundle": world.bundle,
        "gallery": str(world.root / "gallery"),
        "state_dir": root / "state",
        "logs_dir": root / "logs",
    }
    return AdapterSettings.model_validate(values | changes)


@dataclass(slots=True)
class Papers:
    """Everything the broker sends, each part replaceable before it is encoded."""

    dossier: Dossier
    sealed_key_id: str
    sealed_probe: bytes
    consistency: tuple[ConsistencyProof, ...]
    search_id: str
    size: int
    """Of the log that the dossier's proof leads to."""
    evidence: Evidence = NO_EVIDENCE

    @property
    def order_sha256(self) -> bytes:
        """The order's digest."""
        return hashlib.sha256(self.dossier.order.payload).digest()

    def params(self, **changes: Any) -> MatchParams:
        """Encode, with parts of the dossier replaced."""
        dossier = encode_dossier(replace(self.dossier, **changes))
        return MatchParams(
            dossier, self.sealed_key_id, self.sealed_probe, self.consistency, self.evidence
        )


@dataclass(slots=True)
class BrokerSide:
    """The broker of a world, with a real log of its own."""

    world: World
    engine: Engine
    logs: Logs
    signer: FileSigner
    sent: list[int] = field(default_factory=list)

    @classmethod
    def open(cls, world: World, root: Path) -> BrokerSide:
        """Open the broker's logs under ``root``."""
        root.mkdir(parents=True, exist_ok=True)
        engine = create_engine(f"sqlite:///{root / 'broker.db'}")
        logs = open_logs(
            engine,
            member_id="broker",
            member_folder=world.folder("broker"),
            directory=world.directory,
            logs_dir=root / "broker-logs",
            at=datetime.now(UTC),
        )
        return cls(world, engine, logs, world.folder("broker").signer())

    @property
    def member(self) -> Member:
        """The broker in the directory."""
        return self.world.directory.member("broker")

    async def papers(
        self,
        adapter: Adapter,
        request: Request,
        *,
        leaf_changes: Mapping[str, Any] | None = None,
        private: Mapping[str, Any] | None = None,
        grant_changes: Mapping[str, Any] | None = None,
        obligations: Mapping[str, Any] | None = None,
        permitted: bool = True,
        signer: FileSigner | None = None,
        sealed_template: Callable[[Request], Request] = lambda request: request,
    ) -> Papers:
        """Record an order, prove it, grant it; or lie as the arguments say."""
        order = request.order()
        envelope = request.envelope()
        digest = hashlib.sha256(envelope.payload).digest()
        now = datetime.now(UTC)
        policy = adapter.policies.current
        facts = facts_of_order(order, sealed=True, standing=assume_nothing_on_record(["custody"]))
        decision = policy.decide(facts, "custody", now)
        duties = policy.bundle.agreements[0].file.agreement.obligations.for_grant
        if decision.obligations is not None:
            duties = decision.obligations.for_grant
        duties = duties.model_copy(update=dict(obligations or {}))
        agreement = decision.agreement_sha256 or b"\1" * 32
        search_id = str(uuid.uuid4())
        leaf: dict[str, Any] = {
            "v": 1,
            "type": "search.order",
            "search_id": search_id,
            "force": order.force,
            "order_sha256": digest.hex(),
            "policy_sha256": policy.bundle.sha256.hex(),
            "at": now.isoformat(),
            "decisions": [
                {
                    "agency": "custody",
                    "permitted": permitted,
                    "code": "PERMITTED",
                    "agreement_sha256": agreement.hex(),
                    "failed": [],
                }
            ],
        } | dict(leaf_changes or {})
        committed = {
            "case_reference": order.justification.case_reference,
            "probe": {"commitment": order.probe.commitment.hex(), "source": order.probe.source},
        } | dict(private or {})
        appended = await self.logs.search.append(NewEntry(leaf=leaf, private=committed))
        values: dict[str, Any] = {
            "search_id": search_id,
            "order_sha256": digest,
            "leaf_sha256": hashlib.sha256(appended.leaf).digest(),
            "policy_sha256": policy.bundle.sha256,
            "permits": (Permit(agency="custody", agreement_sha256=agreement, obligations=duties),),
            "issued_at": now,
            "expires_at": now + timedelta(seconds=60),
        }
        grant = SearchGrant(**(values | dict(grant_changes or {})))
        size = appended.checkpoint.checkpoint.size
        proofs = tuple(
            ConsistencyProof(old, size, self.logs.search.consistency(old, size))
            for old in self.sent
            if old < size
        )
        self.sent.append(size)
        sealed = sealed_template(request).sealed("custody", digest)
        return Papers(
            Dossier(
                order=envelope,
                grant=dsse.sign(
                    PayloadType.SEARCH_GRANT, encode_grant(grant), signer or self.signer
                ),
                leaf=appended.leaf,
                leaf_index=appended.index,
                inclusion=appended.proof,
                checkpoint=appended.checkpoint.note,
            ),
            sealed.key_id,
            sealed.ciphertext,
            proofs,
            search_id,
            size,
        )


def entries(adapter: Adapter, name: str = "search") -> list[dict[str, Any]]:
    """Return one of the adapter's logs, parsed."""
    log = adapter.logs.by_name()[name]
    return [json.loads(log.leaf(i)) for i in range(log.checkpoint.checkpoint.size)]
