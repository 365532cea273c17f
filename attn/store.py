"""The index's files: their schemas, writing them, verifying them. No torch.

- ``manifest.json``: what was scanned and how, and the SHA-256 of every other file; written last
- ``documents.parquet``: the scanned windows, their ids and display texts
- ``heads.parquet``: a row a head, its counts and metrics
- ``examples/L00.parquet``: a file a layer, a row group a head; its kept pairs by falling multiple,
  each with its row of attention and its rank in every list (-1 where it is not in that list)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attn.errors import IndexDamaged, IndexMismatch, IndexMissing

FORMAT = 1
MANIFEST = "manifest.json"
DOCUMENTS = "documents.parquet"
HEADS = "heads.parquet"
GROUP = 16  # documents in a row group: what showing one document reads
LISTS = ("top", "attention", "bottom", "by_document", "sample")

_DOCUMENTS = pa.schema(
    [
        ("document", pa.int64()),
        ("start", pa.int32()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("truncated", pa.bool_()),
        ("ids", pa.list_(pa.int32())),
        ("texts", pa.list_(pa.string())),
    ]
)
_EXAMPLES = pa.schema(
    [
        ("head", pa.int16()),
        ("document", pa.int64()),
        ("dst", pa.int32()),
        ("src", pa.int32()),
        ("token", pa.string()),
        ("multiple", pa.float32()),
        ("attention", pa.float32()),
        *((f"rank_{name}", pa.int32()) for name in LISTS),
        ("row", pa.list_(pa.float16())),
    ]
)


class FileRecord(NamedTuple):
    """A file of the index: its size, the SHA-256 of its bytes and that of its Parquet footer."""

    size: int
    sha256: str
    footer: str


@dataclass(frozen=True)
class Manifest:
    """What was scanned and how. Everything in it is decided by the scan's input alone."""

    identity: str
    model: str
    revision: str
    weights: str
    dtype: str
    n_layers: int
    n_heads: int
    corpus: str
    docs: int | None
    fingerprint: str
    documents: int
    tokens: int
    rows: int
    ctx: int
    bos: bool
    min_row: int
    skip_first: bool
    bidirectional: bool
    top: int
    sample: int
    seed: int
    notices: tuple[str, ...]
    groups: tuple[int, ...]  # the first document of each row group of documents.parquet
    files: Mapping[str, FileRecord]
    format: int = FORMAT

    @property
    def command(self) -> str:
        """The command that makes this index again."""
        parts = ["python -m attn scan", f"--model {self.model}", f"--corpus {self.corpus}"]
        parts += [f"--docs {self.docs}"] if self.docs is not None else []
        parts += [f"--ctx {self.ctx}", "--bos" if self.bos else "--no-bos"]
        parts += [f"--min-row {self.min_row}", f"--top {self.top}", f"--sample {self.sample}"]
        return " ".join([*parts, f"--seed {self.seed}", f"--dtype {self.dtype}"])


@dataclass(frozen=True)
class Record:
    """One scanned window, as documents.parquet keeps it."""

    document: int
    start: int
    id: str
    source: str
    truncated: bool
    ids: list[int]
    texts: list[str]


class DocumentWriter:
    """Writes documents.parquet as the corpus streams by; memory holds one row group."""

    def __init__(self, folder: Path) -> None:
        self._file = pq.ParquetWriter(folder / DOCUMENTS, _DOCUMENTS, **_options())
        self._waiting: list[Record] = []
        self._digest = hashlib.sha256()
        self.groups: list[int] = []
        self.documents = self.tokens = 0

    def add(self, record: Record) -> None:
        """Append a window."""
        self._digest.update(f"{record.document} {record.start} {record.id} ".encode())
        self._digest.update(np.array(record.ids, "<i4").tobytes())
        self.documents += 1
        self.tokens += len(record.ids)
        self._waiting.append(record)
        if len(self._waiting) == GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self.groups.append(self._waiting[0].document)
            rows = [asdict(record) for record in self._waiting]
            self._file.write_table(pa.Table.from_pylist(rows, _DOCUMENTS), row_group_size=GROUP)
            self._waiting = []

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over every window: its place, text hash and token ids."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Write what is waiting and the file's end."""
        self._flush()
        self._file.close()


