"""What a force's system imports to search: build, sign, seal, send, follow and verify.

Example, with the settings of a demonstration (``.probegate/demo/northshire.toml``)::

    >>> from force_client import ForceClient, ForceSettings, OrderDraft, Part, ProbeFacts
    >>> from force_client import load_probe
    >>> from trust.messages import Justification, Offence
    >>> settings = ForceSettings.load(config)
    >>> client = ForceClient(settings).__enter__()  # or: with ForceClient(settings) as client
    >>> draft = OrderDraft(
    ...     officer=client.officers.person(OFFICER, option="officer"),
    ...     authoriser=client.officers.person(AUTHORISER, option="authoriser"),
    ...     justification=Justification(
    ...         purpose="crime_investigation",
    ...         legal_basis="common_law_policing",
    ...         schedule8_condition="statutory_purposes",
    ...         aim="identify_unknown",
    ...         subject_category="suspect",
    ...         offence=Offence(code="theft-act-1968-s8", seriousness="serious_crime"),
    ...         case_reference="NS/2026/004411",
    ...         necessity="The man in the image was not identified by the officers who saw it.",
    ...         proportionality="One image, one robbery, the least intrusive galleries first.",
    ...         tried_first=("own_custody",),
    ...     ),
    ...     probe=ProbeFacts(source="cctv", quality=72, captured_at=captured_at),
    ...     agencies=("custody", "pnd"),
    ... )
    >>> view = client.search(
    ...     draft,
    ...     load_probe(probe_file, model=settings.model),
    ...     officer_token=client.issue_token(OFFICER, Part.OFFICER),
    ...     authoriser_token=client.issue_token(AUTHORISER, Part.AUTHORISER),
    ... )
    >>> for outcome in view.outcomes:  # every agency asked has one
    ...     print(outcome.agency, outcome.state, outcome.reason or "-")
    custody candidates -
    pnd candidates -
    >>> best = view.candidates[0]  # an opaque reference, never a name
    >>> best.agency in draft.agencies, len(best.reference)
    (True, 20)
    >>> client.get(view.search_id).verified  # everything in it was checked
    True
    >>> client.__exit__(None, None, None)

Modules, from the facts to the evidence: ``settings`` and ``officers`` (who we are), ``probes``
(a template fit to be sealed), ``orders`` (signed order, sealed probes), ``orderbook`` (orders
kept), ``connection``, ``calling`` and ``wire`` (the broker), ``client`` and ``sync`` (the two
clients), ``verify`` (the force believes nobody), ``revisions`` (what was shown is not taken back),
``views`` (what is shown), ``evidence`` (files that verify offline), ``models``. What follows a
search is in ``second_step``: two people's review of each candidate, the details that its owner
releases, and recalls.
"""

from __future__ import annotations

from force_client.client import AsyncForceClient
from force_client.evidence import require_saveable, save_evidence, verify_evidence
from force_client.models import (
    AgencyDecision,
    AgencyOutcome,
    Explanation,
    Lane,
    LanedCandidate,
    OrderDraft,
    PersonGroup,
    ProbeFacts,
    SearchState,
    SearchSummary,
    SearchView,
)
from force_client.officers import read_token
from force_client.probes import Probe, load_probe
from force_client.second_step.calls_submitting import Sitting
from force_client.second_step.exporting import BANNER as LEAD_ONLY
from force_client.second_step.images import Picture
from force_client.second_step.models import (
    CandidateStanding,
    DisclosureState,
    DisclosureSummary,
    DisclosureView,
    OpenedDisclosure,
    RecallView,
    RecordedCorroboration,
    ReviewStatus,
)
from force_client.second_step.sheet import Findings, read_findings, render_sheet
from force_client.second_step.sitting import BlindCandidate
from force_client.settings import ForceSettings
from force_client.sync import ForceClient
from force_client.verbal import SCALE_NOTE, support
from trust.errors import ProbegateError, Reason
from trust.second_step import CorroborationKind, Opinion
from trust.tokens import Part

__all__ = [
    "LEAD_ONLY",
    "SCALE_NOTE",
    "AgencyDecision",
    "AgencyOutcome",
    "AsyncForceClient",
    "BlindCandidate",
    "CandidateStanding",
    "CorroborationKind",
    "DisclosureState",
    "DisclosureSummary",
    "DisclosureView",
    "Explanation",
    "Findings",
    "ForceClient",
    "ForceSettings",
    "Lane",
    "LanedCandidate",
    "OpenedDisclosure",
    "Opinion",
    "OrderDraft",
    "Part",
    "PersonGroup",
    "Picture",
    "Probe",
    "ProbeFacts",
    "ProbegateError",
    "Reason",
    "RecallView",
    "RecordedCorroboration",
    "ReviewStatus",
    "SearchState",
    "SearchSummary",
    "SearchView",
    "Sitting",
    "load_probe",
    "read_findings",
    "read_token",
    "render_sheet",
    "require_saveable",
    "save_evidence",
    "support",
    "verify_evidence",
]
