"""Every payload type that one organisation signs for another: the one table.

A DSSE signature covers the type's name, so a signature over one kind of payload can never be
presented as a signature over another.
"""

from __future__ import annotations

from enum import StrEnum


class PayloadType(StrEnum):
    """The media type of a signed payload; the version is part of the name."""

    SEARCH_ORDER = "application/vnd.probegate.search-order.v1+protobuf"
    """A force's order (force to broker and agencies)."""
    SEARCH_GRANT = "application/vnd.probegate.search-grant.v1+protobuf"
    """A broker's grant of one order at one agency (broker to agency)."""
    MATCH_REPORT = "application/vnd.probegate.match-report.v1+protobuf"
    """An agency's answer (agency to broker and force)."""
    SEARCH_RESULT = "application/vnd.probegate.search-result.v1+protobuf"
    """The combined result (broker to force)."""
    ANSWER_STATEMENT = "application/vnd.probegate.answer-statement.v1+protobuf"
    """That an agency searched and answered, without what it found (agency to other agencies)."""
    URGENT_CONFIRMATION = "application/vnd.probegate.urgent-confirmation.v1+protobuf"
    """A force's written confirmation of an urgent search (force to broker and agencies)."""
    REVIEW = "application/vnd.probegate.review.v1+protobuf"
    """One reviewer's findings on one agency's candidates (force to broker and that agency)."""
    IMAGE_REQUEST = "application/vnd.probegate.image-request.v1+protobuf"
    """A request for candidates' images (force to broker and agency)."""
    CANDIDATE_IMAGE = "application/vnd.probegate.candidate-image.v1+protobuf"
    """A candidate's image, sealed once signed (agency to force)."""
    DISCLOSURE_REQUEST = "application/vnd.probegate.disclosure-request.v1+protobuf"
    """A request for the details of a record (force to broker and agency)."""
    RELEASE_DECISION = "application/vnd.probegate.release-decision.v1+protobuf"
    """What the owner decided on such a request (agency to broker and force)."""
    DISCLOSURE = "application/vnd.probegate.disclosure.v1+protobuf"
    """The details of a record, sealed once signed (agency to force)."""
    WRONG_MATCH = "application/vnd.probegate.wrong-match.v1+protobuf"
    """That a candidate is not the person sought (force to broker and agency)."""
    RECALL = "application/vnd.probegate.recall.v1+protobuf"
    """That a candidate is recalled (agency to broker and force)."""
    RECALL_ACKNOWLEDGEMENT = "application/vnd.probegate.recall-acknowledgement.v1+protobuf"
    """That a recalled candidate is no longer used (force to broker and agency)."""
    REVIEWER_REVOCATION = "application/vnd.probegate.reviewer-revocation.v1+protobuf"
    """That a reviewer's reviews no longer count (force to broker and agencies)."""
    CORROBORATION = "application/vnd.probegate.corroboration.v1+protobuf"
    """That there is evidence that does not come from comparing faces (force to broker)."""
    CAPABILITIES = "application/vnd.probegate.agency-capabilities.v1+protobuf"
    """What an agency can match (agency to broker and force)."""
    CALIBRATION = "application/vnd.probegate.calibration.v1+json"
    """What an agency's scores are worth (agency to itself and to whoever tests it)."""
    CANDIDATE_LINKS = "application/vnd.probegate.candidate-links.v1+protobuf"
    """Which candidates hold the same identifiers as others' (agency to broker alone)."""
    ERASURE_CERTIFICATE = "application/vnd.probegate.erasure-certificate.v1+json"
    """That records were erased from a gallery (agency to whoever asked for it)."""
    DIRECTORY = "application/vnd.probegate.directory.v1+json"
    """The directory of members (scheme authority to everybody)."""
    AGREEMENT_BUNDLE = "application/vnd.probegate.agreement-bundle.v1+json"
    """A set of data-sharing agreements (both parties to everybody)."""
