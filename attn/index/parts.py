"""Parts of a long piece of work on disk, so that it can go on where it stopped. No torch.

    00000.safetensors  arrays by name
    00000.json         the file's size and SHA-256: the part is committed

A file gets its final name by a hard link, after it was synced under a temporary one, so it is whole
or not there. If two processes make the same part, the first link stays and both go on.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from attn.files import sha256, sync


class Parts:
    """The parts in one folder, by name. The folder is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(exist_ok=True)

    def committed(self, name: str) -> bool:
        """Whether the part is there and its bytes are those that were written."""
        record, file = self._record(name), self._file(name)
        if record is None:
            return False
        with contextlib.suppress(OSError):
            if record == (file.stat().st_size, sha256(file)):
                return True
        for kind in ("json", "safetensors"):  # it was damaged, so it is made again
            with contextlib.suppress(OSError):
                self._file(name, kind).unlink()
        return False

    def commit(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a part, unless another process was first. Raises OSError."""
        from safetensors.numpy import save_file

        temporary = self._folder / f".{uuid.uuid4().hex}"
        note = temporary.with_suffix(".json")
        try:
            with _as_os_error():
                save_file(dict(arrays), temporary)
            _link(temporary, self._file(name))
            # A file with this name is complete and holds the same.
            record = {"bytes": self._file(name).stat().st_size, "sha256": sha256(self._file(name))}
            note.write_text(json.dumps(record))
            _link(note, self._file(name, "json"))
        finally:
            temporary.unlink(missing_ok=True)
            note.unlink(missing_ok=True)

    def read(self, name: str, start: str = "") -> dict[str, np.ndarray]:
        """The arrays of a committed part whose names begin with ``start``, without it.

        Raises OSError where another process has removed the part meanwhile.
        """
        from safetensors import safe_open

        # As NumPy: for torch the file is opened twice, and may be gone the second time.
        with _as_os_error(), safe_open(self._file(name), framework="np") as file:
            names = [key for key in file.keys() if key.startswith(start)]  # noqa: SIM118
            return {key.removeprefix(start): file.get_tensor(key) for key in names}

    def _record(self, name: str) -> tuple[int, str] | None:
        try:
            record = json.loads(self._file(name, "json").read_text())
            return int(record["bytes"]), str(record["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _file(self, name: str, kind: str = "safetensors") -> Path:
        return self._folder / f"{name}.{kind}"


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turn safetensors' own error for a full disk or a missing file into OSError."""
    from safetensors import SafetensorError

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
