"""Keeps descriptions, their scores and a test's answers in one SQLite file beside the index.

    indexes/smollm2-135m_sample_96058edf7fdd/                 the index
    indexes/smollm2-135m_sample_96058edf7fdd.descriptions     this file

Several processes may write at once: each write is one short transaction that waits for its turn.
This module never gets a key.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, MutableMapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attn.describe.describe import Description
from attn.describe.records import description_from, description_record, report_from, report_record
from attn.describe.report import Report
from attn.errors import DescriptionStoreError
from attn.heads import HeadId
from attn.index.index import Index

VERSION = 1
WAIT = 30.0
"""Seconds to wait for other writers."""

_SCHEMA = """
CREATE TABLE description (
    id TEXT PRIMARY KEY, head TEXT NOT NULL, created TEXT NOT NULL, record TEXT NOT NULL
);
CREATE TABLE report (
    id TEXT PRIMARY KEY, description TEXT NOT NULL, created TEXT NOT NULL, record TEXT NOT NULL
);
CREATE TABLE answer (key TEXT PRIMARY KEY, answers TEXT NOT NULL);
CREATE INDEX description_head ON description (head, created);
CREATE INDEX report_description ON report (description, created);
"""


def place(index: Index) -> Path:
    """The file of an index's descriptions."""
    return index.path.with_name(f"{index.path.name}.descriptions")


class Descriptions:
    """The descriptions of one index. Safe to share between threads and processes."""

    def __init__(self, index: Index) -> None:
        self.path, self._identity = place(index), index.manifest.identity

    def add(self, description: Description) -> None:
        """Keep a description; one of the same id stays as it is."""
        self._check_index(description.index)
        values = (description.id, str(description.head), description.created)
        record = json.dumps(description_record(description))
        with self._write() as database:
            database.execute(
                "INSERT OR IGNORE INTO description VALUES (?, ?, ?, ?)", (*values, record)
            )

    def add_report(self, report: Report) -> None:
        """Keep the score of a description."""
        values = (report.id, report.description, report.created)
        with self._write() as database:
            database.execute(
                "INSERT OR IGNORE INTO report VALUES (?, ?, ?, ?)",
                (*values, json.dumps(report_record(report))),
            )

    def of(self, head: HeadId) -> list[Description]:
        """A head's descriptions, the newest first."""
        query = "SELECT record FROM description WHERE head = ? ORDER BY created DESC, rowid DESC"
        return [description_from(json.loads(row[0])) for row in self._read(query, str(head))]

    def all(self) -> list[Description]:
        """Every description, the oldest first."""
        query = "SELECT record FROM description ORDER BY created, rowid"
        return [description_from(json.loads(row[0])) for row in self._read(query)]

    def reports(self, description: Description) -> list[Report]:
        """A description's scores, the newest first."""
        query = "SELECT record FROM report WHERE description = ? ORDER BY created DESC, rowid DESC"
        return [report_from(json.loads(row[0])) for row in self._read(query, description.id)]

    def answers(self) -> MutableMapping[str, dict[str, Any]]:
        """The answers of tests, finished or not, by batch."""
        return _Answers(self)

    def export(self) -> Iterator[str]:
        """Everything but the single answers as JSON lines, one object a description."""
        for description in self.all():
            reports = [report_record(report) for report in self.reports(description)]
            record = {"version": VERSION, **description_record(description), "reports": reports}
            yield json.dumps(record, ensure_ascii=False)

    def take(self, lines: Iterator[str]) -> int:
        """Add what another export holds; what is here already stays. Returns how many were new.

        Raises DescriptionStoreError at a line that is no description of this index, and then adds
        none.
        """
        found: list[tuple[Description, list[Report]]] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if record.pop("version") != VERSION:
                    raise ValueError("version")
                reports = [report_from(one) for one in record.pop("reports")]
                found.append((description_from(record), reports))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DescriptionStoreError(
                    f"Line {number} is no description as this version exports them "
                    f"({type(error).__name__}): nothing was imported."
                ) from None
            self._check_index(found[-1][0].index)
        known = {description.id for description in self.all()}
        for description, reports in found:
            self.add(description)
            for report in reports:
                self.add_report(report)
        return len({description.id for description, _ in found} - known)

    def _check_index(self, identity: str) -> None:
        if identity != self._identity:
            raise DescriptionStoreError(
                f"The description belongs to the index {identity[:12]}, not to "
                f"{self._identity[:12]}: open that index."
            )

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        with self._open() as database:
            return database.execute(query, values).fetchall()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own; closing it undoes what was not committed."""
        try:
            connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            with closing(connection):
                self._prepare(connection)
                yield connection
        except sqlite3.Error as error:
            raise DescriptionStoreError(
                f"The descriptions in {self.path.name} cannot be read or written ({error}): check "
                "that the disk has room and the file is whole, or move it away to begin a new one."
            ) from None

    def _prepare(self, database: sqlite3.Connection) -> None:
        if self._version(database) == VERSION:
            return
        database.execute("BEGIN IMMEDIATE")
        version = self._version(database)
        if version == 0:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")
        if version not in (0, VERSION):
            raise DescriptionStoreError(
                f"{self.path.name} has version {version}, this one reads {VERSION}: move it away "
                "to begin a new one."
            )

    @staticmethod
    def _version(database: sqlite3.Connection) -> int:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


class _Answers(MutableMapping[str, dict[str, Any]]):
    """A batch's key → its answers, written as they come."""

    def __init__(self, kept: Descriptions) -> None:
        self._kept = kept

    def __getitem__(self, key: str) -> dict[str, Any]:
        rows = self._kept._read("SELECT answers FROM answer WHERE key = ?", key)
        if not rows:
            raise KeyError(key)
        found: dict[str, Any] = json.loads(rows[0][0])
        return found

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        with self._kept._write() as database:
            database.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?)", (key, json.dumps(value))
            )

    def __delitem__(self, key: str) -> None:
        with self._kept._write() as database:
            database.execute("DELETE FROM answer WHERE key = ?", (key,))

    def __iter__(self) -> Iterator[str]:
        return iter([row[0] for row in self._kept._read("SELECT key FROM answer")])

    def __len__(self) -> int:
        return len(list(iter(self)))
