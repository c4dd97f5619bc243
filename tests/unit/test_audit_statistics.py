"""Statistics count what logs hold, and nothing published gives a small number back."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from audit.publication import TOTAL, Publication, by_first_word
from audit.statistics import Statistics, Tally
from audit.statistics_page import page
from audit.statistics_tables import ROUTES
from audit.suppression import HIDDEN, LEAST_LIMIT, CountTable, Published, hidden_parts, publish
from cli.audit import app
from tests.logs import MadeLog
from tests.population import START, Entry, Population, order, result
from tests.scale import scaled
from trust.errors import ProbegateError, Reason

ROW, COLUMN = "row", "column"
COLUMNS = 80


def counted(entries: list[Entry], log: str = "broker.example/search", **days: str) -> Statistics:
    tally = Tally(**days)
    tally.feed(log, enumerate(entries))
    return tally.done()


def counts(found: Statistics, name: str) -> dict[tuple[str, str], int]:
    tables = [table for table in found.tables if table.name == name]
    return dict(tables[0].counts) if tables else {}


def made(rows: int, columns: int, numbers: tuple[int, ...], **more: Any) -> CountTable:
    names = [(f"{ROW}{r}", f"{COLUMN}{c}") for r in range(rows) for c in range(columns)]
    cells = {place: number for place, number in zip(names, numbers, strict=True) if number}
    every = tuple(f"{COLUMN}{c}" for c in range(columns))
    return CountTable("made", "Made", ROW, cells, every, **more)


def sharing(places: int, most: int) -> Iterator[tuple[int, ...]]:
    """Every way to share out at most so many."""
    if not places:
        yield ()
        return
    for first in range(most + 1):
        for rest in sharing(places - 1, most - first):
            yield (first, *rest)


# Every table of a shape with a total up to so many is published. Whoever sees one, and knows the
# rule by heart, can rule out all tables that are published otherwise. A hidden number is safe if
# those left still disagree about it.
SHAPES = [(1, 3, 5, 14), (1, 4, 4, 12), (1, 5, 4, 11), (2, 2, 5, 14), (2, 3, 4, 9), (3, 2, 4, 9)]


@pytest.mark.parametrize(("rows", "columns", "below", "most"), SHAPES)
def test_nothing_published_determines_a_hidden_number(
    rows: int, columns: int, below: int, most: int
) -> None:
    alike: dict[Published, list[tuple[int, ...]]] = defaultdict(list)
    for numbers in sharing(rows * columns, scaled(most, most + 2)):
        alike[publish([made(rows, columns, numbers)], below)[0]].append(numbers)
    for published, tables in alike.items():
        shown = {(row, column): number for row, column, number in published.numbers()}
        for at in range(rows * columns):
            place = f"{ROW}{at // columns}", f"{COLUMN}{at % columns}"
            if shown.get(place, 0) is None:
                assert len({numbers[at] for numbers in tables}) > 1, (published, tables)
        for row in range(rows):
            if shown.get((f"{ROW}{row}", ""), 0) is None:
                sums = {sum(numbers[row * columns : (row + 1) * columns]) for numbers in tables}
                assert len(sums) > 1, (published, tables)


def test_tables_of_one_kin_do_not_give_each_other_away() -> None:
    """Two tables that share out the same two totals differently, as forces and routes do."""
    alike: dict[tuple[Published, ...], list[tuple[int, ...]]] = defaultdict(list)
    for numbers in sharing(4, scaled(10, 15)):
        totals = sum(numbers[:2]), sum(numbers[2:])
        for parts in ((a, b) for a in range(totals[0] + 1) for b in range(totals[1] + 1)):
            other = (parts[0], totals[0] - parts[0], parts[1], totals[1] - parts[1])
            kin = [
                CountTable(
                    name, name, ROW, made(2, 2, cells).counts, ("column0", "column1"), kin=ROW
                )
                for name, cells in (("one", numbers), ("other", other))
            ]
            alike[publish(kin, 4)].append((*numbers, *other))
    for published, tables in alike.items():
        for which, table in enumerate(published):
            shown = {(row, column): number for row, column, number in table.numbers()}
            for at in range(4):
                if shown.get((f"{ROW}{at // 2}", f"{COLUMN}{at % 2}"), 0) is None:
                    assert len({numbers[which * 4 + at] for numbers in tables}) > 1


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(LEAST_LIMIT, 12))
def test_what_is_hidden_of_a_sum_is_neither_alone_nor_small(parts: list[int], below: int) -> None:
    hidden = hidden_parts(parts, below)
    small = {at for at, part in enumerate(parts) if 0 < part < below}
    if hidden is None:
        assert not [part for part in parts if part >= below]  # nothing was left to hide
        return
    assert small <= hidden
    assert all(parts[at] for at in hidden)  # nought is nobody's
    if hidden:
        assert len(hidden) >= 2
        assert sum(parts[at] for at in hidden) >= below


@settings(max_examples=scaled(150, 3000))
@given(st.data())
def test_totals_are_the_sums_of_what_is_shown(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    number = st.one_of(st.integers(0, 9), st.integers(0, 400))
    numbers = data.draw(st.tuples(*[number] * (rows * columns)))
    below = data.draw(st.sampled_from((0, 4, 5, 10)))
    table = made(rows, columns, numbers)
    published = publish([table], below)[0]
    for line in published.lines:
        exact = table.line(line.label)
        assert all(a in {None, b} for a, b in zip(line.cells, exact, strict=True))
        assert line.total in {None, sum(exact)}
        assert all(number is None or not 0 < number < below for number in line.cells)
        if line.total is not None and None not in line.cells:
            assert line.total == sum(number or 0 for number in line.cells)
    assert published.total in {None, sum(numbers)}
    for at, total in enumerate(published.column_totals):
        column = [line.cells[at] for line in published.lines]
        assert total == (None if None in column else sum(number or 0 for number in column))
    if not below:
        assert None not in [number for _, _, number in published.numbers()]


@pytest.mark.parametrize("below", range(1, LEAST_LIMIT))
def test_a_limit_that_protects_nothing_is_refused(below: int) -> None:
    with pytest.raises(ValueError, match="protects nothing"):
        publish([], below)


def test_what_tells_of_a_hidden_number_is_hidden_too() -> None:
    """Denials of a month are few: the clauses that failed would say how many."""
    entries = []
    for number in range(60):
        at = START + timedelta(days=40 * (number % 2))
        denied = number in {0, 2}  # both in January
        clauses = {"passport": ("passport.rank",)} if denied else {}
        entries.append(order(number, at, agencies=("passport",), denied=clauses))
        state = "denied:CLAUSE_FAILED" if denied else "candidates"
        entries.append(result(number, at, {"passport": state}))
    found = Publication.of(counted(entries))
    answers, clauses_table = found.table("answers"), found.table("clauses")
    assert answers is not None
    assert clauses_table is not None
    assert answers.lines[0].cells == (None, None)  # 28 and 2 of 30
    assert clauses_table.lines[0].cells == (None,)


def hand_made() -> list[Entry]:
    """Six searches: two forces, two months, one urgent and late, two held, one ended anew twice.

    What one agency found in the first, and in the one that ended anew, was erased since.
    """
    january, february = START, START + timedelta(days=30)
    return [
        order(1, january, "northshire"),
        result(1, january, {"custody": "candidates", "passport": "denied:CLAUSE_FAILED"}),
        order(2, january, "northshire", denied={"passport": ("a.rank", "a.aim")}),
        result(2, january, {"custody": "no_candidate", "passport": "denied:CLAUSE_FAILED"}),
        order(3, january, "southshire", urgent=True),
        result(3, january, {"custody": "held", "passport": "held"}),
        order(4, february, "southshire", urgent=True),
        result(4, february, {"custody": "held", "passport": "timed_out"}),
        order(5, february, "southshire", urgent=True),
        order(6, february, "southshire", urgent=True),
        {
            "v": 1,
            "type": "search.confirmed",
            "search_id": "search-000004",
            "at": february.isoformat(),
            "late": False,
        },
        *(
            {
                "v": 1,
                "type": "search.unconfirmed",
                "search_id": f"search-00000{number}",
                "agency": agency,
                "at": february.isoformat(),
            }
            for number in (3, 5)
            for agency in ("custody", "passport")
        ),
        {
            "v": 1,
            "type": "search.confirmed",
            "search_id": "search-000003",
            "at": february.isoformat(),
            "late": True,
        },
        result(3, february, {"custody": "candidates", "passport": "held"}, revision=1),
        result(
            3, february, {"custody": "candidates", "passport": "denied:OWNER_REFUSED"}, revision=2
        ),
        result(
            1,
            february,
            {"custody": "candidates", "passport": "denied:CLAUSE_FAILED"},
            revision=1,
            erased=("custody",),
        ),
        result(
            3,
            february,
            {"custody": "candidates", "passport": "denied:OWNER_REFUSED"},
            revision=3,
            erased=("custody",),
        ),
    ]


def test_counts_by_hand() -> None:
    found = counted(hand_made())
    assert counts(found, "searches") == {
        ("2026-01", "northshire"): 2,
        ("2026-01", "southshire"): 1,
        ("2026-02", "southshire"): 3,
    }
    assert counts(found, "routes") == {
        ("2026-01", ROUTES[0]): 2,
        ("2026-01", ROUTES[2]): 1,
        ("2026-02", ROUTES[1]): 1,
        ("2026-02", ROUTES[3]): 1,
        ("2026-02", ROUTES[4]): 1,
    }
    assert counts(found, "answers") == {
        ("custody 2026-01", "candidates"): 1,
        ("custody 2026-01", "no_candidate"): 1,
        ("custody 2026-01", "held, released"): 1,
        ("custody 2026-02", "held, waiting"): 1,
        ("passport 2026-01", "denied, CLAUSE_FAILED"): 2,
        ("passport 2026-01", "held, refused"): 1,
        ("passport 2026-02", "timed_out"): 1,
    }
    assert counts(found, "clauses") == {("passport", "a.rank"): 1, ("passport", "a.aim"): 1}
    assert counts(found, "anew") == {("all searches", "ended anew"): 2}
    assert found.not_recorded == ("reviews", "false matches", "recalls")
    assert (found.first, found.last, found.entries) == ("2026-01-05", "2026-02-04", 20)


def test_a_period_counts_its_days_only() -> None:
    found = counted(hand_made(), since="2026-02-01", until="2026-03-01")
    assert counts(found, "searches") == {("2026-02", "southshire"): 3}
    # Held before the period: it is known only that the search ended anew.
    assert ("custody 2026-02", "held, released") not in counts(found, "answers")


@settings(max_examples=scaled(25, 300), deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_entries_does_not_matter(seed: int) -> None:
    entries = hand_made() + Population(seed, _number=1000).live(6).entries
    shuffled = entries.copy()
    random.Random(seed).shuffle(shuffled)
    assert counted(shuffled) == counted(entries)


def agency_entries() -> list[Entry]:
    def report(number: int, state: str, **more: Any) -> Entry:
        said = {"v": 1, "type": "match.report", "at": START.isoformat(), "reason": ""}
        return said | {"search_id": f"search-{number}", "state": state} | more

    held = {"held_report_sha256": "ab" * 32}
    return [
        report(1, "candidates"),
        report(2, "held"),
        report(2, "candidates", **held),
        report(3, "held"),
        report(3, "denied", reason="OWNER_REFUSED", **held),
        {"v": 1, "type": "held.overdue", "at": START.isoformat(), "search_id": "search-3"},
        {"v": 1, "type": "match.refused", "at": START.isoformat(), "reason": "LOG_PROOF_INVALID"},
    ]


def test_an_agencys_log_is_counted_alone_and_not_beside_the_brokers() -> None:
    origin = "custody.example/search"
    found = counted(agency_entries(), origin)
    assert counts(found, "reports") == {
        (f"{origin} 2026-01", "candidates"): 1,
        (f"{origin} 2026-01", "held"): 2,
    }
    assert counts(found, "agency") == {
        (origin, "held, released"): 1,
        (origin, "held, refused"): 1,
        (origin, "held.overdue"): 1,
        (origin, "not proved: LOG_PROOF_INVALID"): 1,
    }
    tally = Tally()
    tally.feed(origin, enumerate(agency_entries()))
    tally.feed("broker.example/search", enumerate(hand_made()))
    both = tally.done()
    assert not counts(both, "reports")
    assert both.agencies_left_out
    assert any("not counted beside" in note for note in Publication.of(both).notes)


def test_what_was_administered_is_counted_by_purpose_and_only_persons_are_protected() -> None:
    at = START.isoformat()
    entries: list[Entry] = [
        {"v": 1, "type": "switch.off", "at": at, "switch": "agency:nhs", "reference": "INC/1"},
        *({"v": 1, "type": "log.read", "at": at, "purpose": "lawfulness"} for _ in range(7)),
        *({"v": 1, "type": "values.erased", "at": at, "log": "search"} for _ in range(6)),
        {"v": 1, "type": "recall.ordered", "at": at},
    ]
    origin = "broker.example/admin"
    found = counted(entries, origin)
    assert counts(found, "admin") == {(origin, "switch.off"): 1}
    assert counts(found, "personal") == {
        (origin, "log.read, lawfulness"): 7,
        (origin, "values.erased"): 6,
        (origin, "recall.ordered"): 1,
    }
    assert found.not_recorded == ("reviews", "false matches", "recalls")
    published = Publication.of(found)
    shown = {table.name: [line.cells for line in table.lines] for table in published.tables}
    assert shown == {"admin": [(1,)], "personal": [(7, None, None)]}


def second_step() -> list[Entry]:
    """Three searches reviewed, one of them twice; four requests; a wrong match and its recall."""

    def said(kind: str, at: str, **more: Any) -> Entry:
        return {"v": 1, "type": kind, "at": f"{at}T09:00:00.000000Z"} | more

    def settled(search: str, at: str, found: int, *, disagreement: bool = False) -> Entry:
        counts = {"potential_candidate": found, "no_candidate": 1, "inconclusive": 0}
        more = {"search_id": search, "counts": counts, "disagreement": disagreement}
        return said("review.settled", at, **more)

    def request(kind: str, digest: str, at: str, **more: Any) -> Entry:
        return said(f"disclosure.{kind}", at, agency="custody", request_sha256=digest, **more)

    return [
        said("review.recorded", "2026-01-05", search_id="one"),
        settled("one", "2026-01-05", 1),
        settled("one", "2026-02-05", 0, disagreement=True),  # a reviewer was revoked since
        settled("two", "2026-01-06", 2),
        settled("three", "2026-01-07", 0),
        request("requested", "a", "2026-01-08"),
        request("decided", "a", "2026-02-09", state="released", reason=""),
        request("requested", "b", "2026-01-08"),
        request("decided", "b", "2026-01-09", state="refused", reason="OWNER_REFUSED"),
        request("requested", "c", "2026-01-08"),
        request("lapsed", "c", "2026-01-12"),
        request("requested", "d", "2026-02-08"),
        request("refused", "e", "2026-02-08", reason="REVIEW_MISSING"),
        said("match.wrong", "2026-02-10", agency="custody"),
        said("recall.received", "2026-02-11", agency="custody", recall_id="r1"),
        said("recall.received", "2026-02-11", agency="pnd", recall_id="r2"),
        said("recall.acknowledged", "2026-02-12", recall_id="r1"),
    ]


@settings(max_examples=scaled(25, 300), deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_follows_a_search_is_counted_in_whatever_order_it_comes(order: random.Random) -> None:
    entries = second_step()
    order.shuffle(entries)
    found = counted(entries)
    assert counts(found, "reviews") == {
        ("2026-01", "with a potential candidate"): 1,
        ("2026-01", "without one"): 1,
        ("2026-02", "without one"): 1,
    }
    assert counts(found, "thirds") == {("2026-02", "took another reviewer"): 1}
    assert counts(found, "disclosures") == {
        ("custody 2026-01", "released"): 1,
        ("custody 2026-01", "refused, OWNER_REFUSED"): 1,
        ("custody 2026-01", "not decided in time"): 1,
        ("custody 2026-02", "waiting"): 1,
        ("custody 2026-02", "refused, REVIEW_MISSING"): 1,
    }
    assert counts(found, "wrong") == {
        ("custody", "wrong matches reported"): 1,
        ("custody", "recalls"): 1,
        ("custody", "recalls acknowledged"): 1,
        ("pnd", "recalls"): 1,
    }
    assert not found.not_recorded


@pytest.mark.parametrize(
    "entry",
    [
        {"v": 1, "at": "2026-01-05"},
        {"v": 1, "type": "search.order", "at": "2026-01-05"},
        {"v": 1, "type": "search.result", "at": "2026-01-05", "search_id": "s", "outcomes": 3},
        {"v": 1, "type": "switch.off", "at": None},
    ],
)
def test_an_entry_that_is_not_of_its_type_is_a_corrupt_log(entry: Entry) -> None:
    with pytest.raises(ProbegateError) as caught:
        counted([entry])
    assert caught.value.reason is Reason.LOG_CORRUPT


@settings(max_examples=scaled(15, 200), deadline=None)
@given(st.integers(0, 10_000), st.sampled_from((0, 5, 10)))
def test_csv_and_json_say_the_same(seed: int, below: int) -> None:
    found = Publication.of(counted(Population(seed).live(20).entries), below=below)
    from_csv = {
        (line["table"], line["row"], line["column"]): line["count"]
        for line in csv.DictReader(io.StringIO(found.csv()))
    }
    from_json = {}
    for table in json.loads(json.dumps(found.document()))["tables"]:
        for row in table["rows"]:
            for column, number in zip(table["columns"], row["counts"], strict=True):
                from_json[table["name"], row["row"], column] = number
            if "total" in row:
                from_json[table["name"], row["row"], TOTAL] = row["total"]
        if "total" in table:
            for column, number in zip(table["columns"], table["column_totals"], strict=True):
                from_json[table["name"], TOTAL, column] = number
            from_json[table["name"], TOTAL, TOTAL] = table["total"]
    said = {place: HIDDEN if one is None else str(one) for place, one in from_json.items()}
    assert said == from_csv


def test_an_agencys_sum_over_months_is_shown_only_if_every_month_is() -> None:
    found = Publication.of(counted(Population(1).live(60).entries))
    answers = found.table("answers")
    assert answers is not None
    for line in by_first_word(answers).lines:
        months = [one for one in answers.lines if one.label.startswith(f"{line.label} ")]
        assert len(months) > 1
        for at, number in enumerate(line.cells):
            cells = [one.cells[at] for one in months]
            assert number == (None if None in cells else sum(cell or 0 for cell in cells))


class References(HTMLParser):
    """Collects whatever a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}:
                self.found.append((tag, name, value))
            if name.startswith("on"):
                self.found.append((tag, name, value))


