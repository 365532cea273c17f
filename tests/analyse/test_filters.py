"""attn/analyse/filters.py: texts, and which heads they mean, against a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attn.analyse.filters import Range, parse, within, write
from attn.errors import QueryError
from tests.conftest import Tiny, check_sentence
from tests.scanned import HEADS


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", ()),
        ("layer:1:1", (Range("layer", 1, 1),)),
        ("induction:0.125:", (Range("induction", low=0.125),)),
        (" sink::0.5 , layer:2: ", (Range("sink", high=0.5), Range("layer", low=2))),
        ("copying:-1:-0.25", (Range("copying", -1, -0.25),)),
    ],
)
def test_texts(text: str, ranges: tuple[Range, ...]) -> None:
    assert parse(text) == ranges
    assert parse(write(ranges)) == ranges


@pytest.mark.parametrize("text", ["layer", "layer:1", "layer:1:2:3", "sink:a:", ":1:2", "x:nan:1"])
def test_others_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    check_sentence(caught.value)


def test_within_is_a_loop(tiny: Tiny, make: Callable[[Tiny, str], Any]) -> None:
    index = make(tiny, "small").index
    value = sorted(index.metric("previous").reshape(-1))[3]
    ends = {"previous": (0.0, value), "layer": (0, 0), "k_composition": (0.0, 9.0)}
    for some in (["previous"], ["layer"], ["previous", "layer"], ["k_composition"], []):
        meant = within(index, [Range(name, *ends[name]) for name in some])
        for head in HEADS:
            numbers = index.numbers(head) | {"layer": head.layer}
            inside = all(ends[n][0] <= numbers[n] <= ends[n][1] for n in some)
            assert meant[head.layer, head.head] == inside
    assert within(index, parse(f"previous::{value:.17g}")).sum() == 4  # the end is inside
    assert not within(index, parse("layer:7:"))[:].any()


def test_a_metric_that_is_not_there(gpt2: Tiny, make: Callable[[Tiny, str], Any]) -> None:
    with pytest.raises(QueryError, match="speed"):
        within(make(gpt2, "small").index, parse("speed:0:1"))