def read_documents(folder: Path) -> Iterator[list[Record]]:
    """The windows of documents.parquet, one row group at a time."""
    with pq.ParquetFile(folder / DOCUMENTS, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield [Record(**row) for row in file.read_row_group(group).to_pylist()]


def write_heads(folder: Path, columns: Mapping[str, np.ndarray]) -> None:
    """heads.parquet from columns (layer, head), flattened by layer, then head."""
    n_layers, n_heads = next(iter(columns.values())).shape
    layer, head = np.divmod(np.arange(n_layers * n_heads), n_heads)
    table = {"layer": layer, "head": head} | {k: v.reshape(-1) for k, v in columns.items()}
    pq.write_table(pa.table(table), folder / HEADS, **_options())


@dataclass(frozen=True)
class HeadPairs:
    """The kept pairs of one head, each once, by falling (multiple), then rising place.

    ``ranks`` list → (pair,) int32, -1 where the pair is not in that list; ``rows`` one float16
    array a pair; ``tokens`` the source tokens' texts.
    """

    document: np.ndarray
    dst: np.ndarray
    src: np.ndarray
    multiple: np.ndarray
    attention: np.ndarray
    ranks: Mapping[str, np.ndarray]
    rows: list[np.ndarray]
    tokens: list[str]


def layer_file(layer: int) -> str:
    """The name of a layer's file of examples."""
    return f"examples/L{layer:02d}.parquet"


def write_layer(folder: Path, layer: int, heads: list[HeadPairs]) -> None:
    """One layer's examples, a row group a head."""
    path = folder / layer_file(layer)
    path.parent.mkdir(exist_ok=True)
    with pq.ParquetWriter(path, _EXAMPLES, **_options()) as file:
        for head, pairs in enumerate(heads):
            columns: dict[str, Any] = {
                "head": np.full(len(pairs.dst), head, np.int16),
                "document": pairs.document,
                "dst": pairs.dst.astype(np.int32),
                "src": pairs.src.astype(np.int32),
                "token": pairs.tokens,
                "multiple": pairs.multiple,
                "attention": pairs.attention,
                **{f"rank_{name}": pairs.ranks[name] for name in LISTS},
                "row": pa.array(pairs.rows, pa.list_(pa.float16())),
            }
            file.write_table(pa.table(columns, _EXAMPLES), row_group_size=max(1, len(pairs.dst)))


def _options() -> dict[str, Any]:
    return {"compression": "zstd", "write_page_checksum": True, "store_schema": True}


def write_manifest(folder: Path, **values: Any) -> Manifest:
    """Hash every file, then write the manifest, under a temporary name first."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {
        name: FileRecord(
            (folder / name).stat().st_size, sha256(folder / name), footer(folder / name)
        )
        for name in names
    }
    for name in names:
        _sync(folder / name)
    manifest = Manifest(files=files, **values)
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True, default=list))
    _sync(temporary)
    os.replace(temporary, folder / MANIFEST)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read and check a manifest: its version, its fields, and that its files are all there.

    Raises :class:`IndexMissing`, :class:`IndexMismatch`, :class:`IndexDamaged`.
    """
    try:
        values = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise IndexMissing(
            f"There is no index at {folder}: make one with `python -m attn scan`."
        ) from None
    except (OSError, ValueError) as error:
        raise IndexDamaged(f"The manifest of {folder} is broken: scan again.") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise IndexMismatch(
            f"The index {folder.name} has format {found}, this version reads {FORMAT}: scan again."
        )
    wanted = {field.name for field in fields(Manifest)}
    if set(values) != wanted:
        raise IndexDamaged(f"The manifest of {folder} lacks or adds fields: scan again.")
    try:
        for name in ("notices", "groups"):
            values[name] = tuple(values[name])
        values["files"] = {name: _file_record(*told) for name, told in values["files"].items()}
        for field in fields(Manifest):
            if (
                field.type in ("int", "bool", "str")
                and type(values[field.name]).__name__ != field.type
            ):
                raise TypeError(field.name)
    except (TypeError, AttributeError, ValueError) as error:
        raise IndexDamaged(f"The manifest of {folder} is broken: scan again.") from error
    manifest = Manifest(**values)
    for name, (size, _, _) in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise IndexDamaged(
                f"File {name} of the index {folder.name} is missing or cut: scan again."
            )
    return manifest


def verify(folder: Path) -> None:
    """Read every byte of an index and compare with its manifest.

    Raises :class:`IndexDamaged` that names the first damaged or foreign file.
    """
    manifest = read_manifest(folder)
    for name, (_, digest, _) in manifest.files.items():
        if sha256(folder / name) != digest:
            raise IndexDamaged(f"File {name} of the index {folder.name} is damaged: scan again.")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST and name not in manifest.files:
            raise IndexDamaged(
                f"File {name} does not belong to the index {folder.name}: remove it."
            )


def sha256(path: Path) -> str:
    """A file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def footer(path: Path) -> str:
    """The SHA-256, in hex, of a Parquet file's footer, which page checksums leave out."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-min(8 + length, file.tell() + 4), os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()


def _file_record(size: int, digest: str, end: str) -> FileRecord:
    if not (isinstance(size, int) and isinstance(digest, str) and isinstance(end, str)):
        raise TypeError("not a file's record")
    return FileRecord(size, digest, end)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
