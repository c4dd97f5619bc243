"""Promise 2: the broker is blind. Its memory, its disk and its output are searched for secrets.

The force really searches; the scanner proves on other processes and files that it finds what is
there. Adapters do see the probe, for one match; what the log of anybody says is nobody's name.
"""

from __future__ import annotations

import base64
import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agency_adapters.state import AdapterState
from agency_adapters.tables import open_engine
from audit.reader import LogReader
from deploy.local.demo import AUTHORISER, LOGS, OFFICER, ROBBERY
from deploy.local.place import AGENCIES, BROKER, FORCES, Place
from deploy.local.processes import Processes
from force_client import ForceClient
from force_client.probes import load_salt_key, salted
from tests.forces import Sent, search, settings_of
from tests.memory import Secrets, files_under, leaks, memory_of
from trust.ceremony import Scheme
from trust.link_keys import read_kept
from trust.messages import OutcomeState

PROBES = ("suspect-good", "suspect-fair", "suspect-poor", "cleared", "missing")
_TELLING = re.compile(r"\d.*\d.*\d")
"""Values with a few digits: dates of birth, document numbers, file references."""
PEOPLE_AND_CASE = (OFFICER, AUTHORISER, ROBBERY.case_reference, ROBBERY.necessity)


@dataclass(frozen=True, slots=True)
class Searched:
    """Several searches that were really made, and everything about them that is secret."""

    sent: tuple[Sent, ...]
    found: dict[str, set[str]]
    """Record ids found, by agency."""
    biometrics: Secrets
    records: Secrets
    keys: Secrets

    @property
    def everything(self) -> Secrets:
        """All of it."""
        parts = (self.biometrics, self.records, self.keys)
        return Secrets(
            {window: name for part in parts for window, name in part.windows.items()},
            {word: name for part in parts for word, name in part.words.items()},
        )


@pytest.fixture(scope="module")
def searched(place: Place, federation: Processes) -> Iterator[Searched]:
    federation.start()
    with ForceClient(settings_of(place)) as client:
        sent = tuple(search(client, place, name) for name in PROBES)
        found = {agency: _records(place, agency, sent) for agency in AGENCIES}
        yield Searched(sent, found, _biometrics(place, sent), _facts(place, found), _keys(place))


def _records(place: Place, agency: str, sent: tuple[Sent, ...]) -> set[str]:
    state = AdapterState(open_engine(place.state(agency)))
    try:
        resolved = [state.resolve(search_id=one.view.search_id) for one in sent]
    finally:
        state.engine.dispose()
    return {record.record_id for rows in resolved for _, record in rows}


def _biometrics(place: Place, sent: tuple[Sent, ...]) -> Secrets:
    secrets = Secrets()
    salt_key = load_salt_key(settings_of(place).salt_key)
    secrets.add_binary("the force's salt key", salt_key)
    for one in sent:
        template = one.probe.template
        secrets.add_binary("a template", template)
        secrets.add_binary("a salt", salted(one.probe, salt_key).salt)
        head = template[:48]
        secrets.add_words("a template as text", (head.hex(), base64.b64encode(head).decode()))
    return secrets


def _facts(place: Place, found: dict[str, set[str]]) -> Secrets:
    secrets = Secrets()
    for agency, record_ids in found.items():
        with (place.sources / agency / "records.csv").open() as rows:
            for row in csv.DictReader(rows):
                if row["record_id"] in record_ids:
                    values = [value for value in row.values() if _TELLING.search(value or "")]
                    secrets.add_words(f"{agency}'s record", values)
        secrets.add_words("record id", record_ids)
    return secrets


def _keys(place: Place) -> Secrets:
    secrets = Secrets()
    scheme = Scheme.open(place.scheme)
    for member in (*AGENCIES, *FORCES):
        pem = scheme.member_folder(member).seal_key.read_bytes()
        private = load_pem_private_key(pem, None)
        assert isinstance(private, X25519PrivateKey)
        secrets.add_binary(f"{member}'s sealing key", private.private_bytes_raw())
        secrets.add_words(f"{member}'s key file", [pem.decode().splitlines()[1]])
    for one in read_kept((scheme.folder / "authority" / "link-keys.json").read_bytes()):
        # Without it nobody can try names through against the tokens that the broker sees.
        key = base64.b64decode(one.key)
        secrets.add_binary("the agencies' link key", key)
        secrets.add_words("the agencies' link key", [one.key, key.hex()])
    return secrets


