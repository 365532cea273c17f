"""The manifest: what was scanned and how, with the SHA-256 of every other file. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from attn.errors import IndexDamaged, IndexMismatch, IndexMissing
from attn.files import sha256, sync
from attn.index.documents import DocumentWriter
from attn.index.format import AFFECTED, FORMAT, MANIFEST
from attn.index.measured import Measured


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
    skip: int
    docs: int | None
    fingerprint: str
    documents: int
    windows: int
    short: int  # documents left out: fewer than two tokens
    repeated: int  # documents whose text an earlier one has
    tokens: int
    rows: int
    ctx: int
    bos: bool
    min_row: int
    skip_first: bool
    bidirectional: bool
    all_windows: bool
    stride: int
    top: int
    sample: int
    band: int
    per_token: int
    write: bool
    seed: int
    shard: int
    suffix: int  # special tokens that end each window
    without_attention: tuple[int, ...]  # layers of a hybrid model that have none
    notices: tuple[str, ...]
    groups: tuple[int, ...]  # the first document of each row group of documents.parquet
    files: Mapping[str, FileRecord]
    format: int = FORMAT

    @property
    def about(self) -> dict[str, str]:
        """What a link says about the index, so that someone who lacks it can make it."""
        about = {"model": self.model, "corpus": self.corpus, "ctx": str(self.ctx)}
        about |= {"skip": str(self.skip)} if self.skip else {}
        return about | ({"docs": str(self.docs)} if self.docs is not None else {})

    @property
    def command(self) -> str:
        """The command that makes this index again."""
        model, corpus = shlex.quote(self.model), shlex.quote(self.corpus)
        parts = ["python -m attn scan", f"--model {model}", f"--corpus {corpus}"]
        parts += [f"--skip {self.skip}"] if self.skip else []
        parts += [f"--docs {self.docs}"] if self.docs is not None else []
        parts += [f"--ctx {self.ctx}", "--bos" if self.bos else "--no-bos"]
        parts += [f"--windows all --stride {self.stride}"] if self.all_windows else []
        parts += ["--scores multiple,attention,write"] if self.write else []
        parts += [f"--min-row {self.min_row}", f"--top {self.top}", f"--sample {self.sample}"]
        parts += [f"--band {self.band}", f"--per-token {self.per_token}", f"--shard {self.shard}"]
        return " ".join([*parts, f"--seed {self.seed}", f"--dtype {self.dtype}"])

    @property
    def overlap(self) -> int:
        """Positions, BOS included, that a later window of a document shares with the one before."""
        return self.ctx - self.suffix - self.stride

    @property
    def end(self) -> int | None:
        """The first document after those scanned; None if the corpus was read whole."""
        return None if self.docs is None else self.skip + self.docs


def derived_values(
    values: Mapping[str, Any], documents: DocumentWriter, measured: Measured
) -> dict[str, Any]:
    """The manifest's values that follow from the documents and sums, among them the identity."""
    apart = ("corpus", "skip", "docs", "short", "notices")
    decisive = {name: value for name, value in values.items() if name not in apart}
    decisive |= {"format": FORMAT, "fingerprint": documents.fingerprint, **measured.identity}
    text = json.dumps(decisive, sort_keys=True)
    return {
        "identity": hashlib.sha256(text.encode()).hexdigest(),
        "fingerprint": documents.fingerprint,
        "documents": documents.documents,
        "windows": documents.windows,
        "repeated": documents.repeated,
        "tokens": documents.tokens,
        "groups": tuple(documents.groups),
    }


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
        sync(folder / name)
    manifest = Manifest(files=files, **values)
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(sealed_text(asdict(manifest)))
    sync(temporary)
    os.replace(temporary, folder / MANIFEST)
    return manifest


def sealed_text(values: Mapping[str, Any]) -> str:
    """A manifest's text: its values, and a hash of them that reveals a changed byte."""

    def text(some: Mapping[str, Any]) -> str:
        return json.dumps(some, indent=1, sort_keys=True, default=list)

    return text({**values, "seal": hashlib.sha256(text(values).encode()).hexdigest()})


def read_manifest(folder: Path) -> Manifest:
    """Read and check a manifest: its version, its seal, and that its files are all there.

    Raises :class:`IndexMissing`, :class:`IndexMismatch`, :class:`IndexDamaged`.
    """
    try:
        text = (folder / MANIFEST).read_text()
    except (FileNotFoundError, NotADirectoryError):
        raise IndexMissing(
            f"There is no index at {folder}: make one with `python -m attn scan`."
        ) from None
    except (OSError, ValueError) as error:
        raise IndexDamaged(f"The manifest of {folder} is broken: scan again.") from error
    manifest = parse_manifest(text, folder)
    for name, (size, _, _) in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise IndexDamaged(
                f"File {name} of the index {folder.name} is missing or cut: scan again."
            )
    return manifest


def parse_manifest(text: str, folder: Path, remedy: str = "scan again") -> Manifest:
    """Parse a manifest's text; errors name ``folder`` and ``remedy``.

    Raises :class:`IndexMismatch`, :class:`IndexDamaged`.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IndexDamaged(f"The manifest of {folder} is broken: {remedy}.") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise IndexMismatch(
            f"The index {folder.name} has format {found}, this version reads {FORMAT}: "
            f"{AFFECTED.get(found, '')}scan again."
        )
    if values.pop("seal", None) is None or sealed_text(values) != text:
        raise IndexDamaged(f"The manifest of {folder} is broken: {remedy}.")
    wanted = {field.name for field in fields(Manifest)}
    if set(values) != wanted:
        raise IndexDamaged(f"The manifest of {folder} lacks or adds fields: {remedy}.")
    try:
        for name in ("notices", "groups", "without_attention"):
            values[name] = tuple(values[name])
        values["files"] = {name: _file_record(*told) for name, told in values["files"].items()}
        for field in fields(Manifest):
            if (
                field.type in ("int", "bool", "str")
                and type(values[field.name]).__name__ != field.type
            ):
                raise TypeError(field.name)
    except (TypeError, AttributeError, ValueError) as error:
        raise IndexDamaged(f"The manifest of {folder} is broken: {remedy}.") from error
    return Manifest(**values)


def verify(folder: str | Path) -> None:
    """Read every byte of an index and compare with its manifest.

    Raises :class:`IndexDamaged` that names the first damaged or foreign file.
    """
    folder = Path(folder)
    manifest = verify_files(folder)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST and name not in manifest.files:
            raise IndexDamaged(
                f"File {name} does not belong to the index {folder.name}: remove it."
            )


def verify_files(folder: Path) -> Manifest:
    """Compare every file that the manifest names; other files in the folder are ignored."""
    manifest = read_manifest(folder)
    for name, (_, digest, _) in manifest.files.items():
        if sha256(folder / name) != digest:
            raise IndexDamaged(f"File {name} of the index {folder.name} is damaged: scan again.")
    return manifest


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
