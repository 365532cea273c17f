"""Exports an index as one file to share, and imports it again. No torch, no network.

The file is an uncompressed tar, because Parquet is compressed already: ``manifest.json`` first,
then the other files by name, without times, owners or folders. The same index makes the same bytes.
An import is compared with its manifest, and the index appears only when all of it is there.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, NamedTuple

from attn.errors import AttnError, IndexDamaged, SharingError
from attn.files import sha256, sync, written_whole
from attn.index.folder import index_folder, is_whole, put_in_place
from attn.index.format import MANIFEST
from attn.index.manifest import Manifest, parse_manifest, verify_files

INDEX_FILE = re.compile(
    r"(documents|vocabulary|repeats|heads)\.parquet|(examples|tokens|pairs)/L[0-9]{2,4}\.parquet"
)
MANIFEST_BYTES = 2**28  # more than any manifest has
_CHUNK = 2**20
_AGAIN = "have it exported again"


class Received(NamedTuple):
    """The folder of an index, and whether it is new there."""

    folder: Path
    new: bool


def export_index(folder: str | Path, file: str | Path) -> Path:
    """Check every byte of an index, write it into one file, and return the file.

    Raises :class:`IndexFailure` for an incomplete index, or :class:`SharingError`.
    """
    folder, file = Path(folder), Path(file)
    manifest = verify_files(folder)
    check_manifest(manifest, folder.name, "scan again")
    if file.exists():
        raise SharingError(f"{file} is there already: remove it, or name another file.")
    with writing_to(file), written_whole(file) as temporary:
        with tarfile.open(temporary, "x:", format=tarfile.PAX_FORMAT) as tar:
            for name in (MANIFEST, *sorted(manifest.files)):
                entry = tarfile.TarInfo(name)
                entry.size = (folder / name).stat().st_size
                with (folder / name).open("rb") as source:
                    tar.addfile(entry, source)
        sync(temporary)
    return file


def import_index(file: str | Path, out: str | Path) -> Received:
    """Import an exported file into ``out``, after comparing every byte with its manifest.

    Raises :class:`IndexDamaged` and :class:`IndexMismatch` for a file that is not as it was
    written or of another version, :class:`SharingError`.
    """
    file, out = Path(file), Path(out)
    with _reading(file) as source, receiving(out) as work:
        try:
            with tarfile.open(fileobj=source, mode="r:") as tar:
                text = _manifest_text(tar, file)
                manifest = parse_manifest(text, file, _AGAIN)
                check_manifest(manifest, file.name, _AGAIN)
                folder = out / index_folder(asdict(manifest))
                if is_whole(folder):
                    return Received(folder, False)
                (work / MANIFEST).write_bytes(text.encode())
                _unpack(tar, manifest, work, file.name)
        except (AttnError, OSError):
            raise
        except Exception as error:  # tarfile raises many kinds of errors for damaged headers
            raise IndexDamaged(
                f"{file.name} is no index that `attn export` wrote, or is cut short: {_AGAIN}."
            ) from error
        check_files(work, manifest, file.name, _AGAIN)
        return settle(work, folder)


def _reading(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise SharingError(f"There is no file {file}: name one that `attn export` wrote.") from None
    except OSError as error:
        raise SharingError(
            f"{file} cannot be read ({error.strerror}): copy it where you may read it."
        ) from error


def _manifest_text(tar: tarfile.TarFile, file: Path) -> str:
    entry = tar.next()
    if entry is None or entry.name != MANIFEST or not _plain(entry):
        raise ValueError("no manifest first")
    if entry.size > MANIFEST_BYTES:
        raise IndexDamaged(f"The manifest of {file} is broken: {_AGAIN}.")
    source = tar.extractfile(entry)
    assert source is not None
    return source.read().decode()


def _unpack(tar: tarfile.TarFile, manifest: Manifest, work: Path, name: str) -> None:
    """Write the files that the manifest names; anything else in the tar is refused."""
    while (entry := tar.next()) is not None:
        record = manifest.files.get(entry.name)
        if record is None or not _plain(entry):
            raise IndexDamaged(
                f"{name} holds {entry.name!r}, which does not belong to an index: {_AGAIN}."
            )
        if entry.size != record.size or (work / entry.name).exists():
            raise IndexDamaged(f"File {entry.name} of {name} is damaged: {_AGAIN}.")
        (work / entry.name).parent.mkdir(exist_ok=True)
        source = tar.extractfile(entry)
        assert source is not None
        with (work / entry.name).open("xb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)


def _plain(entry: tarfile.TarInfo) -> bool:
    return entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not entry.issparse()


def check_manifest(manifest: Manifest, source: str, remedy: str) -> None:
    """Refuse a manifest that names files that an index does not have.

    Raises :class:`IndexDamaged`.
    """
    if not re.fullmatch("[0-9a-f]{64}", manifest.identity):
        raise IndexDamaged(f"The manifest of {source} has no identity: {remedy}.")
    for name, record in manifest.files.items():
        if not INDEX_FILE.fullmatch(name) or record.size < 0:
            raise IndexDamaged(
                f"The manifest of {source} names {name!r}, which does not belong to an index: "
                f"{remedy}."
            )


def check_files(work: Path, manifest: Manifest, source: str, remedy: str) -> None:
    """Check every byte of an import; raises :class:`IndexDamaged` for the first wrong file."""
    for name, record in manifest.files.items():
        path = work / name
        if not path.is_file():
            raise IndexDamaged(f"File {name} of {source} is missing: {remedy}.")
        if path.stat().st_size != record.size or sha256(path) != record.sha256:
            raise IndexDamaged(f"File {name} of {source} is damaged: {remedy}.")


def settle(work: Path, folder: Path) -> Received:
    """Move a checked import to its final folder, unless it is there already."""
    for path in work.rglob("*"):
        sync(path)
    put_in_place(work, folder)
    return Received(folder, True)


@contextmanager
def receiving(out: Path) -> Iterator[Path]:
    """A temporary folder inside ``out``."""
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".index-", dir=out) as temporary:
            work = Path(temporary) / "index"
            work.mkdir()
            yield work


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Turn errors of the disk into a :class:`SharingError` of one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, AttnError):
            raise
        reason = error.strerror or str(error) or type(error).__name__
        raise SharingError(
            f"{place} cannot be written ({reason}): free some space there, or name another place."
        ) from error
