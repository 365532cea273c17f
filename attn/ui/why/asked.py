"""What the Why page is asked: a text, a look on it, and the answers, kept by the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from attn.analyse.why.answers import DirectEffect, Graph, Written
from attn.heads import HeadId
from attn.index.manifest import Manifest
from attn.ui.library import models, read_layer
from attn.ui.state import read_pairs, write_pairs

if TYPE_CHECKING:
    from attn.models.residual import ResidualStream

MOST_TOKENS = 256
"""The most tokens of a text on this page: the patterns of all heads are held."""

MOST_PAIRS = 12

MOST_WORDS = 6

Look = tuple[int, int]
"""Destination and source."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Everything the page shows of one look.

    ``graph`` with the splits; ``pairs`` the strongest (query part, key part, nats); ``direct`` what
    the head's looks from that destination do, None where no path leads straight to the logits,
    which ``without`` then says.
    """

    graph: Graph
    pairs: tuple[tuple[str, str, float], ...]
    direct: DirectEffect | None
    without: str = ""


def answer(
    manifest: Manifest, ids: tuple[int, ...], head: HeadId, look: Look, steps: int, least: float
) -> Answer:
    """Ask why ``head`` looks there. Raises AttnError subclasses as :mod:`attn.analyse.why`."""
    return _answer(manifest.model, manifest.dtype, manifest.weights, ids, head, look, steps, least)


@st.cache_resource(max_entries=2, show_spinner=False)
def _stream(model: str, dtype: str, weights: str, ids: tuple[int, ...]) -> ResidualStream:
    from attn.analyse.why.split import read

    session = models().get(model, dtype=dtype)
    session.need_weights(weights)
    return read(session, ids)


@st.cache_resource(max_entries=32, show_spinner=False)
def _answer(
    model: str, dtype: str, weights: str, ids: tuple[int, ...], head: HeadId, look: Look,
    steps: int, least: float,
) -> Answer:  # fmt: skip
    from attn.analyse.why.direct import direct_effect
    from attn.analyse.why.graph import follow
    from attn.analyse.why.split import split_pairs
    from attn.errors import ModelError

    stream = _stream(model, dtype, weights, ids)
    graph = follow(stream, head, *look, steps=steps, threshold=least)
    table, parts = split_pairs(stream, head, *look), graph.splits[graph.root].parts
    order = np.argsort(-np.abs(table), axis=None, kind="stable")[:MOST_PAIRS]
    rows, columns = np.unravel_index(order, table.shape)
    pairs = tuple(
        (parts[i].name, parts[j].name, float(table[i, j]))
        for i, j in zip(rows, columns, strict=True)
    )
    try:
        return Answer(graph, pairs, direct_effect(stream, head, look[0]))
    except ModelError as error:
        return Answer(graph, pairs, None, str(error))


def written(manifest: Manifest, head: HeadId, tokens: tuple[int, ...]) -> list[Written]:
    """What the head writes when it looks at tokens (ids), from its weights."""
    return _written(manifest.model, manifest.dtype, manifest.weights, head, tokens)


@st.cache_resource(max_entries=64, show_spinner=False)
def _written(
    model: str, dtype: str, weights: str, head: HeadId, tokens: tuple[int, ...]
) -> list[Written]:
    from attn.analyse.why.vocabulary import written_by_looking

    session = models().get(model, dtype=dtype)
    session.need_weights(weights)
    return written_by_looking(session, head, tokens, n=MOST_WORDS)


def strongest_look(manifest: Manifest, ids: tuple[int, ...], head: HeadId) -> Look:
    """The pair of a text with the highest multiple, the first source and short rows left out."""
    layer = read_layer(manifest, ids, head.layer)
    scores = layer.patterns[head.head] * layer.visible[:, None]
    scores = scores.copy()
    scores[:, 0] = 0
    scores[: min(manifest.min_row, len(ids) - 1)] = 0
    dst, src = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return int(dst), int(src)


def chosen_look(manifest: Manifest, ids: tuple[int, ...], head: HeadId) -> Look:
    """The look that the link names, where the text has it; else the strongest one."""
    for dst, src in read_pairs(str(st.session_state["look"]))[:1]:
        if max(dst, src) < len(ids) and src <= dst:
            return dst, src
    return strongest_look(manifest, ids, head)


def set_look(look: Look | None) -> None:
    """Ask about another look of the same text; None for the strongest of the head."""
    st.session_state["look"] = "" if look is None else write_pairs([look])
