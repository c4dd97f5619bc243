"""Mutual TLS over loopback: who the peer is, who is turned away, and rotation while running."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from trust import mtls, pki
from trust.ceremony import MemberFolder, Scheme
from trust.directory import Directory, Role
from trust.errors import ProbegateError, Reason

METHOD = "/test.Echo/WhoAmI"
SERVER_NAME = "broker.probegate.example"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.scheme = Scheme.create(folder, "Test", "probegate.example")
        self.broker = self.scheme.add_member("broker", Role.BROKER, endpoint="127.0.0.1:1")
        self.force = self.scheme.add_member("northshire", Role.FORCE)
        for member_id in ("broker", "northshire"):
            self.scheme.issue_certificate(member_id)
        self.directory = self.scheme.publish_directory()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "scheme")


@asynccontextmanager
async def serving(bench: Bench, directory: mtls.DirectorySource) -> AsyncIterator[str]:
    """Serve one method that answers with who the caller is; yield the address."""

    async def who_am_i(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
        peer = mtls.peer_identity(context.auth_context(), bench.directory)
        return peer.member.id.encode() + b" " + peer.certificate_sha256

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(who_am_i)
    service, method = METHOD.lstrip("/").split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    credentials = mtls.server_credentials(bench.broker.tls_cert, bench.broker.tls_key, directory)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def ask(
    address: str, credentials: grpc.ChannelCredentials, name: str = SERVER_NAME
) -> tuple[str, bytes]:
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        answer: bytes = await channel.unary_unary(METHOD)(b"", timeout=10)
    member_id, _, digest = answer.partition(b" ")
    return member_id.decode(), digest


def as_client(folder: MemberFolder, directory: Directory) -> grpc.ChannelCredentials:
    return mtls.channel_credentials(folder.tls_cert, folder.tls_key, directory.ca_pem)


def presented(address: str, folder: MemberFolder, ca: Path) -> bytes:
    """Return the DER certificate the server shows a new connection."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(folder.tls_cert, folder.tls_key)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


async def test_each_side_knows_the_other(bench: Bench) -> None:
    async with serving(bench, bench.directory) as address:
        found = await ask(address, as_client(bench.force, bench.directory))
        assert found == ("northshire", mtls.certificate_fingerprint(bench.force.tls_cert))
        assert found[1] == bench.force.certificate_sha256()
        # The broker listens on loopback, so its certificate also stands for localhost.
        await ask(address, as_client(bench.force, bench.directory), "localhost")


async def test_a_server_under_another_name_is_not_believed(bench: Bench) -> None:
    async with serving(bench, bench.directory) as address:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ask(address, as_client(bench.force, bench.directory), "northshire.example")
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_strangers_do_not_get_in(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    ca_pem = bench.directory.ca_pem
    without = grpc.ssl_channel_credentials(ca_pem)
    stranger = mtls.channel_credentials(other.force.tls_cert, other.force.tls_key, ca_pem)
    async with serving(bench, bench.directory) as address:
        for credentials in (without, stranger):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await ask(address, credentials)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError):  # and the client does not trust the server
            await ask(address, as_client(bench.force, other.directory))


async def test_rotation_while_running(bench: Bench) -> None:
    ca = bench.scheme.ca_path
    async with serving(bench, bench.directory) as address:
        first = await asyncio.to_thread(presented, address, bench.force, ca)
        assert hashes_to(first) == bench.broker.certificate_sha256()
        options = [("grpc.ssl_target_name_override", SERVER_NAME)]
        credentials = as_client(bench.force, bench.directory)
        async with grpc.aio.secure_channel(address, credentials, options) as old_channel:
            call = old_channel.unary_unary(METHOD)
            await call(b"", timeout=10)
            bench.scheme.issue_certificate("broker")
            second = await asyncio.to_thread(presented, address, bench.force, ca)
            assert hashes_to(second) == bench.broker.certificate_sha256()
            assert second != first
            await call(b"", timeout=10)  # what was open goes on

        bench.broker.tls_key.write_bytes(bench.force.tls_key.read_bytes())  # half a rotation
        third = await asyncio.to_thread(presented, address, bench.force, ca)
        assert third == second


