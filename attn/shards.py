"""The shards of a scan on disk: what is done stays done, whoever did it and however it ended.

    .scan-<identity>/             one scan, of whoever makes this index; removed when it is made
        documents.parquet         what there is to scan
        vocabulary.parquet
        shards/00000.safetensors  all layers of one fixed range of documents
        shards/00000.json         its size and SHA-256: the shard is committed

A file gets its final name by a hard link, after it was synced under a temporary one, so it is whole
or not there. Two scans of the same shard both end well: the first link stands.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from attn.parts import LayerPart, from_tensors, to_tensors
from attn.store import sha256, sync


class Shards:
    """The shards in one folder, by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "shards"
        self._folder.mkdir(exist_ok=True)

    def committed(self, number: int) -> bool:
        """Whether the shard is there, and whole: its bytes are those that were written."""
        record, file = self._record(number), self._file(number)
        if record is None:
            return False
        with contextlib.suppress(OSError):
            if record == (file.stat().st_size, sha256(file)):
                return True
        for kind in ("json", "safetensors"):  # damaged since: it is scanned again
            with contextlib.suppress(OSError):
                self._file(number, kind).unlink()
        return False

    def commit(self, number: int, parts: Sequence[LayerPart]) -> None:
        """Write a shard, one part a layer, unless another scan was first."""
        temporary = self._folder / f".{uuid.uuid4().hex}"
        note = temporary.with_suffix(".json")
        named = {
            f"{layer}.{name}": tensor.numpy()
            for layer, part in enumerate(parts)
            for name, tensor in to_tensors(part).items()
        }
        try:
            save_file(named, temporary)
            _link(temporary, self._file(number))
            # A file of that name is whole, and worth as much as ours.
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
        """One layer of a committed shard."""
        start = f"{layer}."
        with safe_open(self._file(number), framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(start)]  # noqa: SIM118
            named = {name.removeprefix(start): file.get_tensor(name) for name in names}
        return from_tensors(named, [number])

    def _record(self, number: int) -> tuple[int, str] | None:
        try:
            record = json.loads(self._file(number, "json").read_text())
            return int(record["bytes"]), str(record["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _file(self, number: int, kind: str = "safetensors") -> Path:
        return self._folder / f"{number:05d}.{kind}"


def _link(temporary: Path, final: Path) -> None:
    """Give a file its final name once its bytes are on disk; the first to do so wins."""
    sync(temporary)
    try:
        os.link(temporary, final)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        os.replace(temporary, final)
    sync(final.parent)
