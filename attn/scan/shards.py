"""The shards of a scan on disk. They let a scan resume where it stopped, however it ended.

    .scan-<identity>/             one scan, of whoever makes this index; removed when it is made
        documents.parquet         what there is to scan
        vocabulary.parquet
        repeats.parquet
        shards/00000.safetensors  all layers of one fixed range of documents
        shards/00000.json         its size and SHA-256: the shard is committed

If two scans do the same shard, the first stays and both go on: see :mod:`attn.index.parts`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from attn.errors import ScanError
from attn.index.format import FROM_CORPUS
from attn.index.parts import Parts
from attn.scan.partials import LayerPart, from_tensors, to_tensors

READING = ".read-"  # how a folder's name begins while a corpus is read into it
_LONG = 24 * 3600.0  # seconds after which a folder that nobody changes counts as abandoned


class Shards:
    """The shards in one folder, by number."""

    def __init__(self, folder: Path) -> None:
        self._parts = Parts(folder / "shards")

    def committed(self, number: int) -> bool:
        """Whether the shard is there and its bytes are those that were written."""
        return self._parts.committed(_name(number))

    def commit(self, number: int, parts: Sequence[LayerPart]) -> None:
        """Write a shard, one part for each layer, unless another scan was first. Raises OSError."""
        named = {
            f"{layer}.{name}": tensor.numpy()
            for layer, part in enumerate(parts)
            for name, tensor in to_tensors(part).items()
        }
        self._parts.commit(_name(number), named)

    def layer(self, number: int, layer: int) -> LayerPart:
        """One layer of a committed shard; OSError where another scan has removed it meanwhile."""
        named = self._parts.read(_name(number), f"{layer}.")
        return from_tensors({k: torch.from_numpy(v) for k, v in named.items()}, [number])


def _name(number: int) -> str:
    return f"{number:05d}"


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
