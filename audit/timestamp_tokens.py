"""Timestamp tokens as authorities send them, in the order that a strict reader of DER asks for.

A token's certificates are a SET OF (RFC 5652 s.5.1), which DER sorts by their bytes (X.690 s.11.6).
CMS may be BER, and OpenSSL's authority sends the signer's certificate first, whatever it sorts as;
rfc3161-client refuses that. No signature is over the certificates, so sorting them changes nothing
that is proved; what is kept is what the authority sent.
"""

from __future__ import annotations

from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding


@asn1.sequence
class _SignedData:
    """RFC 5652 s.5.1; the set of certificates is read as a list, which may have any order."""

    version: int
    digest_algorithms: asn1.TLV
    content: asn1.TLV
    certificates: Annotated[list[x509.Certificate] | None, asn1.Implicit(0)]
    crls: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signer_infos: asn1.TLV


@asn1.sequence
class _ContentInfo:
    """RFC 5652 s.3."""

    kind: x509.ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


@asn1.sequence
class _Response:
    """RFC 3161 s.2.4.2."""

    status: asn1.TLV
    token: _ContentInfo | None


def with_sorted_certificates(answer: bytes) -> bytes:
    """Return an authority's answer with its certificates in DER's order.

    Args:
        answer: a TimeStampResp, DER but for that order.

    Raises:
        ValueError: it is something else.
    """
    token = asn1.decode_der(_Response, answer).token
    certificates = (token and token.content.certificates) or []
    there = [one.public_bytes(Encoding.DER) for one in certificates]
    return answer.replace(b"".join(there), b"".join(sorted(there)), 1) if there else answer
