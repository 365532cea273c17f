"""The graph of a look: which earlier looks, and what else, it is made of, and how much each gives.

``graph.js`` is built from ``frontend/graph_source.js`` by ``make graph``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from attn.formatting import shown


@dataclass(frozen=True)
class Node:
    """A look of a head, or something else that is written at a token."""

    id: str
    title: str
    """What it is: "L18H6", "MLP 3", "embedding"."""
    text: str
    """What it is about, of tokens' texts: "ferry → Castell"."""
    position: int
    """The token that it is written at."""
    layer: int
    """-1 for embedding and position."""
    head: str
    """"L18H6", or "" where it is no look."""
    open: bool
    """Whether it was followed further."""


@dataclass(frozen=True)
class Edge:
    """What one node gives another."""

    source: str
    target: str
    nats: float
    side: str
    """Into which side of the target's score it goes: "query" or "key"."""


_FOLDER = Path(__file__).parent
_HTML = """<div class="graph">
<div class="legend">
<span><i class="plus"></i> raises the look</span>
<span><i class="minus"></i> lowers it</span>
<span><i class="query"></i> through the query</span>
<span><i class="key"></i> through the key</span>
<span>the thicker, the more nats; read from the bottom up</span>
</div>
<div class="box"><div class="stage" role="group"
aria-label="Graph of looks. The arrow keys go from one to the next."></div></div>
<div class="told" role="status"></div>
<ul class="words" aria-label="The graph in words"></ul>
</div>"""

_graph = st.components.v2.component(
    "attn_why_graph",
    html=_HTML,
    css=(_FOLDER / "graph.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "graph.js").read_text(encoding="utf-8"),
)


def why_graph(
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    *,
    tokens: Sequence[str],
    selected: str,
    key: str,
    on_pick: Callable[[str], None],
) -> None:
    """Draw the graph. A click on a node calls ``on_pick`` with its id before the next run.

    ``tokens`` the texts of all tokens, which name the columns; ``selected`` the id of the node
    that is marked, "" for none; ``key`` a name of its own on the page.
    """
    by_id = {node.id: node for node in nodes}
    if len(by_id) < len(nodes):
        raise ValueError("Two nodes have the same id.")
    for edge in edges:
        if edge.source not in by_id or edge.target not in by_id or edge.source == edge.target:
            raise ValueError(f"No edge can go from {edge.source!r} to {edge.target!r}.")
        if not math.isfinite(edge.nats):
            raise ValueError(f"{edge.source!r} gives {edge.target!r} {edge.nats} nats.")
        if edge.side not in ("query", "key"):
            raise ValueError(f"A side is query or key, not {edge.side!r}.")
    columns = sorted({node.position for node in nodes})

    def picked() -> None:
        node = st.session_state[key].node
        if node in by_id:
            on_pick(node)

    _graph(
        key=key,
        data={
            "nodes": [
                {
                    "id": node.id,
                    "title": shown(node.title, " "),
                    "text": shown(node.text, " "),
                    "position": node.position,
                    "layer": node.layer,
                    "look": bool(node.head),
                    "open": node.open,
                    "label": node_words(node),
                }
                for node in nodes
            ],
            "edges": [
                {
                    "source": edge.source,
                    "target": edge.target,
                    "nats": edge.nats,
                    "short": _signed(edge.nats),
                    "side": edge.side,
                    "words": edge_words(edge, by_id[edge.source], by_id[edge.target]),
                }
                for edge in edges
            ],
            "columns": [
                [place, shown(tokens[place]) if 0 <= place < len(tokens) else ""]
                for place in columns
            ],
            "selected": selected,
        },
        on_node_change=picked,
    )


def node_words(node: Node) -> str:
    """A node as a sentence: what is read aloud of it."""
    followed = "followed further" if node.open else "not followed further"
    return f"{_name(node)}, at token {node.position}, {followed}"


def edge_words(edge: Edge, source: Node, target: Node) -> str:
    """An edge as a sentence."""
    verb = "raises" if edge.nats >= 0 else "lowers"
    size = f"{abs(edge.nats):.3g} nats"
    return f"{_name(source)} {verb} {_name(target)} by {size} through the {edge.side}"


def _name(node: Node) -> str:
    return shown(f"{node.title} {node.text.strip(' ')}".strip(" "), " ")


def _signed(nats: float) -> str:
    """A number as an edge shows it: "+1.25", "−0.30", "+0.012"."""
    size = abs(nats)
    return f"{'−' if nats < 0 else '+'}{size:{'.2f' if size >= 0.095 else '.2g'}}"
