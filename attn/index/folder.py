"""A finished index gets its name: all at once, and only where no whole one has it. No torch."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attn.errors import IndexFailure
from attn.index.manifest import verify_files


def index_folder(values: Mapping[str, Any]) -> str:
    """The name of an index's folder: model, corpus, and the first digits of its identity."""
    model = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(values["model"]).name)[:40]
    corpus = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(values["corpus"]).name)[:40]
    return f"{model}_{corpus}_{values['identity'][:12]}"


def ready(folder: Path) -> bool:
    """Whether a folder holds an index of this version, every byte of it as it was written."""
    try:
        verify_files(folder)
    except (IndexFailure, OSError):
        return False
    return True


def publish(work: Path, folder: Path) -> None:
    """Give a finished index its name; where another scan was first, its index is the same."""
    if ready(folder):
        return
    aside = work.with_name(f"{work.name}-replaced")
    if folder.exists():  # damaged, or of another version
        os.rename(folder, aside)
    try:
        os.rename(work, folder)
    except OSError:
        if not ready(folder):
            raise
    shutil.rmtree(aside, ignore_errors=True)
