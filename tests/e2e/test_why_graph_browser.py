"""The graph of a look in a real browser: hostile texts, clicks, keys, and narrow windows."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.conftest import HOSTILE
from tests.e2e.serving import READY, ROOT, Server, free_port, running
from tests.e2e.test_hostile import expect_inert

SCRIPT = """
import streamlit as st

from attn.ui.why.graph import Edge, Node, why_graph

HOSTILE = {hostile!r}


def pick(node):
    st.session_state["picked"] = node


st.header("Why")
shown = int(st.query_params.get("nodes", 40))
nodes, edges = [], []
for i in range(shown):
    layer, position = 20 - i // 3, 60 - i * 7 % 50
    text = HOSTILE[i % len(HOSTILE)]
    nodes.append(Node(f"<i>{{i}}", f"L{{layer}}H{{i % 12}}", text, position, layer, "L0H0", i < 9))
    if i:
        target = nodes[max(i // 2 - 1, 0)]
        if target.layer > layer:
            edges.append(Edge(nodes[i].id, target.id, (-1) ** i * 3 / i, ("query", "key")[i % 2]))
picked = st.session_state.get("picked", nodes[0].id)
why_graph(nodes, edges, tokens=HOSTILE * 20, selected=picked, key="graph", on_pick=pick)
st.text(f"Picked: {{picked}}")
"""


@pytest.fixture(scope="module")
def graph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("why")
    (folder / "page.py").write_text(SCRIPT.format(hostile=HOSTILE), encoding="utf-8")
    port = free_port()
    options = {"address": "127.0.0.1", "port": port, "headless": "true", "fileWatcherType": "none"}
    command = [sys.executable, "-m", "streamlit", "run", "page.py"]
    for name, value in options.items():
        command += [f"--server.{name}", str(value)]
    command += ["--browser.gatherUsageStats", "false"]
    with running(command, folder, folder / "log.txt", port, PYTHONPATH=ROOT) as server:
        yield server


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    page.locator(READY).wait_for()
    page.locator(".node").first.wait_for()
    return page


def overlapping(page: Page) -> int:
    """How many pairs of nodes lie over each other."""
    found: int = page.locator(".stage").evaluate("""stage => {
      const boxes = [...stage.querySelectorAll(".node")].map(one => one.getBoundingClientRect())
      return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
        a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length
    }""")
    return found


@pytest.mark.parametrize("nodes", [1, 4, 60])
def test_nodes_keep_their_columns_and_lie_apart(
    new_page: Callable[[], Page], graph_server: Server, nodes: int
) -> None:
    page = opened(new_page(), graph_server.address(nodes=nodes))
    expect(page.locator(".node")).to_have_count(nodes)
    assert overlapping(page) == 0
    expect_inert(page)
    places = page.locator(".names small").all_inner_texts()
    assert places == sorted(places, key=int)
    lefts = page.locator(".names > div").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().left)"
    )
    assert lefts == sorted(lefts)


def test_clicks_and_keys_pick_a_node(new_page: Callable[[], Page], graph_server: Server) -> None:
    page = opened(new_page(), graph_server.address())
    expect(page.locator(".node[aria-pressed=true]")).to_have_count(1)
    page.locator(".node").nth(2).click()
    expect(page.get_by_text("Picked: <i>2", exact=True)).to_be_visible()
    expect(page.locator(".node").nth(2)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowRight")
    page.locator("h2").hover()
    focused = page.locator(".node:focus-visible")
    expect(focused).to_have_attribute("data-id", re.compile("<i>[01]"))
    expect(page.locator(".told")).to_have_text(str(focused.get_attribute("aria-label")))
    expect(page.locator("svg.dimmed")).to_have_count(1)
    name = str(focused.get_attribute("data-id"))
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"Picked: {name}", exact=True)).to_be_visible()
    expect(page.locator(".node[aria-pressed=true]")).to_have_attribute("data-id", name)
    expect(page.locator(".words li")).to_have_count(page.locator(".line").count())
    expect_inert(page)


def test_a_narrow_window_scrolls_the_graph_alone(
    new_context: Callable[..., BrowserContext], graph_server: Server
) -> None:
    context = new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page = opened(context.new_page(), graph_server.address())
    wide, inner = page.locator(".box").evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert wide > inner
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator(".node[aria-pressed=true]")).to_be_in_viewport()
    page.set_viewport_size({"width": 700, "height": 800})
    expect(page.locator(".node[aria-pressed=true]")).to_be_in_viewport()
