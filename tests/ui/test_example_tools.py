"""The Examples page's pages of rows, bands, distances, shelf, and the way to the Prompt page."""

from __future__ import annotations

import pytest

from attn.heads import HeadId
from attn.index.index import Index
from attn.measure.scores import BANDS
from tests.ui.conftest import Start, said
from tests.ui.test_examples import HEAD, check, rows


def test_more_rows_and_earlier_ones(start: Start, index: Index) -> None:
    whole = index.top(HEAD, 12)
    app = start("examples", layer=1, head=2, rows=5)
    assert next(b for b in app.button if b.key == "Earlier rows").disabled
    for first in (6, 11):
        app.button(key="More rows").click().run()
        assert app.query_params["first"] == str(first)
        for line, example in zip(
            rows(app), index.top(HEAD, 100).examples[first - 1 :], strict=False
        ):
            assert f'attn-rank">{first}<' in rows(app)[0]
            assert f"attention {example.attention:.3f}" in line
        assert len(rows(app)) == 5
    app.button(key="Earlier rows").click().run()
    assert app.query_params["first"] == "6"
    app.toggle(key="one").set_value(True).run()  # another question begins at its first row
    assert app.query_params["first"] == "1"
    check(app, index.top(HEAD, 5, one_per_document=True))
    assert whole.examples


def test_a_link_says_the_first_row(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2, rows=5, first=6, order="random", seed=3)
    wanted = index.random(HEAD, 10, seed=3).examples[5:]
    assert [f"attention {e.attention:.3f}" in row for e, row in zip(wanted, rows(app), strict=True)]
    app = start("examples", layer=1, head=2, first=10**6)
    assert not rows(app)
    assert not app.exception
    app.button(key="Earlier rows").click().run()
    assert not app.exception


def test_bands(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2, order="banded", rows=2, seed=4)
    wanted = [
        example
        for number in reversed(range(len(BANDS)))
        for example in index.band(HEAD, number, 2, seed=4).examples
    ]
    found = rows(app)
    assert len(found) == len(wanted) > 2
    for line, example in zip(found, wanted, strict=True):
        assert f"attention {example.attention:.3f}" in line
    assert "Attention 1/2 to 1" in said(app)
    assert "Attention 0 to 1/16" in said(app)


def test_a_distance(start: Start, index: Index) -> None:
    app = start("examples", layer=1, head=2, apart="2:4")
    check(app, index.top(HEAD, 10, distance=(2, 4)))
    assert app.text_input(key="_apart").value == "2:4"
    app.text_input(key="_apart").set_value("4:2").run()
    assert "LOW:HIGH" in said(app)
    check(app, index.top(HEAD, 10, distance=(2, 4)))
    app.text_input(key="_apart").set_value(":1").run()
    assert app.query_params["apart"] == ":1"
    assert not app.warning
    check(app, index.top(HEAD, 10, distance=(None, 1)))
    app.text_input(key="_apart").set_value("").run()
    check(app, index.top(HEAD, 10))


def test_the_shelf_travels_in_the_link(start: Start, index: Index) -> None:
    example = index.top(HEAD, 1).examples[0]
    place = f"{example.document}-{example.dst}-{example.src}"
    app = start("examples", layer=1, head=2, rows=1)
    app.button(key=f"pin {place}").click().run()
    assert app.query_params["shelf"] == f"L1H2:{place}"
    assert len(rows(app)) == 2
    app = start("examples", layer=0, head=1, rows=1, shelf=f"L1H2:{place},L0H1:0-999-1")
    assert f"attention {example.attention:.3f}" in rows(app)[1]
    assert 'attn-rank">L1H2<' in rows(app)[1]
    assert "does not keep: L0H1 0-999-1" in said(app)
    app.button(key=f"to L1H2 {place}").click().run()
    assert app.query_params["head"] == "2"
    app.button(key=f"off L1H2 {place}").click().run()
    assert app.query_params["shelf"] == "L0H1:0-999-1"


@pytest.mark.parametrize("shelf", ["L1H2", "L1H2:", "x:1-2-3", "L1H2:1-2", "L1H2:a-b-c"])
def test_a_shelf_that_is_none_is_told(start: Start, shelf: str) -> None:
    app = start("examples", shelf=shelf)
    assert any("which is not examples" in w.value for w in app.warning)
    assert not app.exception


def test_an_example_is_edited_beside_its_old_self(start: Start, index: Index) -> None:
    example = index.top(HEAD, 1).examples[0]
    place = f"{example.document}-{example.dst}-{example.src}"
    text = "".join(index.window(example.document).texts)
    app = start("prompt", layer=1, head=2, text=text, before=text)
    assert len(app.get("plotly_chart")) == 1
    app.text_area(key="text").set_value(text + " and more").run()
    assert len(app.get("plotly_chart")) == 2
    assert app.query_params["before"] == text
    next(b for b in app.button if b.label == "Forget the text before").click().run()
    assert len(app.get("plotly_chart")) == 1
    app = start("examples", layer=1, head=2, rows=1)
    app.button(key=f"edit {place}").click().run()
    assert app.session_state["text"] == app.session_state["before"] == text
    assert HeadId(1, 2) == HEAD
