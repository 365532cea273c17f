"""The Heads page: what it shows first, what moves the selection, what the URL may say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import streamlit as st

from attn.heads import HeadId
from attn.index.index import Index
from attn.measure.metrics import DEFINED
from tests.ui.conftest import Start, said


def shown_head(app: object) -> HeadId:
    return HeadId(int(app.query_params["layer"]), int(app.query_params["head"]))  # type: ignore[attr-defined]


def test_first_visit_shows_the_strongest_induction_head(start: Start, index: Index) -> None:
    app = start()
    best = np.unravel_index(index.metric("induction").argmax(), (2, 4))
    assert shown_head(app) == HeadId(int(best[0]), int(best[1]))
    assert app.slider(key="layer").value == best[0]
    assert app.slider(key="head").value == best[1]
    assert f"Head {shown_head(app)}" in said(app)
    assert app.query_params["index"] == index.name


def test_every_metric_is_a_choice_and_a_number_with_help(start: Start, index: Index) -> None:
    app = start(layer=1, head=2, metrics=1)
    assert len(app.metric) == len(index.metric_names)
    values = [metric.value for metric in app.metric]
    for name, value in index.numbers(HeadId(1, 2)).items():
        assert f"{value:.3f}" in values or f"{value:.2f}" in values, name
    assert all(metric.help for metric in app.metric)


@pytest.mark.parametrize("lowest", [False, True])
def test_best_heads_follow_the_metric(start: Start, index: Index, lowest: bool) -> None:
    app = start()
    app.selectbox(key="metric").select("entropy").run()
    if lowest:
        app.toggle(key="lowest").set_value(True).run()
    values = index.metric("entropy")
    place = values.argmin() if lowest else values.argmax()
    head = HeadId(*(int(i) for i in np.unravel_index(place, values.shape)))
    buttons = [button for button in app.button if (button.key or "").startswith("best ")]
    assert buttons[0].label == f"**{head}** {values[head.layer, head.head]:.3f}"
    assert app.query_params["metric"] == "entropy"
    buttons[0].click().run()
    assert shown_head(app) == head


def test_buttons_walk_through_the_layers_and_round_the_ends(start: Start) -> None:
    app = start(layer=0, head=3)
    app.button(key="next_head").click().run()
    assert shown_head(app) == HeadId(1, 0)
    app.button(key="previous_head").click().run()
    assert shown_head(app) == HeadId(0, 3)
    app.slider(key="layer").set_value(1).run()
    app.button(key="next_head").click().run()
    assert shown_head(app) == HeadId(0, 0)
    assert app.slider(key="layer").value == 0


def test_selection_is_shared_by_the_pages(start: Start) -> None:
    app = start(layer=0, head=1)
    app.slider(key="head").set_value(2).run()
    app.selectbox(key="metric").select("previous").run()
    app.switch_page("pages/examples.py").run()
    assert "Examples of L0H2" in said(app)
    app.switch_page("pages/heads.py").run()
    assert app.selectbox(key="metric").value == "previous"
    assert "Head L0H2" in said(app)


@pytest.mark.parametrize(
    ("query", "sentence", "head"),
    [
        ({"layer": 99, "head": 1}, "its layers are 0 to 1: layer 1 is shown", HeadId(1, 1)),
        ({"layer": 0, "head": 4}, "its heads are 0 to 3: head 3 is shown", HeadId(0, 3)),
        ({"layer": -1, "head": 2}, "its layers are 0 to 1: layer 0 is shown", HeadId(0, 2)),
        ({"layer": "<b>", "head": 2}, "The link asks for layer <b>", HeadId(0, 2)),
        ({"layer": 1, "head": 2, "metric": "![x](http://x.y/z)"}, "has no metric", HeadId(1, 2)),
        ({"layer": 1, "head": 2, "lowest": "yes"}, "'yes', which is not 0 or 1", HeadId(1, 2)),
    ],
)
def test_a_bad_value_in_the_link_is_told_and_mended(
    start: Start, query: dict[str, object], sentence: str, head: HeadId
) -> None:
    app = start(**query)
    assert len(app.warning) == 1
    assert sentence in said(app)
    assert "](" not in app.warning[0].value.replace("\\]\\(", "")
    assert shown_head(app) == head
    app.slider(key="layer").set_value(1 - head.layer).run()
    assert not app.warning


def test_unknown_index_shows_its_command_and_no_rows(start: Start, index: Index) -> None:
    query = {"index": "gpt2_x_12", "model": "gpt2; rm x", "corpus": "news.csv:body", "ctx": "64"}
    for page in ("heads", "examples", "prompt"):
        app = start(page, **query)
        assert "The link shows the index **gpt2_x_12**, which is not on this machine" in said(app)
        command = "python -m attn scan --model 'gpt2; rm x' --corpus news.csv:body --ctx 64"
        assert app.code[0].value == command
        assert not app.metric
        assert not [e for e in app.html if "attn-row" in e.value]
        assert app.query_params["index"] == "gpt2_x_12"
    app.button(key="show_newest").click().run()
    assert app.query_params["index"] == index.name


def test_an_index_that_is_not_here_can_be_made(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = {"index": "x", "model": "gpt2", "corpus": "news.csv:body", "ctx": "64", "docs": "many"}
    app = start("examples", **query)
    app.button(key="make_it").click().run()
    app.switch_page("pages/scan.py").run()  # where the button goes, in a browser
    assert [one.value for one in app.main.text_input] == ["gpt2", "news.csv:body"]
    assert app.main.number_input(key="scan_ctx").value == 64
    assert app.main.number_input(key="scan_docs").value is None
    app = start("examples", **query, skip=5)  # the Scan page cannot leave documents out
    assert "make_it" not in {button.key for button in app.button}
    monkeypatch.setenv("ATTN_SCANS", "0")
    app = start("examples", **query)
    assert "make_it" not in {button.key for button in app.button}


def test_the_address_carries_every_value_defaults_too(start: Start) -> None:
    app = start()
    wanted = {"index", "layer", "head", "metric", "lowest", "model", "corpus", "ctx"}
    assert wanted <= set(app.query_params)
    app.switch_page("pages/examples.py").run()
    wanted = {"index", "layer", "head", "order", "by", "token", "rows", "one", "seed", "open"}
    assert wanted <= set(app.query_params)


def test_the_head_in_words_by_budget_and_by_token(start: Start, index: Index) -> None:
    from attn.analyse.summary import summary

    app = start("heads", layer=1, head=2, tokens=1)
    assert summary(index, HeadId(1, 2)) in said(app)
    assert len(app.get("plotly_chart")) == 2  # map, budget
    masses = app.dataframe[0].value["mass"].tolist()
    assert masses == [row.mass for row in index.sources(HeadId(1, 2), 200)]


def test_closed_parts_are_not_drawn_and_open_ones_are_in_the_link(start: Start) -> None:
    app = start("heads", layer=1, head=2)
    few, charts = len(app.metric), len(app.get("plotly_chart"))
    assert not app.dataframe
    assert (app.query_params["metrics"], app.query_params["circuits"]) == ("0", "0")
    app = start("heads", layer=1, head=2, metrics=1, circuits=1)
    assert len(app.metric) > few
    assert len(app.get("plotly_chart")) == charts + 1
    assert (app.query_params["metrics"], app.query_params["circuits"]) == ("1", "1")
    app.session_state["circuits"] = False
    app.run()
    assert len(app.get("plotly_chart")) == charts
    assert app.query_params["circuits"] == "0"


@pytest.mark.parametrize("page", ["heads", "describe"])
def test_the_selected_head_can_be_had_as_a_report(start: Start, index: Index, page: str) -> None:
    app = start(page, layer=1, head=2)
    (button,) = (b for b in app.get("download_button") if b.proto.label == "Download report")
    assert "L1H2 as one HTML file" in button.proto.help


@pytest.mark.parametrize(("page", "figures"), [("heads", 3), ("prompt", 1), ("compare", 3)])
def test_every_figure_can_be_saved(start: Start, page: str, figures: int) -> None:
    app = start(page, layer=1, head=2, **({"circuits": 1} if page == "heads" else {}))
    assert len(app.get("plotly_chart")) == figures
    labels = [found.proto.popover.label for found in app.get("popover")]
    assert labels.count("Save figure") == figures
    saved = [b for b in app.get("download_button") if b.proto.label == "Interactive HTML"]
    assert len(saved) == figures


def test_a_head_wears_its_roles(
    start: Start, index: Index, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A badge beside the selected head, and the role in the list; none where none is reached."""
    values = index.metric("previous_random")
    strongest = HeadId(*(int(i) for i in np.unravel_index(values.argmax(), values.shape)))
    highest = float(values.max())
    made = replace(DEFINED["previous_random"], threshold=highest)
    monkeypatch.setitem(DEFINED, "previous_random", made)
    st.cache_resource.clear()  # an index that is open keeps the definitions that it was opened with
    request.addfinalizer(st.cache_resource.clear)
    text = f"previous token {highest:.2f} on random tokens"
    app = start(layer=strongest.layer, head=strongest.head)
    assert text in said(app)
    other = HeadId(1 - strongest.layer, strongest.head)
    assert text not in said(start(layer=other.layer, head=other.head))
    app = start(layer=other.layer, head=other.head, view="list")
    (table,) = [one.value for one in app.dataframe if "roles" in one.value.columns]
    assert dict(zip(table["head"], table["roles"], strict=True))[str(strongest)] == text