async def test_a_server_follows_the_directory_s_authorities(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other")
    in_force = [bench.directory]
    client = mtls.channel_credentials(
        other.force.tls_cert, other.force.tls_key, bench.directory.ca_pem
    )
    async with serving(bench, lambda: in_force[0]) as address:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ask(address, client)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        in_force[0] = other.directory
        assert (await ask(address, client))[0] == "northshire"


def hashes_to(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256())


def certificate(names: list[x509.GeneralName] | None) -> dict[str, list[bytes]]:
    """Return gRPC's context for a certificate with these alternative names."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return {mtls.PEER_CERTIFICATE: [pem]}


FORCE_URI = x509.UniformResourceIdentifier("spiffe://probegate.example/force/northshire")
BROKER_URI = x509.UniformResourceIdentifier("spiffe://probegate.example/broker/broker")


@pytest.mark.parametrize(
    "context",
    [
        dict,
        lambda: {mtls.PEER_CERTIFICATE: []},
        lambda: {mtls.PEER_CERTIFICATE: [b"noise"]},
        lambda: {mtls.PEER_CERTIFICATE: certificate([FORCE_URI])[mtls.PEER_CERTIFICATE] * 2},
        lambda: certificate(None),
        lambda: certificate([x509.DNSName("northshire.probegate.example")]),
        lambda: certificate([FORCE_URI, BROKER_URI]),
        lambda: certificate([FORCE_URI, FORCE_URI]),
        lambda: certificate([FORCE_URI, x509.UniformResourceIdentifier("https://x.example")]),
        lambda: certificate([x509.UniformResourceIdentifier(FORCE_URI.value + "/")]),
        lambda: certificate([x509.UniformResourceIdentifier(FORCE_URI.value.upper())]),
        lambda: certificate([x509.UniformResourceIdentifier("spiffe://other/force/northshire")]),
    ],
    ids=range(12),
)
def test_a_certificate_that_is_nobody_s(
    bench: Bench, context: Callable[[], dict[str, list[bytes]]]
) -> None:
    with pytest.raises(ProbegateError) as error:
        mtls.peer_identity(context(), bench.directory)
    assert error.value.reason is Reason.CERTIFICATE_INVALID


def test_the_cached_identity_is_for_one_directory(bench: Bench) -> None:
    context = certificate([FORCE_URI])
    first = mtls.peer_identity(context, bench.directory)
    assert mtls.peer_identity(context, bench.directory) is first
    bench.force.card.unlink()
    without = bench.scheme.publish_directory()
    with pytest.raises(ProbegateError) as error:
        mtls.peer_identity(context, without)
    assert error.value.reason is Reason.CERTIFICATE_INVALID


def test_what_a_certificate_carries(bench: Bench) -> None:
    leaf, authority = x509.load_pem_x509_certificates(bench.force.tls_cert.read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [FORCE_URI, x509.DNSName("northshire.probegate.example")]
    leaf.verify_directly_issued_by(authority)
    assert authority.public_bytes(Encoding.PEM) == bench.scheme.ca_path.read_bytes()
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert len(list(usage)) == 2
    assert leaf.serial_number != authority.serial_number
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("days", [-1, 0, 398])
def test_a_lifetime_out_of_range(bench: Bench, days: int) -> None:
    with pytest.raises(ProbegateError) as error:
        bench.scheme.issue_certificate("broker", lifetime=timedelta(days=days))
    assert error.value.reason is Reason.CONFIG_INVALID


def test_files_that_cannot_be_used(bench: Bench) -> None:
    broker, force, ca_pem = bench.broker, bench.force, bench.directory.ca_pem
    with pytest.raises(ProbegateError) as error:
        mtls.channel_credentials(broker.tls_cert, force.tls_key, ca_pem)
    assert error.value.reason is Reason.CERTIFICATE_INVALID
    with pytest.raises(ProbegateError) as error:
        mtls.certificate_fingerprint(broker.card)
    assert error.value.reason is Reason.CERTIFICATE_INVALID
    broker.tls_key.chmod(0o644)
    with pytest.raises(ProbegateError) as error:
        mtls.server_credentials(broker.tls_cert, broker.tls_key, bench.directory)
    assert error.value.reason is Reason.KEY_FILE_INVALID


def test_an_authority_s_files_must_fit_together(bench: Bench) -> None:
    authority = bench.scheme.folder / "authority"
    for key, cert in (
        (authority / "ca-key.pem", bench.force.tls_cert),
        (authority / "scheme-key.pem", bench.scheme.ca_path),
        (authority / "state.json", bench.scheme.ca_path),
    ):
        with pytest.raises(ProbegateError) as error:
            pki.CertificateAuthority.load(key, cert)
        assert error.value.reason is Reason.KEY_FILE_INVALID
    loaded = pki.CertificateAuthority.load(authority / "ca-key.pem", bench.scheme.ca_path)
    assert repr(loaded) == "CertificateAuthority('CN=Test CA')"
