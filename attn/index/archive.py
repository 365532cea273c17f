"""An index as one file to hand on, and back again. No torch, no network.

The file is an uncompressed tar, for Parquet is compressed already: ``manifest.json`` first, then
the other files by name, without times, owners or folders. The same index makes the same bytes.
What comes in is held against its manifest, and nothing of it is seen before all of it is there.
"""

from __future__ import annotations

import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, NamedTuple

from attn.errors import AttnError, IndexDamaged, SharingError
from attn.files import sha256, sync
from attn.index.folder import index_folder, publish, ready
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
    """Write an index into one file, after reading every byte of it; returns the file.

    Raises :class:`IndexFailure` for what is no whole index, :class:`SharingError`.
    """
    folder, file = Path(folder), Path(file)
    manifest = verify_files(folder)
    check_manifest(manifest, folder.name, "scan again")
    if file.exists():
        raise SharingError(f"{file} is there already: remove it, or name another file.")
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with writing_to(file):
        try:
            with tarfile.open(temporary, "x:", format=tarfile.PAX_FORMAT) as tar:
                for name in (MANIFEST, *sorted(manifest.files)):
                    entry = tarfile.TarInfo(name)
                    entry.size = (folder / name).stat().st_size
                    with (folder / name).open("rb") as source:
                        tar.addfile(entry, source)
            sync(temporary)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    return file


def import_index(file: str | Path, out: str | Path) -> Received:
    """Put the index of an exported file into ``out``, every byte compared with its manifest.

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
                if ready(folder):
                    return Received(folder, False)
                (work / MANIFEST).write_bytes(text.encode())
                _unpack(tar, manifest, work, file.name)
        except (AttnError, OSError):
            raise
        except Exception as error:  # whatever damaged headers make of tarfile
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
    """Refuse a manifest that names other files than an index has, so that none lands elsewhere.

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
    """Read every byte of what came in; raises :class:`IndexDamaged` for the first wrong file."""
    for name, record in manifest.files.items():
        path = work / name
        if not path.is_file():
            raise IndexDamaged(f"File {name} of {source} is missing: {remedy}.")
        if path.stat().st_size != record.size or sha256(path) != record.sha256:
            raise IndexDamaged(f"File {name} of {source} is damaged: {remedy}.")


def settle(work: Path, folder: Path) -> Received:
    """Give what came in, and was checked, its name; another may have been first."""
    for path in work.rglob("*"):
        sync(path)
    publish(work, folder)
    return Received(folder, True)


@contextmanager
def receiving(out: Path) -> Iterator[Path]:
    """An empty folder within ``out``, gone in the end with all that is still in it."""
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".index-", dir=out) as temporary:
            work = Path(temporary) / "index"
            work.mkdir()
            yield work


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """What the disk refuses in here is said in one sentence; raises :class:`SharingError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, AttnError):
            raise
        reason = error.strerror or str(error) or type(error).__name__
        raise SharingError(
            f"{place} cannot be written ({reason}): free some space there, or name another place."
        ) from error
