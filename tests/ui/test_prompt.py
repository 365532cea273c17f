"""The Prompt page: the user's own text, on the real way through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attn.errors import ModelError
from attn.heads import HeadId
from attn.index.index import Index
from attn.show.charts.colors import shades
from attn.ui import library
from attn.ui.state import LONGEST_TEXT
from tests.conftest import Tiny
from tests.ui.conftest import HOSTILE, Start, said

SENTENCE = "the cat sat on the mat and the dog sat on the mat"


def drawn(app: Any) -> dict[str, Any]:
    """The one Plotly figure of the page."""
    import json

    (chart,) = app.get("plotly_chart")
    found: dict[str, Any] = json.loads(chart.proto.spec)
    return found


def test_heat_map_of_the_text(start: Start, gpt2: Tiny, index: Index) -> None:
    app = start("prompt", layer=1, head=2, text=SENTENCE, rest=0)
    ids = gpt2.ids(SENTENCE)
    reading = library.read_layer(index.manifest, tuple(ids), 1)
    expected = gpt2.session.pattern(ids, HeadId(1, 2)).numpy()
    np.testing.assert_allclose(reading.patterns[2], expected, atol=1e-3)
    heat = drawn(app)["data"][0]
    assert len(heat["x"]) == len(ids)
    assert heat["x"][0].startswith("0 ")
    assert "All heads of layer 1" in said(app)


def test_the_text_stays_when_the_head_changes(start: Start) -> None:
    app = start("prompt", layer=0, head=0)
    app.text_area(key="text").set_value(SENTENCE).run()
    app.slider(key="head").set_value(3).run()
    app.switch_page("pages/heads.py").run()
    app.switch_page("pages/prompt.py").run()
    assert app.text_area(key="text").value == SENTENCE
    assert "L0H3 on your text" in said(app)
    assert app.query_params["text"] == SENTENCE


def test_a_long_text_stays_out_of_the_link(start: Start) -> None:
    app = start("prompt")
    app.text_area(key="text").set_value("x" * (LONGEST_TEXT + 1)).run()
    assert "text" not in app.query_params
    assert "a link leaves it out" in said(app)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Write or paste a text"),
        ("  \n ", "Write or paste a text"),
        ("x", "That is one token"),
        ("one two three four five " * 60, "this page shows 128: shorten it"),
    ],
)
def test_texts_that_cannot_be_shown_get_a_sentence(start: Start, text: str, sentence: str) -> None:
    app = start("prompt", layer=1, head=0)
    app.text_area(key="text").set_value(text).run()
    assert sentence in said(app)
    assert not app.get("plotly_chart")


def test_hostile_text_is_neutral_in_labels(start: Start) -> None:
    app = start("prompt", layer=0, head=0)
    app.text_area(key="text").set_value(HOSTILE[1][:60] + " $x$ <b>").run()
    heat = drawn(app)
    names = heat["data"][0]["x"] + heat["data"][0]["y"]
    assert any("&lt;" in name for name in names)
    assert not any("<" in name or "$" in name for name in names)


def test_a_model_that_fails_is_a_notice(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("Model `x` cannot be loaded (<b>no</b>): choose another model.")

    monkeypatch.setattr(library.Models, "get", refuse)
    app = start("prompt", layer=0, head=0)
    assert len(app.error) == 1
    assert "choose another model" in said(app)
    assert "\\<b\\>" in app.error[0].value


def test_other_weights_than_those_scanned_are_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch, gpt2: Tiny
) -> None:
    class Other:
        weights = "0" * 64

        def need_weights(self, weights: str) -> None:
            type(gpt2.session).need_weights(self, weights)

        def __getattr__(self, name: str) -> Any:
            return getattr(gpt2.session, name)

    library._read_layer.clear()
    monkeypatch.setattr(library.Models, "get", lambda *_, **__: Other())
    app = start("prompt", layer=0, head=0)
    assert "other weights" in said(app)
    assert not app.get("plotly_chart")


def test_shades_end_where_the_scale_ends() -> None:
    np.testing.assert_array_equal(shades(np.array([0.0, 0.25, 1.0, np.nan])), [0, 128, 255, 0])
