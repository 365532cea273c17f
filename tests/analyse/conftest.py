"""Architectures of the tests, as this project reads them and as plain transformers does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attn.models.session import load_model
from tests.architectures import ALL, Architecture, plain_model, save

Make = Callable[[str], tuple[Architecture, Any, Any]]


@pytest.fixture(scope="package")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Name of an architecture → it, a session, the same model in plain eager transformers."""
    kept: dict[str, tuple[Architecture, Any, Any]] = {}

    def made(name: str) -> tuple[Architecture, Any, Any]:
        if name not in kept:
            kind = ALL[name]
            folder = save(kind, tmp_path_factory.mktemp(name))
            kept[name] = kind, load_model(str(folder), device="cpu"), plain_model(kind, folder)
        return kept[name]

    return made


def some_ids(session: Any, n: int) -> list[int]:
    """``n`` token ids, those next to each other far apart."""
    return [(37 * i + 11) % session.n_vocab for i in range(n)]
