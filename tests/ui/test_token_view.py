"""What the token view is sent: texts, numbers, and nothing else of a text."""

from __future__ import annotations

import numpy as np
import pytest

from attn.ui.prompt.token_view import packed, plain_text


@pytest.mark.parametrize("causal", [True, False])
def test_packed_patterns_are_found_where_the_view_looks(causal: bool) -> None:
    draw = np.random.default_rng(0)
    patterns = draw.random((3, 7, 7)).astype(np.float16)
    if causal:
        patterns = np.tril(patterns)
    cells = packed(patterns, causal=causal)
    for head, dst, src in np.ndindex(patterns.shape):
        if causal and src > dst:
            continue
        place = dst * (dst + 1) // 2 + src if causal else dst * 7 + src
        assert cells[head, place] == patterns[head, dst, src]
    assert cells.shape == (3, 28 if causal else 49)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" the\n", " the\n"),
        ("a\tb", "a\tb"),
        ("\u202ex\x00", "\\u202ex\\x00"),
        ("😀 שלום", "😀 שלום"),
    ],
)
def test_plain_text_keeps_spaces_and_spells_out_what_cannot_be_seen(text: str, wanted: str) -> None:
    assert plain_text(text) == wanted
