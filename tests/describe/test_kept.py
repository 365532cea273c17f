"""What is kept: whole, once, by several writers, and never a key."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from attn.describe.chat import FakeModel
from attn.describe.describe import Description, Options, describe, draft, own
from attn.describe.store import Descriptions, place
from attn.describe.trial import Plan, trial
from attn.errors import DescriptionStoreError
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.manifest import verify
from tests.describe.test_describe import talk

HEAD = HeadId(1, 2)


@pytest.fixture
def kept(tiny_index: Index) -> Descriptions:
    return Descriptions(tiny_index)


@pytest.fixture
def made(tiny_index: Index) -> Description:
    return describe(tiny_index, draft(tiny_index, HEAD), FakeModel(talk))


def test_there_and_back(kept: Descriptions, made: Description, tiny_index: Index) -> None:
    mine = own(tiny_index, HEAD, "My guess.\nWith “quotes” and \x00.")
    for one in (made, mine):
        kept.add(one)
        kept.add(one)
    assert kept.of(HeadId(0, 0)) == []
    report = trial(tiny_index, mine, FakeModel(talk), kept, Plan(4))  # describes another head
    assert {one.id: one for one in kept.of(HEAD)} == {made.id: made, mine.id: mine}
    assert kept.reports(mine) == [report]
    assert kept.reports(made) == []


def test_nothing_is_written_by_reading(kept: Descriptions) -> None:
    assert kept.of(HEAD) == []
    assert list(kept.export()) == []
    assert not kept.path.exists()


def test_the_file_is_beside_the_index_not_in_it(
    kept: Descriptions, made: Description, tiny_index: Index
) -> None:
    kept.add(made)
    assert kept.path == place(tiny_index)
    assert kept.path.parent == tiny_index.path.parent
    verify(tiny_index.path)


def test_the_newest_first(kept: Descriptions, made: Description) -> None:
    for year in (2001, 2003, 2002):
        kept.add(replace(made, id=str(year), created=f"{year}-01-01T00:00:00+00:00"))
    assert [one.id for one in kept.of(HEAD)] == ["2003", "2002", "2001"]


def test_export_and_import(
    kept: Descriptions, made: Description, tiny_index: Index, tmp_path: Path
) -> None:
    kept.add(made)
    report = trial(tiny_index, made, FakeModel(talk), kept, Plan(4))
    lines = list(kept.export())
    assert len(lines) == len(kept.all())
    kept.path.unlink()
    assert kept.take(iter([*lines, "", *lines])) == len(lines)
    assert kept.take(iter(lines)) == 0
    assert made in kept.of(HEAD)
    assert kept.reports(made) == [report]
    assert list(kept.export()) == lines


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"head": "nowhere"},
        {"text": 5},
        {"text": ""},
        {"evidence": 3},
        {"extra": 1},
        {"reports": [{}]},
        {"options": {"samples": "many"}},
    ],
)
def test_a_bad_line_imports_nothing(
    kept: Descriptions, made: Description, change: dict[str, object]
) -> None:
    kept.add(made)
    (line,) = kept.export()
    kept.path.unlink()
    bad = json.dumps(json.loads(line) | change)
    with pytest.raises(DescriptionStoreError, match="Line 2 is no description"):
        kept.take(iter([line, bad]))
    assert kept.all() == []


def test_lines_of_no_object(kept: Descriptions) -> None:
    for line in ("[]", "5", "{", "null"):
        with pytest.raises(DescriptionStoreError, match="Line 1"):
            kept.take(iter([line]))


def test_another_indexs_description_is_refused(kept: Descriptions, made: Description) -> None:
    with pytest.raises(DescriptionStoreError, match="belongs to the index 123456789012"):
        kept.add(replace(made, index="1234567890123456"))


def test_a_file_of_another_version(kept: Descriptions, made: Description) -> None:
    with sqlite3.connect(kept.path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(DescriptionStoreError, match="has version 7, this one reads 1"):
        kept.add(made)


def test_a_file_that_is_no_database(kept: Descriptions, made: Description) -> None:
    kept.path.write_bytes(b"something else " * 1000)
    with pytest.raises(DescriptionStoreError, match="move it away"):
        kept.add(made)


def _write(folder: Path, number: int) -> None:
    index = Index.open(folder)
    kept = Descriptions(index)
    answers = kept.answers()
    for i in range(25):
        one = own(index, HEAD, f"guess {number} {i}")
        kept.add(replace(one, options=Options()))
        answers[f"{number} {i}"] = {"said": [1.0], "graded": False}


def test_several_writers_at_once(tiny_index: Index, kept: Descriptions) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write, args=(tiny_index.path, number)) for number in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    assert {one.text for one in kept.of(HEAD)} == {
        f"guess {number} {i}" for number in range(4) for i in range(25)
    }
    assert len(kept.answers()) == 100


def test_answers_are_a_mapping(kept: Descriptions) -> None:
    answers = kept.answers()
    assert "a" not in answers
    answers["a"] = {"said": [None, 1.0], "graded": True}
    assert answers["a"] == {"said": [None, 1.0], "graded": True}
    del answers["a"]
    assert dict(answers) == {}
