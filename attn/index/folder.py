"""Gives a finished index its final name, unless a complete one has it already. No torch."""

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


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a complete index of this version, with every byte as written."""
    try:
        verify_files(folder)
    except (IndexFailure, OSError):
        return False
    return True


def put_in_place(work: Path, folder: Path) -> None:
    """Give a finished index its final name. If another scan was first, its index is the same."""
    if is_whole(folder):
        return
    aside = work.with_name(f"{work.name}-replaced")
    if folder.exists():  # it is damaged, or of another version
        os.rename(folder, aside)
    try:
        os.rename(work, folder)
    except OSError:
        if not is_whole(folder):
            raise
    shutil.rmtree(aside, ignore_errors=True)
