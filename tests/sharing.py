"""What is costly is made once for all processes of a test run, by whichever needs it first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], str | None]) -> Path:
    """A folder of the run, filled by ``make``. What ``make`` returns is in the file beside it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each process has a folder of its own in that of the run
    folder, said = root / f"shared-{name}", said_by(root / f"shared-{name}")
    with FileLock(root / f"shared-{name}.lock"):
        if not said.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            text = make(folder) or ""
            said.write_text(text, encoding="utf-8")
    return folder


def said_by(folder: Path) -> Path:
    """The file with what the maker of a shared folder returned; it is there once that is whole."""
    return folder.with_name(f"{folder.name}.said")


def linked(folder: Path, parent: Path) -> Path:
    """The same index in another folder, as hard links: what is put beside it is put there only."""
    return Path(shutil.copytree(folder, parent / folder.name, copy_function=os.link))