def test_the_searches_found_people_and_one_agency_holds_its_answer(searched: Searched) -> None:
    states = {one.agency: one.state for one in searched.sent[0].view.outcomes}
    assert states["custody"] is OutcomeState.CANDIDATES
    assert states["asylum"] is OutcomeState.HELD
    assert all(one.view.verified for one in searched.sent)
    assert searched.found["custody"]
    assert searched.found["passport"]
    assert len(searched.biometrics.windows) > 500 * len(PROBES)
    assert len(searched.records.words) > 10


def test_the_suspect_is_one_group_at_the_agencies_that_hold_them(searched: Searched) -> None:
    view = searched.sent[0].view
    held_by = [{one.agency for one in group.candidates} for group in view.groups]
    assert any({"custody", "passport"} <= agencies for agencies in held_by), held_by


def test_the_scanner_finds_what_is_there(
    searched: Searched, place: Place, federation: Processes
) -> None:
    # The force's own process, this one, holds the templates; the adapter's files, what it found.
    assert "a template" in searched.biometrics.found_in(memory_of(os.getpid()))
    in_files = searched.records.found_in(files_under(place.state("custody")))
    assert {f"record id {one!r}" for one in searched.found["custody"]} <= in_files
    adapter = federation.pid("custody")
    assert adapter is not None
    assert "custody's sealing key" in searched.keys.found_in(memory_of(adapter))


def test_the_scanner_sees_what_the_broker_does_know(
    searched: Searched, place: Place, federation: Processes
) -> None:
    known = Secrets()
    last = searched.sent[-1]
    known.add_words("search id", [last.view.search_id])
    known.add_binary("an order's digest", last.prepared.order.sha256)
    known.add_binary("a sealed probe", last.prepared.probes[0].ciphertext)
    pid = federation.pid(BROKER)
    assert pid is not None
    in_memory = known.found_in(memory_of(pid))
    assert f"search id {last.view.search_id!r}" in in_memory
    assert "an order's digest" in in_memory
    in_files = known.found_in(files_under(place.state(BROKER), place.logs(BROKER)))
    assert f"search id {last.view.search_id!r}" in in_files


def test_the_brokers_memory_and_disk_hold_no_template_no_salt_no_record_and_no_key(
    searched: Searched, place: Place, federation: Processes
) -> None:
    pid = federation.pid(BROKER)
    assert pid is not None
    places = {
        "memory": memory_of(pid),
        "state": files_under(place.state(BROKER)),
        "logs": files_under(place.logs(BROKER)),
        "member folder": files_under(Scheme.open(place.scheme).member_folder(BROKER).path),
        "output": [place.output(BROKER).read_bytes()],
    }
    assert leaks(searched.everything, places) == {}


@pytest.mark.parametrize("member", [BROKER, *AGENCIES])
def test_no_published_log_says_who_asked_who_was_found_or_what_they_look_like(
    searched: Searched, place: Place, member: str
) -> None:
    secrets = searched.everything
    secrets.add_words("a person or the case", PEOPLE_AND_CASE)
    leaves = [leaf for log in LOGS for _, leaf in LogReader(place.logs(member) / log).leaves()]
    assert leaves
    where = {"leaves": leaves, "files": files_under(place.logs(member))}
    assert leaks(secrets, where) == {}


@pytest.mark.parametrize("member", [BROKER, *AGENCIES])
def test_no_process_writes_anything_personal_to_its_output(
    searched: Searched, place: Place, member: str
) -> None:
    secrets = searched.everything
    secrets.add_words("a person or the case", PEOPLE_AND_CASE)
    assert leaks(secrets, {"output": [place.output(member).read_bytes()]}) == {}


@pytest.mark.parametrize("agency", ["custody", "pnd", "passport"])
def test_what_an_adapter_worked_on_is_wiped(
    searched: Searched, federation: Processes, agency: str
) -> None:
    """The matcher's own arrays are; bytes of libraries' (HPKE, protobuf) cannot be, in Python."""
    worked_on = Secrets()
    for one in searched.sent:
        wide = np.frombuffer(one.probe.template, "<f4").astype(np.float64)
        unit = wide / np.sqrt(np.dot(wide, wide))
        for form in (wide, unit):
            # From the upper halves on: the lower ones of a widened float32 are nearly all zeros.
            worked_on.add_binary("a widened template", form.tobytes()[4:], step=8)
    pid = federation.pid(agency)
    assert pid is not None
    assert leaks(worked_on, {"memory": memory_of(pid)}) == {}


def test_an_adapters_disk_holds_no_probe(searched: Searched, place: Place) -> None:
    for agency in AGENCIES:
        folders = files_under(place.state(agency), place.logs(agency))
        assert leaks(searched.biometrics, {agency: folders}) == {}
