"""Indexes and models, opened once for all sessions. torch comes with the first model asked for."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from attn.config import settings
from attn.errors import AttnError, EffectsError, IndexFailure
from attn.heads import Tokens
from attn.index.effects import RECORD, Effects, find_effects, finished
from attn.index.index import Index, find_indexes
from attn.index.manifest import Manifest
from attn.index.with_effects import IndexWithEffects
from attn.models import builtin

if TYPE_CHECKING:
    from attn.analyse.search import CellsAnswer
    from attn.models.interface import Reading
    from attn.models.session import ModelSession

_LOG = logging.getLogger(__name__)

MOST_TOKENS = 1024
"""The most tokens of a user's text. Pictures of longer texts cannot be read."""


@dataclass(frozen=True)
class Entry:
    """A folder with an index: the opened index, or the reason why it cannot be opened."""

    path: Path
    index: Index | None = None
    failure: IndexFailure | None = None

    @property
    def name(self) -> str:
        """The folder's name, which links use."""
        return self.path.name


def entries() -> list[Entry]:
    """Every index in the settings' folder, the newest first."""
    return [_entry(path) for path in find_indexes(settings().indexes)]


def _entry(path: Path) -> Entry:
    try:
        stamp = (path / "manifest.json").stat().st_mtime_ns
        return Entry(path, _open(str(path), stamp))
    except IndexFailure as failure:
        return Entry(path, failure=failure)
    except OSError:
        return Entry(path, failure=IndexFailure(f"The index {path.name} has gone: scan again."))


@st.cache_resource(max_entries=32, show_spinner=False)
def _open(path: str, stamp: int) -> Index:
    return Index.open(path)


def effects_of(index: Index) -> Effects | None:
    """The effects measured beside an index; None where there are none that can be read."""
    found = with_effects(index)
    return found.effects if isinstance(found, IndexWithEffects) else None


def with_effects(index: Index) -> Index:
    """The index with the metric ``effect`` where that was measured, or else as it is."""
    try:
        stamps = [(f.name, (f / RECORD).stat().st_mtime_ns) for f in finished(index.path)]
    except OSError:  # one was removed just now
        return index
    if not stamps:
        return index
    return _with_effects(str(index.path), index.manifest.identity, tuple(stamps), index)


@st.cache_resource(max_entries=16, show_spinner=False)
def _with_effects(
    path: str, identity: str, stamps: tuple[tuple[str, int], ...], _index: Index
) -> Index:
    try:
        found = find_effects(_index.path, _index.manifest)
    except EffectsError:
        _LOG.warning("The effects beside %s cannot be read", path, exc_info=True)
        return _index
    return _index if found is None else IndexWithEffects(_index, found)


def default_model() -> str:
    """The model that a first scan uses."""
    return settings().model


def lacks_builtin(model: str) -> bool:
    """Whether ``model`` is the built-in one and has not been fetched."""
    return model == builtin.NAME and not builtin.present()


WARM_AFTER = 5.0
"""Seconds after the first page at which the model starts loading in the background."""


class Models:
    """Loads each model once, in the first thread that asks for it, and keeps the last two."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str, str], ModelSession] = OrderedDict()
        self._warmed: set[tuple[str, str, str]] = set()

    def get(self, name: str, device: str = "auto", dtype: str = "float32") -> ModelSession:
        """The session of the named model. Loading takes 10 s or more. Raises ModelError."""
        from attn.models.session import load_model

        key = (name, device, dtype)
        with self._lock:
            if key not in self._held:
                self._held[key] = load_model(name, device, dtype)
                while len(self._held) > 2:
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            return self._held[key]

    def warm(self, name: str, dtype: str = "float32") -> None:
        """Load a model that is on this machine in the background, once. Nothing waits for it.

        Loading starts :data:`WARM_AFTER` seconds later, when the browser has drawn the page. A
        model from the Hub is not loaded ahead, because it might be a download of many gigabytes.
        """
        here = builtin.present() if name == builtin.NAME else Path(name).is_dir()
        key = (name, "auto", dtype)
        if not here or key in self._warmed or not settings().warm:
            return
        self._warmed.add(key)

        def load() -> None:
            try:
                self.get(name, dtype=dtype)
            except AttnError:
                _LOG.info("The model %s was not loaded ahead", name, exc_info=True)

        later = threading.Timer(WARM_AFTER, load)
        later.name, later.daemon = "attn-warm", True
        later.start()

    def holds(self, name: str, device: str = "auto", dtype: str = "float32") -> bool:
        """Whether the model is loaded already."""
        return (name, device, dtype) in self._held


@st.cache_resource(show_spinner=False)
def models() -> Models:
    """The models of this server."""
    return Models()


@dataclass(frozen=True, eq=False)
class LayerReading:
    """One layer on one text.

    ``patterns`` (head, dst, src) float32; ``visible`` (dst,) int64; ``norms`` (head, src) float32,
    the length of what each source's value writes.
    """

    patterns: np.ndarray
    visible: np.ndarray
    norms: np.ndarray


def encode(manifest: Manifest, text: str) -> Tokens:
    """A user's text as tokens of the index's model, the BOS first where the scan had one."""
    return models().get(manifest.model, dtype=manifest.dtype).encode(text, bos=manifest.bos)


def longest(manifest: Manifest) -> int:
    """How many tokens a user's text may have."""
    return min(MOST_TOKENS, models().get(manifest.model, dtype=manifest.dtype).n_ctx)


def read_layer(manifest: Manifest, ids: tuple[int, ...], layer: int) -> LayerReading:
    """Run the index's model on token ids and keep one layer's patterns.

    Raises IndexMismatch when the model is no longer the one that was scanned, HeadError for a layer
    without attention.
    """
    return _read_layer(manifest.model, manifest.dtype, manifest.weights, ids, layer)


@st.cache_resource(max_entries=8, show_spinner=False)
def _read_layer(
    model: str, dtype: str, weights: str, ids: tuple[int, ...], layer: int
) -> LayerReading:
    session = models().get(model, dtype=dtype)
    session.need_weights(weights)
    session.need_attention(layer)
    kept: list[LayerReading] = []

    def keep(reading: Reading) -> None:
        patterns = reading.pattern[0].float().cpu().numpy()
        assert reading.norms is not None
        norms = reading.norms[0].float().cpu().numpy()
        kept.append(LayerReading(patterns, reading.visible[0].cpu().numpy(), norms))

    session.observe(np.array([ids], np.int64), keep, layers=[layer], norms=True)
    return kept[0]


def find_heads(manifest: Manifest, tokens: Tokens, cells: np.ndarray) -> list[CellsAnswer]:
    """Rank all heads of the index's model by the attention they put on cells (dst, src) of a text.

    Raises IndexMismatch as :func:`read_layer` does, QueryError for cells that no head can see.
    """
    ids = tuple(int(i) for i in tokens.ids)
    return _find_heads(manifest.model, manifest.dtype, manifest.weights, ids, cells)


@st.cache_resource(max_entries=24, show_spinner=False)
def _find_heads(
    model: str, dtype: str, weights: str, ids: tuple[int, ...], cells: np.ndarray
) -> list[CellsAnswer]:
    from attn.analyse.search import by_cells

    session = models().get(model, dtype=dtype)
    session.need_weights(weights)
    return by_cells(session, ids, cells)
