"""What people and peers get wrong, against the running federation.

On the command line each mistake is one line on standard error that names a catalogued reason, with
a status that is not 0, without a traceback and without anything personal. On the wire it is the
same reason. No server ever calls it INTERNAL, and none writes a traceback.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from probegate.agency.v1 import match_service_pb2 as agency_pb
from probegate.broker.v1 import search_service_pb2 as broker_pb

from broker.decisions import decide, facts_of
from deploy.local.demo import AUTHORISER, FORCE, OFFICER, ROBBERY
from deploy.local.place import AGENCIES, BROKER, FORCES, Place
from deploy.local.processes import Processes
from force_client import ForceClient, Part, Probe
from force_client import wire as force_wire
from force_client.orders import PreparedSearch, SignedOrder
from policy.bundle import load_bundle
from policy.decision import compile_bundle
from policy.standing import assume_nothing_on_record
from tests.forces import (
    Ended,
    facts_options,
    probe_of,
    probegate,
    probegate_here,
    robbery,
    search,
    settings_of,
    tokens,
)
from trust import dsse
from trust.ceremony import Scheme
from trust.errors import ProbegateError, Reason
from trust.messages import OutcomeState
from trust.mtls import channel_credentials
from trust.payload_types import PayloadType
from trust.rpc import error_of
from trust.wire import encode_order

PERSONAL = (OFFICER, AUTHORISER, ROBBERY.case_reference, ROBBERY.necessity)
CREATE = "/probegate.broker.v1.SearchService/CreateSearch"
GET = "/probegate.broker.v1.SearchService/GetSearch"
MATCH = "/probegate.agency.v1.MatchService/Match"


@pytest.fixture(scope="module")
def client(place: Place, federation: Processes) -> Iterator[ForceClient]:
    federation.start()
    with ForceClient(settings_of(place)) as opened:
        yield opened


def require_one_line(ended: Ended, reason: Reason, *, status: int = 1) -> None:
    assert ended.returncode == status, ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith(f"probegate: {reason.name}: ")
    assert "Traceback" not in ended.stderr + ended.stdout
    assert not any(word in ended.stderr for word in PERSONAL)


# --- the command line: probes ---------------------------------------------------------------------


def unit(dims: int) -> np.ndarray:
    vector = np.random.default_rng(3).standard_normal(dims)
    return (vector / np.linalg.norm(vector)).astype("<f4")


def with_nan() -> np.ndarray:
    vector = unit(512)
    vector[7] = np.nan
    return vector


BAD_PROBES: dict[str, Callable[[], np.ndarray]] = {
    "not a number": with_nan,
    "zero vector": lambda: np.zeros(512, "<f4"),
    "not unit length": lambda: unit(512) * 3,
    "doubles": lambda: unit(512).astype("<f8"),
    "two rows": lambda: np.stack([unit(512), unit(512)]),
    "too many dimensions": lambda: unit(5000),
}


@pytest.mark.parametrize("kind", BAD_PROBES)
def test_a_probe_that_is_none_never_leaves_the_force(
    client: ForceClient, place: Place, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "probe.npy"
    np.save(file, BAD_PROBES[kind]())
    ended = probegate("search", "--probe", file, *facts_options(place))
    require_one_line(ended, Reason.PROBE_INVALID)


def test_a_file_that_is_no_array_is_no_probe(
    client: ForceClient, place: Place, tmp_path: Path
) -> None:
    file = tmp_path / "probe.npy"
    file.write_bytes(b"\x93NUMPY garbage")
    require_one_line(
        probegate("search", "--probe", file, *facts_options(place)), Reason.PROBE_INVALID
    )


def rejected(client: ForceClient, place: Place, probe: Probe) -> set[str]:
    """Send a probe that only an agency can judge; return the reasons of its outcomes."""
    _, facts = probe_of(place)
    draft = robbery(client, facts, agencies=("custody", "pnd"))
    view = client.search(draft, probe, **tokens(client))
    assert view.verified
    return {f"{one.state.value} {one.reason}" for one in view.outcomes}


def test_a_probe_of_other_dimensions_or_another_model_is_rejected_and_not_no_match(
    client: ForceClient, place: Place
) -> None:
    good, _ = probe_of(place)
    for bad in (
        Probe(unit(128).tobytes(), 128, good.model),
        Probe(good.template, good.dims, "another-model-9"),
    ):
        said = rejected(client, place, bad)
        assert said <= {"rejected PROBE_MODEL", "denied CLAUSES_FAILED"}, said
    # What a force's own client would have refused, an agency refuses as well.
    for bad_vector in (with_nan(), np.zeros(512, "<f4"), unit(512) * 3):
        said = rejected(client, place, Probe(bad_vector.tobytes(), 512, good.model))
        assert said == {"rejected PROBE_INVALID"}


# --- the command line: facts, files, settings, ports ----------------------------------------------


def test_what_is_mistyped_on_the_command_line_is_one_line(
    client: ForceClient, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = place.probes / "suspect-good.npy"
    garbage = tmp_path / "garbage.toml"
    garbage.write_bytes(b"\xff\xfe = [ garbage")
    unknown = tmp_path / "unknown.toml"
    unknown.write_text('no_such_setting = "1"\n')
    commands: dict[tuple[object, ...], Reason] = {
        ("search", "--probe", tmp_path / "none.npy", *facts_options(place)): Reason.FILE_MISSING,
        ("search", "--probe", probe, *facts_options(place, ["narnia"])): Reason.AGENCY_UNKNOWN,
        (
            "search", "--probe", probe, *facts_options(place, config=str(garbage)),
        ): Reason.CONFIG_INVALID,
        (
            "search", "--probe", probe, *facts_options(place, config=str(unknown)),
        ): Reason.CONFIG_INVALID,
        (
            "search", "--probe", probe, *facts_options(place, authoriser=OFFICER),
        ): Reason.ORDER_INVALID,
        (
            "search", "--probe", probe, *facts_options(place, officer="nobody-1"),
        ): Reason.ORDER_INVALID,
        (
            "search", "--probe", probe, *facts_options(place, authorised_at="yesterday"),
        ): Reason.USAGE,
        ("preview", *facts_options(place, config=str(tmp_path / "x.toml"))): Reason.FILE_MISSING,
        ("audit", "verify", tmp_path): Reason.FILE_MISSING,
        ("policy", "explain", "--facts", tmp_path / "no.yaml"): Reason.FILE_MISSING,
        ("adapter", "check", "--gallery", tmp_path): Reason.GALLERY_MISSING,
        ("adapter", "serve", "--config", garbage): Reason.CONFIG_INVALID,
        ("broker", "serve", "--config", tmp_path / "no.toml"): Reason.FILE_MISSING,
        ("broker", "serve", "--config", unknown): Reason.CONFIG_INVALID,
        ("demo", "status", "--place", tmp_path / "nowhere"): Reason.FILE_MISSING,
        ("keys", "show", tmp_path / "nowhere"): Reason.FILE_MISSING,
    }  # fmt: skip
    wrong = {}
    for words, reason in commands.items():
        ended = probegate_here(capsys, *words)
        try:
            require_one_line(ended, reason)
        except AssertionError:
            wrong[" ".join(map(str, words[:3]))] = (reason.name, ended.returncode, ended.stderr)
    assert wrong == {}


@pytest.mark.parametrize(
    "words",
    [
        ["search"],
        ["search", "--no-such-option"],
        ["no-such-command"],
        ["audit", "no-such-command"],
        ["preview", "--probe-quality", "many"],
    ],
)
def test_what_is_not_understood_is_one_line_with_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    require_one_line(probegate_here(capsys, *words), Reason.USAGE, status=2)


def test_a_shell_sees_the_same_line_and_status(tmp_path: Path) -> None:
    require_one_line(probegate("audit", "verify", tmp_path), Reason.FILE_MISSING)
    require_one_line(probegate("preview"), Reason.USAGE, status=2)


def test_a_port_in_use_is_one_line_and_the_server_that_has_it_goes_on(
    client: ForceClient, place: Place, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for role, member in (("broker", BROKER), ("adapter", "custody")):
            config = elsewhere(place, member, tmp_path)
            ended = probegate(role, "serve", "--config", config, "--listen", address)
            require_server_refusal(ended, Reason.PORT_IN_USE)


def elsewhere(place: Place, member: str, folder: Path) -> Path:
    """Return a member's settings with state and logs of their own."""
    text = place.config(member).read_text()
    for name in ("state_dir", "logs_dir"):
        text = re.sub(rf"(?m)^{name} = .*$", f'{name} = "{folder / member / name}"', text)
    config = folder / f"{member}.toml"
    config.write_text(text)
    return config


