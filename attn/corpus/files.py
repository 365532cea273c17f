"""Files → rows, read as they come: only one line or a few rows are in memory at once.

Only attn/corpus/corpus.py reads through these. A row is its source in words and its text, or why it
has none; whatever keeps a file from being read is a :class:`CorpusError`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path

from attn.errors import CorpusError

LIMIT = 16 * 2**20  # characters in a line, a row or a document
BATCH_ROWS = 16  # rows of a Parquet file that are in memory at once
KINDS = (".txt", ".jsonl", ".csv", ".parquet", ".txt.gz", ".jsonl.gz", ".csv.gz")
FIELDS_SHOWN = 20

_PATIENCE = 1000  # rows without the field before it counts as missing
_CSV_LOCK = threading.Lock()


class Skip(Enum):
    """Why a row gives no document."""

    EMPTY = "empty"
    NO_TEXT = "without text"
    NOT_JSON = "not JSON"


Row = tuple[str, str | Skip]  # (source, text or why there is none)


def no_field(where: str, field: str, names: Sequence[str]) -> CorpusError:
    """The error of a field that is not there; it names those that are."""
    shown = ", ".join(repr(str(name)[:40]) for name in names[:FIELDS_SHOWN])
    more = ", …" if len(names) > FIELDS_SHOWN else ""
    return CorpusError(
        f"{where} has no field {field!r}: name one of its fields after a colon: {shown}{more}."
    )


def too_long(source: str) -> CorpusError:
    """The error of a line, row or document beyond :data:`LIMIT`."""
    return CorpusError(
        f"{source} is longer than {LIMIT // 2**20} million characters: cut it into documents."
    )


def pick(rows: Iterator[tuple[str, object]], field: str, where: str) -> Iterator[Row]:
    """The field of each row; raises :class:`CorpusError` where no row has it.

    A thousand rows without it are enough to say so.
    """
    names: dict[str, None] = {}
    known, without = False, 0
    for source, row in rows:
        if isinstance(row, Skip):
            yield source, row
            continue
        value = None
        if isinstance(row, dict):
            known = known or field in row
            value = row.get(field)
            if not known and len(names) < FIELDS_SHOWN:
                names.update(dict.fromkeys(row))
            without += 1
            if not known and without >= _PATIENCE:
                break
        yield source, value if isinstance(value, str) else Skip.NO_TEXT
    if names and not known:
        raise no_field(where, field, list(names))


def read_file(path: Path, kind: str, field: str, where: str) -> Iterator[Row]:
    """The rows of a file of one of :data:`KINDS`; ``where`` names it in errors."""
    match kind.removesuffix(".gz"):
        case ".txt":
            return _read_txt(path)
        case ".jsonl":
            return pick(_read_jsonl(path), field, where)
        case ".csv":
            return _read_csv(path, field, where)
        case _:
            return _read_parquet(path, field, where)


def _encoding(head: bytes) -> str:
    """The encoding that a byte order mark names, UTF-8 without one."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    return "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file without their ends, unpacked as they come; none is kept."""
    zipped = path.name.lower().endswith(".gz")
    number = 1
    try:
        with (
            gzip.open(path) if zipped else open(path, "rb") as raw,
            io.TextIOWrapper(raw, _encoding(raw.peek(4)), errors="replace") as text,
        ):
            while line := text.readline(LIMIT + 1):
                if len(line) > LIMIT:
                    raise too_long(f"{path.name} line {number}")
                yield line.removesuffix("\n")
                number += 1
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(
            f"{path.name} is damaged after line {number - 1} ({error}): fetch or pack it again."
        ) from error
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_txt(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), 1):
        yield f"{path.name} line {number}", line


def _read_jsonl(path: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(_lines(path), 1):
        row: object = Skip.EMPTY
        if line and not line.isspace():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = Skip.NOT_JSON
        yield f"{path.name} line {number}", row


def _csv_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file, the header first; a row may span lines."""
    length = 0

    def feed() -> Iterator[str]:
        nonlocal length
        with closing(_lines(path)) as lines:  # type: ignore[type-var]
            for line in lines:
                length += len(line) + 1
                if length > LIMIT:
                    raise too_long(f"{path.name}, the row that ends at line {reader.line_num + 1}")
                yield line + "\n"

    reader = csv.reader(feed())
    while True:
        length = 0
        with _CSV_LOCK:  # the limit is the process's
            before = csv.field_size_limit(LIMIT)
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise CorpusError(
                    f"{path.name} line {reader.line_num} is not CSV ({error}): check its quotes."
                ) from error
            finally:
                csv.field_size_limit(before)
        if row is None:
            return
        yield row


def _read_csv(path: Path, field: str, where: str) -> Iterator[Row]:
    rows = _csv_rows(path)
    header = [name.strip() for name in next(filter(None, rows), [field])]
    if field not in header:
        raise no_field(where, field, header)
    at = header.index(field)
    for number, row in enumerate(rows, 1):
        source = f"{path.name} row {number}"
        if not row:
            yield source, Skip.EMPTY
        else:
            yield source, row[at] if at < len(row) else Skip.NO_TEXT


def _read_parquet(path: Path, field: str, where: str) -> Iterator[Row]:
    """One column, a few rows at a time: a small file can unfold to gigabytes."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with pa.OSFile(str(path)) as raw, ParquetFile(raw, buffer_size=2**20) as file:
            schema = file.schema_arrow
            if field not in schema.names:
                raise no_field(where, field, schema.names)
            kind = schema.field(schema.names.index(field)).type
            texts = str(kind.value_type if pa.types.is_dictionary(kind) else kind)
            if texts not in ("string", "large_string", "string_view"):
                raise CorpusError(f"{where} holds {kind} in {field!r}, not text: name another.")
            number = 0
            batches = file.iter_batches(BATCH_ROWS, columns=[field], use_threads=False)
            for batch in batches:
                for value in batch.column(0).cast(pa.large_string()).cast(pa.large_binary()):
                    number += 1
                    text = value.as_py()
                    source = f"{path.name} row {number}"
                    yield source, Skip.NO_TEXT if text is None else text.decode(errors="replace")
    except CorpusError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CorpusError(
            f"{where} cannot be read as Parquet ({reason}): fetch or write it again."
        ) from error
