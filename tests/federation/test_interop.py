"""Another party's client, in another language, with nothing but the protos and a certificate.

It must run in CI; elsewhere it runs where Node is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from deploy.local.demo import FORCE
from deploy.local.place import AGENCIES, BROKER, Place
from deploy.local.processes import Processes
from force_client import ForceClient, SearchView
from force_client.wire import preview_request
from tests.forces import Sent, search, settings_of
from tests.interop.node import NodeClientError, node_available, run_node_client
from trust.ceremony import Scheme


def read_by_node(place: Place, sent: Sent, folder: Path, key_of: str = BROKER) -> dict[str, Any]:
    """Let the Node client read one of the force's searches, trusting a member's signing key."""
    order = folder / "order.json"
    wire_order = preview_request(sent.prepared.order.order).order
    order.write_text(json_format.MessageToJson(wire_order))
    scheme = Scheme.open(place.scheme)
    own, broker = scheme.member_folder(FORCE), scheme.member_folder(BROKER).member()
    return run_node_client(
        address=broker.endpoint or "",
        server_name=broker.server_name or "",
        ca=place.scheme / "ca.pem",
        cert=own.tls_cert,
        key=own.tls_key,
        search_id=sent.view.search_id,
        order=order,
        broker_key=scheme.member_folder(key_of).signer().public_key,
    )


Read = tuple[SearchView, dict[str, Any] | None]


@pytest.fixture(scope="module")
def read(place: Place, federation: Processes, tmp_path_factory: pytest.TempPathFactory) -> Read:
    """A search of ours, and what the Node client makes of it where there is one."""
    federation.start()
    with ForceClient(settings_of(place)) as client:
        sent = search(client, place)
    if not node_available():
        return sent.view, None
    return sent.view, read_by_node(place, sent, tmp_path_factory.mktemp("interop"))


def test_a_stranger_lists_previews_reads_watches_and_verifies(
    read: Read,
) -> None:
    view, printed = read
    if printed is None:  # no Node here; under CI that is an error above
        return
    assert printed["health"] == "SERVING"
    assert printed["listed"] is True
    assert printed["search"]["search_id"] == view.search_id
    assert printed["search"]["state"] == "SEARCH_STATE_FINISHED"
    assert printed["watched"] == {"answers": len(AGENCIES), "state": "SEARCH_STATE_FINISHED"}
    assert {one["agency"] for one in printed["preview"]["decisions"]} == set(AGENCIES)
    permitted = {one["agency"]: one["permitted"] for one in printed["preview"]["decisions"]}
    assert permitted == {one.agency: one.permitted for one in view.decisions}
    assert printed["proof"]["result_signature"] is True
    assert printed["proof"]["changed_result_refused"] is True
    assert printed["receipt"] == view.receipt


def test_it_reads_the_same_outcomes_as_our_own_client(
    read: Read,
) -> None:
    view, printed = read
    if printed is None:
        return
    states = {one["agency"]: one["state"] for one in printed["result"]["outcomes"]}
    assert states == {one.agency: f"OUTCOME_STATE_{one.state.name}" for one in view.outcomes}
    counts = {one["agency"]: one["candidates"] for one in printed["proof"]["reports"]}
    assert counts == {one.agency: len(one.candidates) for one in view.outcomes}
    assert view.order_sha256.hex() in json.dumps(printed["result"])


def test_it_fails_with_one_line_when_the_key_is_not_the_brokers(
    place: Place, federation: Processes, tmp_path: Path
) -> None:
    if not node_available():
        return
    with ForceClient(settings_of(place)) as client:
        sent = search(client, place, agencies=("custody",))
    with pytest.raises(NodeClientError, match="signature does not verify"):
        read_by_node(place, sent, tmp_path, key_of="custody")
