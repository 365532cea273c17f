"""The shards of a scan on disk. They let a scan resume where it stopped, however it ended.

    .scan-<identity>/             one scan, of whoever makes this index; removed when it is made
        documents.parquet         what there is to scan
        vocabulary.parquet
        repeats.parquet
        shards/00000.safetensors  all layers of one fixed range of documents
        shards/00000.json         its size and SHA-256: the shard is committed

A file gets its final name by a hard link, after it was synced under a temporary one, so it is whole
or not there. If two scans do the same shard, the first link stays and both go on.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from attn.errors import ScanError
from attn.files import sha256, sync
from attn.index.format import FROM_CORPUS
from attn.scan.partials import LayerPart, from_tensors, to_tensors

READING = ".read-"  # how a folder's name begins while a corpus is read into it
_LONG = 24 * 3600.0  # seconds after which a folder that nobody changes counts as abandoned


class Shards:
    """The shards in one folder, by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "shards"
        self._folder.mkdir(exist_ok=True)

    def committed(self, number: int) -> bool:
        """Whether the shard is there and its bytes are those that were written."""
        record, file = self._record(number), self._file(number)
        if record is None:
            return False
        with contextlib.suppress(OSError):
            if record == (file.stat().st_size, sha256(file)):
                return True
        for kind in ("json", "safetensors"):  # it was damaged, so it is scanned again
            with contextlib.suppress(OSError):
                self._file(number, kind).unlink()
        return False

    def commit(self, number: int, parts: Sequence[LayerPart]) -> None:
        """Write a shard, one part for each layer, unless another scan was first. Raises OSError."""
        temporary = self._folder / f".{uuid.uuid4().hex}"
        note = temporary.with_suffix(".json")
        named = {
            f"{layer}.{name}": tensor.numpy()
            for layer, part in enumerate(parts)
            for name, tensor in to_tensors(part).items()
        }
        try:
            with _as_os_error():
                save_file(named, temporary)
            _link(temporary, self._file(number))
            # A file with this name is complete and holds the same.
            record = {
                "bytes": self._file(number).stat().st_size,
                "sha256": sha256(self._file(number)),
            }
            note.write_text(json.dumps(record))
            _link(note, self._file(number, "json"))
        finally:
            temporary.unlink(missing_ok=True)
            note.unlink(missing_ok=True)

    def layer(self, number: int, layer: int) -> LayerPart:
        """One layer of a committed shard; OSError where another scan has removed it meanwhile."""
        start = f"{layer}."
        # As NumPy: for torch the file is opened twice, and may be gone the second time.
        with _as_os_error(), safe_open(self._file(number), framework="np") as file:
            names = [name for name in file.keys() if name.startswith(start)]  # noqa: SIM118
            named = {name.removeprefix(start): file.get_tensor(name) for name in names}
        return from_tensors({k: torch.from_numpy(v) for k, v in named.items()}, [number])

    def _record(self, number: int) -> tuple[int, str] | None:
        try:
            record = json.loads(self._file(number, "json").read_text())
            return int(record["bytes"]), str(record["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _file(self, number: int, kind: str = "safetensors") -> Path:
        return self._folder / f"{number:05d}.{kind}"


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn safetensors' own error for a full disk or a missing file into OSError."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number)) from error


def _link(temporary: Path, final: Path) -> None:
    """Give a file its final name once its bytes are on disk. The first one to do so wins."""
    sync(temporary)
    try:
        os.link(temporary, final)
    except FileExistsError:
        return
    except OSError:  # the file system has no hard links
        os.replace(temporary, final)
    sync(final.parent)


def take_over(fresh: Path, work: Path) -> None:
    """Make ``fresh`` the folder of the scan. A folder that is there already keeps its shards."""
    try:
        os.rename(fresh, work)
    except OSError:
        # The files are the same, so replacing them disturbs nobody.
        for name in FROM_CORPUS:
            with contextlib.suppress(FileNotFoundError):  # the other scan has just finished
                os.replace(fresh / name, work / name)
    for left in work.glob("index-*"):  # left by a scan that was killed, unless it still runs
        if _age(left) > _LONG:
            shutil.rmtree(left, ignore_errors=True)


def remove_old(parent: Path) -> None:
    """Remove the files of scans that were killed while they read the corpus."""
    for left in parent.glob(f"{READING}*"):
        if _age(left) > _LONG:
            shutil.rmtree(left, ignore_errors=True)


def _age(folder: Path) -> float:
    """Seconds since anything in a folder changed, or 0 if that is unknown."""
    with contextlib.suppress(OSError):
        return time.time() - max(p.stat().st_mtime for p in [folder, *folder.rglob("*")])
    return 0.0


@contextlib.contextmanager
def failing_in_words(parent: Path) -> Iterator[None]:
    """Turn errors of the disk into a ScanError."""
    try:
        yield
    except BrokenPipeError:  # an error of the progress callback, not of the disk
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise ScanError(
            f"The scan cannot write to {parent} ({reason}): free some space or choose another "
            f"--out, then scan again; what is done is kept."
        ) from error