def require_server_refusal(ended: Ended, reason: Reason) -> None:
    """A server's output is structured log lines, and the one line for whoever started it."""
    said = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert ended.returncode == 1, ended.stderr
    assert len(said) == 1, ended.stderr
    assert said[0].startswith(f"probegate: {reason.name}: ")
    assert "Traceback" not in ended.stderr


def test_a_second_server_on_the_same_logs_is_refused(client: ForceClient, place: Place) -> None:
    for role, member in (("broker", BROKER), ("adapter", "custody")):
        ended = probegate(role, "serve", "--config", place.config(member))
        require_server_refusal(ended, Reason.LOG_UNAVAILABLE)


def test_a_corrupt_gallery_is_never_served(place: Place, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    shutil.copytree(place.gallery("custody"), gallery)
    templates = max((one for one in gallery.rglob("*") if one.is_file()), key=_size)
    config = elsewhere(place, "custody", tmp_path)
    raw = templates.read_bytes()
    templates.write_bytes(raw[: len(raw) // 2])
    serving = ("adapter", "serve", "--config", config, "--gallery", gallery)
    require_server_refusal(probegate(*serving, "--listen", "127.0.0.1:0"), Reason.GALLERY_CORRUPT)
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 1
    templates.write_bytes(bytes(flipped))
    require_one_line(probegate("adapter", "check", "--gallery", gallery), Reason.GALLERY_CORRUPT)


def _size(path: Path) -> int:
    return path.stat().st_size


# --- the wire: orders -----------------------------------------------------------------------------


def refusal(client: ForceClient, made: PreparedSearch, **wrong: str) -> Reason:
    """Send a search, with other tokens than the right ones if given; return the refusal."""
    given = tokens(client)
    officer = wrong.get("officer_token", given["officer_token"])
    authoriser = wrong.get("authoriser_token", given["authoriser_token"])
    with pytest.raises(ProbegateError) as caught:
        client.create(made, officer_token=officer, authoriser_token=authoriser)
    return caught.value.reason


def prepared(client: ForceClient, place: Place, **changes: Any) -> PreparedSearch:
    probe, facts = probe_of(place)
    return client.prepare(robbery(client, facts, **changes), probe)


def signed_again(place: Place, made: PreparedSearch, **changes: Any) -> PreparedSearch:
    """Return a search whose order was changed and signed by the force, as a bad client might."""
    order = made.order.order.model_copy(update=changes)
    signer = Scheme.open(place.scheme).member_folder(FORCE).signer()
    envelope = dsse.sign(PayloadType.SEARCH_ORDER, encode_order(order), signer)
    return replace(made, order=SignedOrder(order, envelope))


def test_an_order_out_of_its_time_is_stale(client: ForceClient, place: Place) -> None:
    now = datetime.now(UTC)
    for created in (now - timedelta(hours=2), now + timedelta(hours=2)):
        made = signed_again(
            place,
            prepared(client, place),
            created_at=created,
            authorised_at=created - timedelta(minutes=1),
            expires_at=created + timedelta(minutes=4),
        )
        assert refusal(client, made) is Reason.ORDER_STALE


def test_a_used_request_id_is_not_used_again(client: ForceClient, place: Place) -> None:
    first = prepared(client, place, agencies=("custody",))
    view = client.create(first, **tokens(client), wait=10)
    assert client.create(first, **tokens(client), wait=10).search_id == view.search_id
    other = signed_again(place, first, justification=ROBBERY.model_copy(update={"aim": "locate"}))
    assert refusal(client, other) in {
        Reason.ORDER_REPLAYED,
        Reason.FILE_EXISTS,  # the force's own order book saw it first
    }
    assert raw_refusal(place, FORCE, CREATE, creating(client, other)) is Reason.ORDER_REPLAYED


def test_a_changed_envelope_is_tampered(client: ForceClient, place: Place) -> None:
    made = prepared(client, place)
    envelope = made.order.envelope
    changed = envelope.payload.replace(b"theft-act", b"theft-axe")
    assert changed != envelope.payload
    tampered = replace(made, order=replace(made.order, envelope=replace(envelope, payload=changed)))
    reason = raw_refusal(place, FORCE, CREATE, creating(client, tampered))
    assert reason is Reason.ENVELOPE_TAMPERED


def test_an_unknown_agency_is_refused_by_the_broker_too(client: ForceClient, place: Place) -> None:
    made = signed_again(place, prepared(client, place, agencies=("pnd",)), agencies=("narnia",))
    reason = raw_refusal(place, FORCE, CREATE, creating(client, made))
    assert reason is Reason.AGENCY_UNKNOWN


def test_tokens_of_the_wrong_time_channel_or_part_are_refused(
    client: ForceClient, place: Place
) -> None:
    made = prepared(client, place)
    right = tokens(client)
    with ForceClient(settings_of(place, FORCES[1])) as other:
        stolen = other.issue_token(f"{FORCES[1]}-1041", Part.OFFICER)
    person = client.officers.person(OFFICER, option="officer")
    expired = (
        Scheme.open(place.scheme)
        .member_folder(FORCE)
        .issue_token(
            officer=OFFICER,
            part=Part.OFFICER,
            role=person.role,
            rank=person.rank,
            now=datetime.now(UTC) - timedelta(minutes=20),
            accreditation=person.accreditation,
            accreditation_expires=person.accreditation_expires,
        )
    )
    for officer in (stolen, expired, right["authoriser_token"], "x.y.z", ""):
        reason = refusal(client, made, officer_token=officer)
        assert reason is Reason.OFFICER_TOKEN_INVALID
    swapped = {
        "officer_token": right["authoriser_token"],
        "authoriser_token": right["officer_token"],
    }
    assert refusal(client, made, **swapped) is Reason.OFFICER_TOKEN_INVALID


def test_an_expired_agreement_denies_at_every_agency(client: ForceClient, place: Place) -> None:
    """The very bundle the federation runs under, five years on: nothing is in force any more."""
    now = datetime.now(UTC)
    bundle = load_bundle(place.bundle.read_bytes(), client.directory, now)
    order = prepared(client, place).order.order
    facts = facts_of(order, assume_nothing_on_record(order.agencies))
    for at, permitted in ((now, True), (now + timedelta(days=5 * 365), False)):
        decisions = decide(order, facts, compile_bundle(bundle), at)
        assert len(decisions) == len(AGENCIES)
        assert any(one.permitted for one in decisions) is permitted


# --- the wire: anybody ----------------------------------------------------------------------------


def creating(client: ForceClient, made: PreparedSearch) -> bytes:
    right = tokens(client)
    request = force_wire.create_request(made, right["officer_token"], right["authoriser_token"], 0)
    raw: bytes = request.SerializeToString()
    return raw


def raw_refusal(
    place: Place,
    caller: str,
    method: str,
    request: bytes,
    *,
    to: str = BROKER,
    timeout: float | None = 5.0,
) -> Reason:
    """Send bytes with a member's certificate; return the reason of the refusal."""
    scheme = Scheme.open(place.scheme)
    folder, member = scheme.member_folder(caller), scheme.member_folder(to).member()

    async def call() -> Reason:
        ca_pem = (place.scheme / "ca.pem").read_bytes()
        credentials = channel_credentials(folder.tls_cert, folder.tls_key, ca_pem)
        options = (("grpc.ssl_target_name_override", member.server_name),)
        async with grpc.aio.secure_channel(member.endpoint, credentials, options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(method)(request, timeout=timeout)
        error = caught.value
        assert error.code() not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
        assert not any(word in (error.details() or "") for word in PERSONAL)
        return error_of(error).reason

    return asyncio.run(call())


@pytest.mark.parametrize("caller", ["custody", "inspectorate", BROKER])
def test_only_a_force_may_search(client: ForceClient, place: Place, caller: str) -> None:
    request = creating(client, prepared(client, place))
    assert raw_refusal(place, caller, CREATE, request) is Reason.CHANNEL_ROLE


@pytest.mark.parametrize("caller", [FORCE, "pnd", "inspectorate"])
def test_only_the_broker_may_ask_an_adapter(client: ForceClient, place: Place, caller: str) -> None:
    request = agency_pb.MatchRequest(dossier=b"dossier").SerializeToString()
    assert raw_refusal(place, caller, MATCH, request, to="custody") is Reason.CHANNEL_ROLE


def test_a_force_cannot_send_or_read_what_is_another_forces(
    client: ForceClient, place: Place
) -> None:
    made = prepared(client, place, agencies=("custody",))
    view = client.create(made, **tokens(client), wait=10)
    other = FORCES[1]
    assert raw_refusal(place, other, CREATE, creating(client, made)) in {
        Reason.CHANNEL_ROLE,
        Reason.KEY_UNKNOWN,
    }
    for search_id in (view.search_id, str(uuid.uuid4())):  # the same answer: existence is not told
        request = broker_pb.GetSearchRequest(search_id=search_id).SerializeToString()
        assert raw_refusal(place, other, GET, request) is Reason.NOT_FOUND


def test_a_message_too_large_is_refused(client: ForceClient, place: Place) -> None:
    request = broker_pb.CreateSearchRequest(officer_token="x" * (3 * 2**20))
    raw = request.SerializeToString()
    assert raw_refusal(place, FORCE, CREATE, raw) is Reason.MESSAGE_TOO_LARGE
    large = agency_pb.MatchRequest(dossier=b"x" * (3 * 2**20)).SerializeToString()
    reason = raw_refusal(place, BROKER, MATCH, large, to="custody")
    assert reason is Reason.MESSAGE_TOO_LARGE


def test_a_call_without_a_deadline_is_refused(client: ForceClient, place: Place) -> None:
    request = creating(client, prepared(client, place))
    assert raw_refusal(place, FORCE, CREATE, request, timeout=None) is Reason.DEADLINE_MISSING
    assert raw_refusal(place, FORCE, CREATE, request, timeout=3600) is Reason.DEADLINE_MISSING


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f"])
def test_bytes_that_are_no_request_are_refused_by_reason(
    client: ForceClient, place: Place, garbage: bytes
) -> None:
    for caller, method, to in ((FORCE, CREATE, BROKER), (BROKER, MATCH, "custody")):
        reason = raw_refusal(place, caller, method, garbage, to=to)
        assert reason.entry.status.value == "INVALID_ARGUMENT" or reason in {
            Reason.GRANT_INVALID,
            Reason.KEY_UNKNOWN,
        }


def test_peers_that_do_not_even_speak_tls_are_no_concern_of_others(
    client: ForceClient, place: Place, federation: Processes
) -> None:
    for address in federation.endpoints.values():
        host, _, port = address.rpartition(":")
        for greeting in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0" * 99,
        ):
            with socket.create_connection((host, int(port)), timeout=5) as stranger:
                stranger.sendall(greeting)
    view = search(client, place, agencies=("custody",)).view
    assert view.outcomes[0].state is OutcomeState.CANDIDATES


# --- what the servers made of it ------------------------------------------------------------------


def test_zz_no_server_wrote_a_traceback_or_called_anything_unexpected(
    client: ForceClient, place: Place, federation: Processes
) -> None:
    for member in federation.servers:
        said = place.output(member).read_text()
        assert federation.running(member)
        for word in ("Traceback", "INTERNAL", "UNEXPECTED", '"unexpected"', *PERSONAL):
            assert word not in said, f"{member}: {word}: {said[-2000:]}"
