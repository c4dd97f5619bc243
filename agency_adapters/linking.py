"""Link tokens for the candidates of one report: this agency's part in saying "the same person".

1. Tokens go with a report that lists candidates, and with no other: a hit alone, an answer that
   waits for a person or a denial says nothing of anybody, in tokens neither.
2. The link key is the newest that the directory has for this agency at the instant the grant was
   issued (``trust.link_keys``); it is opened for one report and not kept.
3. Which identifiers a record has is its kind of agency's affair (``AgencyKind.identifiers``). A
   candidate without any, or whose record was erased meanwhile, has no tokens.
4. They are signed apart from the report and bound to its digest: the report goes on to the force,
   which could guess names and must never see a token.
5. Without a link key that can be opened there are no tokens and the report stands: that agencies
   hold one person is a help to the reader, not a condition of the answer. That is logged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agency_adapters.galleries.gallery import Gallery
from agency_adapters.models import Finding, FoundRecord
from agency_adapters.registry import kind_named
from trust import dsse, link_keys, link_tokens, telemetry
from trust.directory import Directory, Role
from trust.dsse import Envelope
from trust.errors import ProbegateError
from trust.keys import Opener, Signer
from trust.link_keys import LinkKey
from trust.messages import CandidateLink, CandidateLinks, MatchReport
from trust.payload_types import PayloadType
from trust.wire import encode_links, encode_report


@dataclass(frozen=True, slots=True)
class Linker:
    """Makes the link tokens of reports.

    Attributes:
        agency: this agency's member id.
        directory: returns the directory in force.
        openers: this agency's sealing keys, by key id.
        signer: signs what goes with reports.
    """

    agency: str
    directory: Callable[[], Directory]
    openers: Mapping[str, Opener] = field(repr=False)
    signer: Signer

    async def linked(self, finding: Finding, gallery: Gallery, issued_at: datetime) -> Finding:
        """Return a finding with the link tokens of what it lists."""
        links = await self.links(finding.report, finding.found, gallery, issued_at)
        return replace(finding, links=links)

    async def links(
        self,
        report: MatchReport,
        found: Sequence[FoundRecord],
        gallery: Gallery,
        issued_at: datetime,
    ) -> Envelope | None:
        """Return the signed link tokens of a report's candidates; None if there are none.

        Args:
            report: what is answered.
            found: the records behind its references.
            gallery: where they are.
            issued_at: when the grant of the search was issued (2).

        Raises:
            ProbegateError: ``GALLERY_CORRUPT`` or ``GALLERY_UNAVAILABLE``.
        """
        if not report.candidates:  # (1)
            return None
        link_key = self._link_key(issued_at)
        if link_key is None:  # (5)
            return None
        listed = {one.reference for one in report.candidates}
        identifiers_of = kind_named(gallery.facts.kind).identifiers
        key = link_tokens.search_key(link_key, report.search_id)
        candidates = []
        for one in found:
            record = await gallery.record(one.record_id) if one.reference in listed else None
            made = link_tokens.tokens(key, identifiers_of(record)) if record else ()  # (3)
            if made:
                candidates.append(CandidateLink(reference=one.reference, tokens=made))
        if not candidates:
            return None
        links = CandidateLinks(
            search_id=report.search_id,
            agency=self.agency,
            report_sha256=hashlib.sha256(encode_report(report)).digest(),  # (4)
            link_key_id=link_key.id,
            candidates=tuple(candidates),
        )
        return dsse.sign(PayloadType.CANDIDATE_LINKS, encode_links(links), self.signer)

    def _link_key(self, at: datetime) -> LinkKey | None:
        try:
            member = self.directory().member(self.agency, Role.AGENCY)
            sealed = link_keys.newest_at(member.link_keys, at)  # (2)
            return link_keys.opened(sealed, self.agency, self.openers) if sealed else None
        except ProbegateError as error:
            telemetry.log("link key not opened", reason=error.reason.name)
            return None
