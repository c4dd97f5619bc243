"""A bundle of evidence says what the log says, and nothing under another name."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from audit.exporting import Checked, check_bundle, document_of, make_bundle
from audit.notes import VerifierKey
from audit.opening import Wanted, find
from audit.reader import LogReader
from tests.logs import MadeLog
from trust import dsse
from trust.errors import ProbegateError, Reason
from trust.payload_types import PayloadType

PAYLOAD = b"what custody signed"
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
ORDER = {"type": "search.order", "search_id": "one", "order_sha256": "aa" * 32}
OUTCOME = {"agency": "custody", "state": "candidates", "report_sha256": DIGEST}
RESULT = {"type": "search.result", "search_id": "one", "outcomes": [OUTCOME]}


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[dict[str, Any], VerifierKey]:
    log = MadeLog(tmp_path / "log", "broker.example/search")
    log.write([ORDER, RESULT], private=[{"necessity": "He was seen.", "case_reference": "CR/1"}])
    envelope = dsse.Envelope(
        PayloadType.MATCH_REPORT, PAYLOAD, (dsse.Signature("0" * 16, b"s" * 64),)
    )
    report = document_of("report", "one", envelope.to_json(), "custody")
    engine = create_engine(log.database)
    with engine.connect() as connection:
        found = list(
            find(LogReader(log.folder), Wanted(), connection=connection, log="search", erasures={})
        )
        made = make_bundle(log.folder, found, connection, "search", [report])
    engine.dispose()
    return json.loads(made.model_dump_json()), log.vkey


def checked(bundle: dict[str, Any], vkey: VerifierKey) -> Checked:
    return check_bundle(json.dumps(bundle).encode(), vkey)


def test_a_bundle_verifies_with_the_logs_key_alone(
    bundle: tuple[dict[str, Any], VerifierKey],
) -> None:
    found = checked(*bundle)
    assert (found.searches, found.entries, found.values, found.documents) == (("one",), 2, 2, 1)


SPOILERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another kind": lambda b: b["documents"][0].update(kind="order", agency=""),
    "another search": lambda b: b["documents"][0].update(search_id="two"),
    "another agency": lambda b: b["documents"][0].update(agency="nhs"),
    "no agency": lambda b: b["documents"][0].update(agency=""),
    "another type": lambda b: b["documents"][0]["envelope"].update(
        payloadType=PayloadType.SEARCH_ORDER
    ),
    "other searches": lambda b: b.update(searches=["two"]),
    "one search more": lambda b: b.update(searches=["one", "two"]),
    "no search": lambda b: b.update(searches=[]),
    "nothing at all": lambda b: b.update(entries=[], documents=[], searches=[]),
    "a value less": lambda b: b["entries"][0]["values"].pop("necessity"),
}


@pytest.mark.parametrize("spoiled", SPOILERS)
def test_nothing_in_it_is_called_what_the_log_does_not_call_it(
    bundle: tuple[dict[str, Any], VerifierKey], spoiled: str
) -> None:
    whole, vkey = bundle
    bad = copy.deepcopy(whole)
    SPOILERS[spoiled](bad)
    with pytest.raises(ProbegateError) as raised:
        checked(bad, vkey)
    assert raised.value.reason is Reason.EXPORT_INVALID
