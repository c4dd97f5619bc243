"""The catalogue of everything that can be refused or go wrong, and its one exception.

Each reason says three things: the gRPC status it travels as, what is wrong in words that reveal
nothing about whether a thing exists, and what the reader can do about it. ``docs/errors.md`` is
generated from this table and a test holds the two together.

Internal detail (``ProbegateError.detail``) is for the operator's own log and is never sent to a
peer; ``metadata`` is sent, so it must never hold anything personal or biometric.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

ERROR_DOMAIN: Final = "probegate"


class Status(StrEnum):
    """gRPC status names, kept as words so that the core needs no gRPC import."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    DATA_LOSS = "DATA_LOSS"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the catalogue: how a reason travels, what it says, what to do."""

    status: Status
    message: str
    remedy: str


class Reason(Enum):
    """Every reason Probegate gives, alphabetical; the name is the wire's ``ErrorInfo.reason``."""

    AGENCY_UNKNOWN = Entry(
        Status.INVALID_ARGUMENT,
        "The order names an agency that is not in the directory.",
        "List the agencies with `probegate preview` and correct the order.",
    )
    ANCHOR_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "A timestamp is not over this log, or not by an authority that is trusted.",
        "Ask the log's owner for its tokens again; trust only certificates you obtained yourself.",
    )
    BAD_COMMITMENT = Entry(
        Status.INVALID_ARGUMENT,
        "The sealed probe does not open the commitment in the order.",
        "Build order and sealed probes together with one client.",
    )
    BUNDLE_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The agreement bundle cannot be trusted and was not activated.",
        "Check its signatures, version and files with `probegate policy explain`.",
    )
    BUNDLE_ROLLBACK = Entry(
        Status.FAILED_PRECONDITION,
        "The agreement bundle is older than, or differs from, one already trusted.",
        "Obtain the current bundle; a change needs a higher version.",
    )
    CALIBRATION_EXPIRED = Entry(
        Status.FAILED_PRECONDITION,
        "The calibration, or the key that signed it, has come to its end; scores are raw.",
        "Fit and sign a new one with `probegate adapter calibrate`.",
    )
    CALIBRATION_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The calibration cannot be trusted, or is of another gallery or matcher; scores are raw.",
        "Fit and sign one for this gallery with `probegate adapter calibrate`.",
    )
    CALIBRATION_REFUSED = Entry(
        Status.FAILED_PRECONDITION,
        "These scores do not support a calibration, so none was signed.",
        "Check the truth of the scores and give more of them.",
    )
    CERTIFICATE_INVALID = Entry(
        Status.UNAUTHENTICATED,
        "The peer's certificate does not carry exactly one known SPIFFE identity.",
        "Issue the certificate with `probegate keys cert`.",
    )
    CHANNEL_ROLE = Entry(
        Status.PERMISSION_DENIED,
        "This certificate's role may not call this method.",
        "Call with a certificate of the role the method is for.",
    )
    CHECKPOINT_INCONSISTENT = Entry(
        Status.FAILED_PRECONDITION,
        "The log checkpoint is not consistent with one already seen.",
        "Keep both checkpoints as evidence and tell the oversight body; searching stops.",
    )
    CHECKPOINT_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The log checkpoint is malformed or not signed by the log's key.",
        "Check the directory's log key and the log's origin.",
    )
    CHECKPOINT_UNRECONCILED = Entry(
        Status.FAILED_PRECONDITION,
        "Earlier checkpoints are still waiting for proof that they belong to this log.",
        "Send the consistency proofs asked for in the last report.",
    )
    CONFIG_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "A setting is missing or out of range.",
        "Correct the named setting.",
    )
    CONFIRMATION_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The confirmation does not fit an urgent search of this force that awaits one.",
        "Confirm with another person than the officer, of the rank the decision names.",
    )
    CORROBORATION_MISSING = Entry(
        Status.FAILED_PRECONDITION,
        "Nothing but a comparison of faces stands behind this candidate, so it is not exported.",
        "Record independent evidence with `probegate corroborate`.",
    )
    DEADLINE_MISSING = Entry(
        Status.INVALID_ARGUMENT,
        "The call carries no deadline, or one beyond the limit.",
        "Set a deadline within the documented limit.",
    )
    DEADLINE_PASSED = Entry(
        Status.DEADLINE_EXCEEDED,
        "The work was not finished within the deadline.",
        "Ask again by its id; what was begun goes on.",
    )
    DIRECTORY_EXPIRED = Entry(
        Status.FAILED_PRECONDITION,
        "The directory is not valid at this time.",
        "Obtain the current directory from the scheme authority.",
    )
    DIRECTORY_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The directory is malformed or not signed by the scheme authority.",
        "Obtain the directory again and check the pinned scheme key.",
    )
    DIRECTORY_ROLLBACK = Entry(
        Status.FAILED_PRECONDITION,
        "The directory's version is older than one already trusted.",
        "Obtain the current directory from the scheme authority.",
    )
    DISCLOSURE_DENIED = Entry(
        Status.PERMISSION_DENIED,
        "No agreement in force lets these details be disclosed.",
        "See the agreement's fields with `probegate policy explain`.",
    )
    DISCLOSURE_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The request for disclosure is malformed, or does not fit the search and its reviews.",
        "Correct the named field.",
    )
    DISCLOSURE_PENDING = Entry(
        Status.FAILED_PRECONDITION,
        "As many requests about this candidate wait for its owner's people as are taken in.",
        "Wait until they have decided about one; the same is not decided sooner if asked often.",
    )
    DISCLOSURE_REPLAYED = Entry(
        Status.ALREADY_EXISTS,
        "This request id was used for another request for disclosure.",
        "Use a new request id; repeat the identical request to read how it stands.",
    )
    DISK_FULL = Entry(
        Status.UNAVAILABLE,
        "There is no room to record the request, so it was not carried out.",
        "Free disk space; nothing that was acknowledged is lost.",
    )
    ENVELOPE_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The signed envelope is malformed or of another type.",
        "Sign the exact payload bytes as DSSE with the registered payload type.",
    )
    ENVELOPE_TAMPERED = Entry(
        Status.UNAUTHENTICATED,
        "A signature over the payload does not verify.",
        "Send the envelope exactly as it was signed.",
    )
    EXPORT_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The bundle of evidence does not prove what it holds.",
        "Ask whoever made it for another; do not rely on this one.",
    )
    FILE_EXISTS = Entry(
        Status.ALREADY_EXISTS,
        "A file of this name is there already and is not overwritten.",
        "Choose another place, or move the old file away.",
    )
    FILE_MISSING = Entry(
        Status.NOT_FOUND,
        "A file that was named cannot be read.",
        "Check the path and its permissions.",
    )
    FILE_UNWRITABLE = Entry(
        Status.FAILED_PRECONDITION,
        "A file cannot be written.",
        "Check the folder and its permissions.",
    )
    GALLERY_CORRUPT = Entry(
        Status.DATA_LOSS,
        "The gallery's files do not agree with its manifest.",
        "Restore the gallery from its source with `probegate adapter import`.",
    )
    GALLERY_LOCKED = Entry(
        Status.UNAVAILABLE,
        "Another command is changing the gallery.",
        "Wait until it is done and give the command again.",
    )
    GALLERY_MISSING = Entry(
        Status.FAILED_PRECONDITION,
        "There is no gallery at this place.",
        "Create it with `probegate adapter import`.",
    )
    GALLERY_UNAVAILABLE = Entry(
        Status.UNAVAILABLE,
        "The gallery's engine does not answer.",
        "Start the engine, or check its address and credentials, and ask again.",
    )
    GALLERY_UNCERTIFIED = Entry(
        Status.UNAVAILABLE,
        "It cannot be shown that the gallery's engine missed no record, so there is no answer.",
        "Check how the engine computes; ask for fewer candidates or a higher threshold.",
    )
    GRANT_EXPIRED = Entry(
        Status.FAILED_PRECONDITION,
        "The broker's grant is stale.",
        "Check both clocks; a grant lives at most a minute.",
    )
    GRANT_INVALID = Entry(
        Status.PERMISSION_DENIED,
        "The broker's grant does not cover this order at this agency.",
        "Only a grant for this very order, agency and log entry is accepted.",
    )
    IMAGES_NOT_AGREED = Entry(
        Status.PERMISSION_DENIED,
        "The agreement does not let these images be sent, or wants reasons for it.",
        "See the agreement's images with `probegate policy explain`.",
    )
    IMPORT_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The files to import do not fit together.",
        "Give one template row and one record per person, in the same order.",
    )
    KEY_FILE_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "A private key file is of the wrong kind or can be read by others.",
        "Make it with `probegate keys` and keep its mode at 0600.",
    )
    KEY_REVOKED = Entry(
        Status.UNAUTHENTICATED,
        "The key was revoked or is outside its validity.",
        "Sign with a key the current directory lists as valid.",
    )
    KEY_UNKNOWN = Entry(
        Status.UNAUTHENTICATED,
        "No member of the directory holds this key for this use.",
        "Sign with a key the current directory lists for this use.",
    )
    LEGAL_HOLD = Entry(
        Status.FAILED_PRECONDITION,
        "A value that was to be erased is under legal hold; nothing was erased.",
        "Leave it out, or have the hold lifted by whoever set it.",
    )
    LOG_CORRUPT = Entry(
        Status.DATA_LOSS,
        "The log's files do not hash to its checkpoint.",
        "Keep the files as they are and run `probegate audit verify` on a copy.",
    )
    LOG_PROOF_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The request is not proved to be in the log.",
        "No proof, no search: send the entry, its inclusion proof and the checkpoint.",
    )
    LOG_UNAVAILABLE = Entry(
        Status.UNAVAILABLE,
        "The audit log cannot take entries, so searching has stopped.",
        "Repair the log's storage; searching resumes when entries are durable again.",
    )
    MESSAGE_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The bytes are not a request of this method.",
        "Build requests from the published protos.",
    )
    MESSAGE_TOO_LARGE = Entry(
        Status.RESOURCE_EXHAUSTED,
        "The message is larger than the limit.",
        "Send one probe and its order only.",
    )
    METHOD_LATER = Entry(
        Status.UNIMPLEMENTED,
        "This method is declared but not offered by this server yet.",
        "See the changelog for the version that offers it.",
    )
    NOTICE_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The notice is malformed or does not fit what it is about.",
        "Correct the named field.",
    )
    NOT_FOUND = Entry(
        Status.NOT_FOUND,
        "There is no such thing here for this caller.",
        "Check the identifier and the caller's organisation.",
    )
    OFFICER_TOKEN_INVALID = Entry(
        Status.UNAUTHENTICATED,
        "The officer's or authoriser's token is not valid for this order and channel.",
        "Obtain a new token from the force's identity provider (at most 5 minutes old).",
    )
    ORDER_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The search order is malformed or incomplete.",
        "Correct the named fields.",
    )
    ORDER_REPLAYED = Entry(
        Status.ALREADY_EXISTS,
        "This order was already used.",
        "Build a new order; repeat the identical request to read the earlier answer.",
    )
    ORDER_STALE = Entry(
        Status.FAILED_PRECONDITION,
        "The order has expired or is dated in the future.",
        "Check the clock and build a new order.",
    )
    OUTCOME_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The agency's report does not verify.",
        "Ask the agency's operator; the outcome is shown as invalid, never as no match.",
    )
    PAGE_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The page size or page token is not valid.",
        "Use a size within the limit and the token exactly as it was given.",
    )
    POLICY_DENIED = Entry(
        Status.PERMISSION_DENIED,
        "No agreement in force permits this.",
        "See the failed clauses with `probegate policy explain`.",
    )
    POLICY_FILE_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The policy file of logs and witnesses cannot be used.",
        "Correct the named line.",
    )
    PORT_IN_USE = Entry(
        Status.UNAVAILABLE,
        "The address is already in use.",
        "Stop the other process or choose another port.",
    )
    PROBE_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The probe template cannot be used.",
        "Send one finite, unit-length template of the declared model, type and dimensions.",
    )
    PROBE_MODEL = Entry(
        Status.INVALID_ARGUMENT,
        "The probe was made by a model this gallery does not hold.",
        "Extract the template with a model the agency lists.",
    )
    QUORUM_MISSING = Entry(
        Status.FAILED_PRECONDITION,
        "The checkpoint is not cosigned by as many witnesses as the policy file asks for.",
        "Push it to the missing witnesses with `probegate audit witness push`.",
    )
    READ_PURPOSE_MISSING = Entry(
        Status.INVALID_ARGUMENT,
        "A log is read for one of the four purposes of DPA 2018 s.62(4), which must be stated.",
        "State the purpose of the read.",
    )
    RELEASE_EXPIRED = Entry(
        Status.FAILED_PRECONDITION,
        "The time in which the details could be opened has passed.",
        "Ask for them again, if they are still needed.",
    )
    RELEASE_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The decision does not fit an answer that is held here.",
        "See `probegate adapter inbox`; each reviewer decides once and names who was asked.",
    )
    RELEASE_SWITCHED_OFF = Entry(
        Status.FAILED_PRECONDITION,
        "A kill switch is off, so nothing it names may be released.",
        "Refuse the answer, or release it once the switch is on again.",
    )
    RESULT_GONE = Entry(
        Status.NOT_FOUND,
        "What was found was erased when its time was over.",
        "Search again if there is a reason to; the log still proves that it was made.",
    )
    RESULT_INVALID = Entry(
        Status.FAILED_PRECONDITION,
        "The result, a report or its receipt does not verify.",
        "Do not rely on it; keep it and tell the oversight body.",
    )
    REVIEWER_NOT_ACCREDITED = Entry(
        Status.PERMISSION_DENIED,
        "The reviewer has no accreditation that is valid now.",
        "Let somebody with a valid accreditation review.",
    )
    REVIEWER_REVOKED = Entry(
        Status.FAILED_PRECONDITION,
        "A review that this stands on was made by a reviewer who was revoked.",
        "Let somebody else review.",
    )
    REVIEW_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The review is malformed, or is not of every candidate of the search.",
        "Correct the named field; every candidate needs a finding.",
    )
    REVIEW_MISSING = Entry(
        Status.FAILED_PRECONDITION,
        "Not enough people have each found this to be a potential candidate.",
        "See how the reviews stand with `probegate review status`.",
    )
    REVIEW_NOT_INDEPENDENT = Entry(
        Status.FAILED_PRECONDITION,
        "The reviewer has another part in this search, or has reviewed it already.",
        "Let somebody else review.",
    )
    REVIEW_NOT_NEEDED = Entry(
        Status.FAILED_PRECONDITION,
        "Enough people have reviewed this search, and they agree.",
        "See how the reviews stand with `probegate review status`.",
    )
    SCORES_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The file does not hold scores of known truth.",
        "Give the columns score and mated, and if there are any quality and group.",
    )
    SEAL_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "The sealed probe cannot be opened for this order at this agency.",
        "Seal to the agency's current key, bound to this order.",
    )
    SEARCH_RUNNING = Entry(
        Status.FAILED_PRECONDITION,
        "The search has not ended, and cannot be erased before.",
        "Wait until it has ended, or cancel it.",
    )
    SERVER_BUSY = Entry(
        Status.RESOURCE_EXHAUSTED,
        "The server is at its limit of concurrent work.",
        "Try again after the delay given.",
    )
    SERVICE_UNREACHABLE = Entry(
        Status.UNAVAILABLE,
        "The service cannot be reached.",
        "Check that it is running and that the address and certificates are right.",
    )
    STATE_UNAVAILABLE = Entry(
        Status.UNAVAILABLE,
        "The state store cannot be trusted or reached, so searching has stopped.",
        "Repair the store; nothing that was acknowledged is lost.",
    )
    STOP_USE = Entry(
        Status.FAILED_PRECONDITION,
        "This candidate was recalled and must not be used.",
        "Acknowledge the recall with `probegate recall acknowledge` and tell whoever has it.",
    )
    TEXT_INVALID = Entry(
        Status.INVALID_ARGUMENT,
        "A text field holds characters or a length that is not allowed.",
        "Correct the named field.",
    )
    UNEXPECTED = Entry(
        Status.UNAVAILABLE,
        "The request could not be completed and nothing about it is assumed.",
        "Try again; if it persists, give the operator the time of the request.",
    )
    USAGE = Entry(
        Status.INVALID_ARGUMENT,
        "The command was not understood.",
        "See the command's --help.",
    )
    WITNESS_ROLLED_BACK = Entry(
        Status.FAILED_PRECONDITION,
        "The witness has forgotten a checkpoint that it cosigned.",
        "Do not rely on it; keep its old cosignature and tell whoever runs it.",
    )

    @property
    def entry(self) -> Entry:
        """The catalogue row."""
        value: Entry = self.value
        return value


class ProbegateError(Exception):
    """A catalogued failure.

    Args:
        reason: the catalogue entry.
        detail: words for this side's own operator; never sent to a peer.
        metadata: short values sent to the peer (``ErrorInfo.metadata``), such as a field's name;
            never personal, never biometric.
    """

    def __init__(self, reason: Reason, detail: str = "", **metadata: str) -> None:
        self.reason = reason
        self.detail = detail
        self.metadata = metadata
        super().__init__(self.line())

    def line(self) -> str:
        """One line for a person: what is wrong, where, and what to do."""
        entry = self.reason.entry
        facts = ", ".join(f"{key}={value}" for key, value in self.metadata.items())
        where = f" [{facts}]" if facts else ""
        why = f" ({self.detail})" if self.detail else ""
        return f"{self.reason.name}: {entry.message}{where}{why} {entry.remedy}"

    @property
    def public_message(self) -> str:
        """What a peer is told: the catalogue's sentence and nothing else."""
        return self.reason.entry.message
