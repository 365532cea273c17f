"""The graph of a look: what it is sent, and that what is built is what is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attn.ui.why.graph import Edge, Node, edge_words, node_words, why_graph

ROOT = Path(__file__).parents[2]
LOOK = Node("a", "L18H6", " ferry → Castell", 3, 18, "L18H6", True)
EARLIER = Node("b", "L2H3", "<b>\n\u202e → \t", 1, 2, "L2H3", False)
EMBEDDING = Node("c", "embedding", " ferry", 3, -1, "", False)


def sent(nodes: list[Node], edges: list[Edge], tokens: list[str]) -> dict[str, Any]:
    """What a page that draws this graph sends to the browser."""

    def page(nodes, edges, tokens):  # type: ignore[no-untyped-def]
        from attn.ui.why.graph import why_graph

        why_graph(nodes, edges, tokens=tokens, selected="b", key="graph", on_pick=print)

    app = AppTest.from_function(page, args=(nodes, edges, tokens), default_timeout=60).run()
    assert not app.exception
    (element,) = app.get("bidi_component")
    found: dict[str, Any] = json.loads(element.proto.json)
    return found


def test_nodes_edges_and_columns_are_sent_as_they_are_shown() -> None:
    edges = [Edge("b", "a", 2.416, "key"), Edge("c", "a", -0.0512, "query")]
    data = sent([LOOK, EARLIER, EMBEDDING], edges, ["x", "<b>\n", "y", " ferry"])
    assert data["selected"] == "b"
    assert data["columns"] == [[1, "<b>↵"], [3, "·ferry"]]
    assert [node["id"] for node in data["nodes"]] == ["a", "b", "c"]
    assert data["nodes"][0] == {
        "id": "a", "title": "L18H6", "text": " ferry → Castell", "position": 3, "layer": 18,
        "look": True, "open": True,
        "label": "L18H6 ferry → Castell, at token 3, followed further",
    }  # fmt: skip
    assert data["nodes"][1]["text"] == "<b>↵\\u202e → ⇥"
    assert not data["nodes"][2]["look"]
    assert data["edges"][0] == {
        "source": "b", "target": "a", "nats": 2.416, "short": "+2.42", "side": "key",
        "words": "L2H3 <b>↵\\u202e → ⇥ raises L18H6 ferry → Castell by 2.42 nats through the key",
    }  # fmt: skip
    assert data["edges"][1]["short"] == "−0.051"


def test_a_graph_may_be_empty_and_a_token_unknown() -> None:
    assert sent([], [], []) == {"nodes": [], "edges": [], "columns": [], "selected": "b"}
    assert sent([LOOK], [], [])["columns"] == [[3, ""]]


def test_words_say_which_way_it_goes() -> None:
    assert node_words(EMBEDDING) == "embedding ferry, at token 3, not followed further"
    words = edge_words(Edge("c", "a", -1.5, "query"), EMBEDDING, replace(LOOK, text=""))
    assert words == "embedding ferry lowers L18H6 by 1.5 nats through the query"


@pytest.mark.parametrize(
    ("nodes", "edges", "wrong"),
    [
        ([LOOK, LOOK], [], "the same id"),
        ([LOOK], [Edge("b", "a", 1.0, "key")], "No edge"),
        ([LOOK], [Edge("a", "a", 1.0, "key")], "No edge"),
        ([LOOK, EARLIER], [Edge("b", "a", float("nan"), "key")], "nan nats"),
        ([LOOK, EARLIER], [Edge("b", "a", 1.0, "value")], "not 'value'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(nodes: list[Node], edges: list[Edge], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        why_graph(nodes, edges, tokens=[], selected="", key="graph", on_pick=print)


def test_the_built_file_is_that_of_the_source() -> None:
    source = (ROOT / "frontend" / "graph_source.js").read_text(encoding="utf-8")
    built = (ROOT / "attn" / "ui" / "why" / "graph.js").read_text(encoding="utf-8")
    wanted = hashlib.sha256(source.encode()).hexdigest()
    assert wanted in built.splitlines()[0], "graph.js is behind its source: run `make graph`"
    assert "Copyright (c) 2012-2014 Chris Pettitt" in built
    assert "Permission is hereby granted, free of charge" in built
    pinned = json.loads((ROOT / "frontend" / "package.json").read_text())["dependencies"]
    assert f"@dagrejs/dagre {pinned['@dagrejs/dagre']} " in built
    for markup in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
        assert markup not in built
