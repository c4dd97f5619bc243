"""Candidates' images: asked for under a signature, opened here alone, believed of nobody.

1. There is one answer for each candidate asked for, and none for another: a broker that leaves one
   out has not shown that there is none.
2. An image opens under the very context of this order, agency and reference, with one of this
   force's keys.
3. Inside is the agency's signature, and what it signed is of this search, order, agency and
   reference: an image of another candidate is refused, whoever sealed it. It is sent when it is
   asked for, and no entry states it: its key must be the agency's now.
4. It is the kind of image that it says, since a page will show it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from force_client.ground import Ground, failing, invalid
from force_client.second_step.checks import Matter, same, signed_by_agency
from force_client.second_step.models import ReceivedImage
from trust import dsse, sealing
from trust.dsse import Envelope
from trust.errors import Reason
from trust.keys import Opener, Signer
from trust.media import media_type_of
from trust.messages import Person
from trust.payload_types import PayloadType
from trust.second_step import CandidateImage, ImageRequest
from trust.wire import checked, encode, envelope_from_bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """A candidate's image; never printed.

    Attributes:
        media_type: image/jpeg or image/png.
        content: the file's bytes.
    """

    media_type: str
    content: bytes = field(repr=False)


def request_images(
    matter: Matter, agency: str, reviewer: Person, reasons: str, signer: Signer, now: datetime
) -> Envelope:
    """Sign the request for the images of every candidate of one agency.

    Raises:
        ProbegateError: ``REVIEW_INVALID`` with the field's name.
    """
    request = checked(
        Reason.REVIEW_INVALID,
        lambda: ImageRequest(
            request_id=str(uuid.uuid4()),
            search_id=matter.search_id,
            order_sha256=matter.order.sha256,
            force=matter.order.order.force,
            agency=agency,
            references=matter.reports[agency][1],
            reviewer=reviewer,
            reasons=reasons,
            created_at=now,
        ),
    )
    return dsse.sign(PayloadType.IMAGE_REQUEST, encode(request), signer)


def open_images(
    received: Sequence[ReceivedImage],
    matter: Matter,
    agency: str,
    openers: Mapping[str, Opener],
    ground: Ground,
) -> Mapping[str, Picture]:
    """Open one agency's images; a reference that is not in the mapping has none.

    Raises:
        ProbegateError: ``RESULT_INVALID``.
    """
    asked = sorted(matter.reports[agency][1])
    if sorted(one.reference for one in received) != asked:  # (1)
        raise invalid("not one answer for each candidate asked for", "images")
    return {
        one.reference: _opened(one, matter, agency, openers, ground)
        for one in received
        if one.key_id or one.sealed
    }


def _opened(
    received: ReceivedImage,
    matter: Matter,
    agency: str,
    openers: Mapping[str, Opener],
    ground: Ground,
) -> Picture:
    with failing("image"):  # (2)
        opener = openers.get(received.key_id)
        if opener is None:
            raise invalid("sealed to no key of this force", "image")
        info = sealing.image_info(matter.order.sha256, agency, received.reference, received.key_id)
        signed = envelope_from_bytes(opener.open(received.sealed, info))
    image = signed_by_agency(  # (3)
        signed, CandidateImage, agency, ground, "image", proved=ground.now
    )
    same(image.search_id, matter.search_id, "search", "image")
    same(image.order_sha256, matter.order.sha256, "order", "image")
    same(image.agency, agency, "agency", "image")
    same(image.reference, received.reference, "candidate", "image")
    if not ground.in_time(image.sent_at):
        raise invalid("not of this search's time", "image")
    if media_type_of(image.image) != image.media_type:  # (4)
        raise invalid(f"not the {image.media_type} that it says", "image")
    return Picture(image.media_type, image.image)