def test_the_page_is_one_file_that_fetches_and_runs_nothing() -> None:
    html = page(Publication.of(counted(Population(2).live(60).entries)))
    seen = References()
    seen.feed(html)
    assert seen.found == []
    assert seen.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "img", "base"})
    assert {"svg", "table", "rect"} <= seen.tags
    assert not re.search(r"https?:|@import|url\((?!#hidden\))", html)
    assert "default-src 'none'" in html


def test_another_ones_text_is_only_text() -> None:
    evil = '<script>alert("x")</script>'
    entries = []
    for number in range(20):
        entries += [
            order(number, START, evil),
            result(number, START, {f"=cmd|{evil}": "candidates"}),
        ]
    found = Publication.of(counted(entries))
    html = page(found)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    cells = [line["row"] for line in csv.DictReader(io.StringIO(found.csv()))]
    assert not [cell for cell in cells if cell.startswith("=")]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    made_log = MadeLog(tmp_path / "search", "broker.example/search")
    made_log.write(Population(3).live(30).entries)
    return made_log.folder


def test_the_command_fits_a_narrow_screen_and_writes_what_it_prints(
    log: Path, tmp_path: Path
) -> None:
    shown = CliRunner().invoke(app, ["stats", str(log)])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= COLUMNS
    assert "Not recorded in these logs: reviews, false matches, recalls." in shown.output
    said = CliRunner().invoke(app, ["stats", str(log), "--json", "--from", "2026-01-10"])
    assert json.loads(said.stdout)["from"] == "2026-01-10"
    html, table = tmp_path / "page.html", tmp_path / "table.csv"
    wrote = CliRunner().invoke(app, ["stats", str(log), "--html", str(html), "--csv", str(table)])
    assert wrote.exit_code == 0, wrote.output
    assert html.read_text().startswith("<!doctype html>")
    assert table.read_text().startswith("table,row,column,count\n")


@pytest.mark.parametrize("options", [["--from", "yesterday"], ["--suppress-below", "2"]])
def test_what_cannot_be_understood_is_refused(log: Path, options: list[str]) -> None:
    refused = CliRunner().invoke(app, ["stats", str(log), *options])
    assert refused.exit_code == 1
    assert "USAGE" in refused.output
