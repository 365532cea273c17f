"""The Methods page defines every word and number on screen."""

from __future__ import annotations

from attn.metrics import METRICS
from tests.pages.conftest import Start, said


def test_every_metric_and_word_is_defined(start: Start) -> None:
    text = said(start("methods"))
    for metric in METRICS.values():
        assert metric.title in text
        assert metric.formula in text
    for word in ("destination", "multiple", "visible(dst)", "sink", "above average", "index"):
        assert word in text
    assert "Nothing is renormalised" in text or "nothing is renormalised" in text
