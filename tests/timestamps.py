"""A timestamping authority on loopback: OpenSSL's own (``openssl ts``) behind plain HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

OPENSSL_SECONDS: Final = 30
_CONFIG: Final = """\
[tsa]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
certs = {folder}/root.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


def openssl_available() -> bool:
    """Return whether an authority can run here; under CI it must."""
    found = shutil.which("openssl") is not None
    if not found and os.environ.get("CI") == "true":
        raise RuntimeError("not installed, and required here: openssl")
    return found


@dataclass(slots=True)
class Authority:
    """An authority with its root; may misbehave.

    Attributes:
        folder: its keys and certificates.
        url: where it answers.
        answers: what it answers instead of its own token, if anything.
        status: the HTTP status of its answers.
    """

    folder: Path
    url: str = ""
    answers: bytes | None = None
    status: int = 200

    @property
    def root(self) -> Path:
        """The root's certificate, PEM."""
        return self.folder / "root.pem"

    def reply(self, query: bytes) -> bytes:
        """Answer a query as OpenSSL does."""
        (self.folder / "query.tsq").write_bytes(query)
        command = ["openssl", "ts", "-reply", "-queryfile", "query.tsq", "-section", "tsa"]
        subprocess.run(
            [*command, "-config", "tsa.cnf", "-out", "reply.tsr"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=OPENSSL_SECONDS,
        )
        return (self.folder / "reply.tsr").read_bytes()


def make_authority(
    folder: Path, name: str = "Example TSA", *, over: bool = False, long: bool = False
) -> Authority:
    """Make an authority's keys and certificates.

    Args:
        folder: where.
        name: the signer's common name.
        over: whether its certificate's time is over.
        long: whether the signer's certificate is longer than the root's, so that DER puts the root
            first; the authority sends the signer first whatever it is.
    """
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = _named(f"{name} Root")
    ends = now - timedelta(days=1) if over else now + timedelta(days=30)
    root = (
        x509.CertificateBuilder()
        .subject_name(root_name)
        .issuer_name(root_name)
        .public_key(root_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=60))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(root_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(ends)
    )
    uses = [ExtendedKeyUsageOID.TIME_STAMPING]
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=True)
    if long:
        names = [x509.DNSName(f"{number:03}.tsa.example") for number in range(40)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = builder.sign(root_key, hashes.SHA256())
    (folder / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (folder / "tsa.pem").write_bytes(signer.public_bytes(Encoding.PEM))
    (folder / "tsa.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))
    return Authority(folder)


@contextmanager
def served(authority: Authority) -> Iterator[Authority]:
    """Serve an authority on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.headers["Content-Type"] == "application/timestamp-query"
            answer = authority.answers
            if answer is None:
                answer = authority.reply(query)
            self.send_response(authority.status if known else 415)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    authority.url = f"http://127.0.0.1:{server.server_port}/tsr"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield authority
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
