"""Switching looks and heads off on the Prompt page."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from attn.analyse.interventions import Intervention, intervene
from attn.heads import HeadId
from tests.conftest import Tiny
from tests.ui.conftest import Start, said

SENTENCE = "the cat sat on the mat and the dog sat on the mat"
HEAD = HeadId(0, 2)


@pytest.mark.parametrize(
    ("asked", "change"),
    [
        ({"off": "looks", "pairs": "9-4,7-2"}, Intervention(HEAD, "looks", ((9, 4), (7, 2)))),
        (
            {"off": "looks", "pairs": "9-4", "evened": 1},
            Intervention(HEAD, "looks", ((9, 4),), renormalise=True),
        ),
        ({"off": "head"}, Intervention(HEAD, "head")),
        ({"off": "mean"}, Intervention(HEAD, "mean")),
        ({"off": "row", "held": 9, "instead": 3}, Intervention(HEAD, "row", dst=9, row=3)),
    ],
)
def test_what_is_lost_is_on_screen(
    start: Start, gpt2: Tiny, asked: dict[str, object], change: Intervention
) -> None:
    app = start("prompt", layer=0, head=2, text=SENTENCE, **asked)
    wanted = intervene(gpt2.session, gpt2.ids(SENTENCE), [change])
    lost = (wanted.after - wanted.before)[1:]
    (told,) = re.findall(r"\*\*([+-][0-9.]+) nats a token\*\*", said(app))
    assert float(told) == pytest.approx(lost.mean(), abs=6e-4)
    bars = next(
        figure["data"][0]
        for figure in (json.loads(chart.proto.spec) for chart in app.get("plotly_chart"))
        if figure["data"][0]["type"] == "bar"
    )
    np.testing.assert_allclose(sorted(bars["x"]), sorted(lost[lost != 0]), atol=1e-6)
    first = wanted.moved[0]
    assert f"**{first.head}** {first.mean:.3f}" in app.button(key=f"moved {first.head}").label


def test_nothing_runs_until_it_is_asked_for(start: Start) -> None:
    app = start("prompt", layer=0, head=2, text=SENTENCE)
    assert "nats a token" not in said(app)
    assert "Choose what L0H2" in said(app)
    for asked in ({"off": "looks"}, {"off": "row"}):
        app = start("prompt", layer=0, head=2, text=SENTENCE, **asked)
        assert app.info


def test_a_later_head_is_selected_by_a_click(start: Start) -> None:
    app = start("prompt", layer=0, head=2, text=SENTENCE, off="head")
    button = next(one for one in app.button if str(one.key).startswith("moved L1"))
    button.click().run()
    assert not app.exception
    assert app.query_params["layer"] == "1"
    assert "in the last layer" in said(app)
