"""attn/ui's pure parts: texts as HTML, notices as Markdown."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

from attn.formatting import shown
from attn.heads import Example, HeadId, Window
from attn.show.token_html import LONG, example_head, example_text, legend
from attn.ui.examples.ranking import entered_token
from attn.ui.notices import plain, sentence
from tests.ui.conftest import HARMLESS, elements


def example(n: int, dst: int, src: int, token: str = " a") -> tuple[Example, Window]:
    row = np.full(n, 0.01, np.float32)
    row[src] = 0.5
    texts = tuple(token if i == src else f" w{i}" for i in range(n))
    window = Window(3, 0, "file <b>.txt line 7", texts, tuple(range(n)))
    return Example(HeadId(0, 1), 3, dst, src, token, 0.5 * n, 0.5, row=row[: dst + 1]), window


def spans(text: str) -> list[str]:
    return re.findall(r"<span[^>]*>[^<]*</span>", text)


def test_text_ends_at_the_destination_and_marks_both() -> None:
    text = example_text(*example(20, 12, 4), bos=False)
    found = spans(text)
    assert len(found) == 13
    assert 'class="attn-src"' in found[4]
    assert 'class="attn-dst"' in found[12]
    assert "--a:0.707" in found[4]
    assert "attention 0.5000" in found[4]
    assert "multiple 10.00×" in found[4]


def test_self_attention_is_both_marks_at_once() -> None:
    assert 'class="attn-src attn-dst"' in example_text(*example(9, 5, 5), bos=False)


def test_a_bidirectional_row_shows_what_follows() -> None:
    one, window = example(20, 5, 12)
    one = Example(**{**vars(one), "row": np.full(20, 0.05, np.float32)})
    assert len(spans(example_text(one, window, bidirectional=True))) == 20


def test_a_long_text_is_folded_around_the_pair() -> None:
    n = LONG + 300
    text = example_text(*example(n, n - 1, 100), bos=False)
    folded, whole = text.split("<details>")
    assert len(spans(folded)) < 120
    assert len(spans(whole)) == n
    assert f"All {n} tokens" in whole
    assert "attn-src" in folded
    assert "attn-dst" in folded
    assert "tokens … " in folded


@pytest.mark.parametrize(
    "token",
    ["<script>a</script>", "<img src=x onerror=a>", '" onmouseover="x', "x'y", "</p><form>"],
)
def test_nothing_of_a_text_becomes_html(token: str) -> None:
    one, window = example(8, 6, 3, token)
    for text in (example_text(one, window), example_head(one, window, 1)):
        assert elements(text) <= HARMLESS
        assert html.escape(shown(token)) in text or html.escape(shown(token, " ")) in text


def test_invisible_characters_are_shown() -> None:
    one, window = example(8, 6, 3, "\n\t\u202e\x00")
    text = example_text(one, window)
    assert "↵⇥\\u202e\\x00" in text


def test_non_finite_attention_has_no_shade() -> None:
    one, window = example(8, 6, 3)
    assert one.row is not None
    one.row[2] = np.nan
    assert "--a:nan" not in example_text(one, window)


def test_legend_names_both_marks() -> None:
    assert "attn-src" in legend()
    assert "attn-dst" in legend()


@pytest.mark.parametrize(
    "text", ["![x](http://e.x/y)", "<b>", "# head", "$x$", ":red[a]", "a_b*c*", "[a](javascript:x)"]
)
def test_plain_escapes_all_of_markdown(text: str) -> None:
    assert re.sub(r"\\(.)", r"\1", plain(text)).replace("\u2060", "") == text
    assert not re.search(r"(?<!\\)[\[\]<>*_#$:`!()]", plain(text))


@pytest.mark.parametrize("text", ["http://e.x/y", "HTTPS://e.x", "see WWW.e.x", "a@e.x"])
def test_plain_leaves_no_address_to_make_a_link_of(text: str) -> None:
    read = re.sub(r"\\(.)", r"\1", plain(text))
    assert not re.search(r"https?://|www\.|\w@", read, re.IGNORECASE)


def test_sentence_keeps_code_alone() -> None:
    assert sentence("Run `python -m attn fetch`.") == "Run `python -m attn fetch`\\."
    assert sentence("a ` b <i>") == "a \\` b \\<i\\>"


def test_what_a_user_types_as_a_token() -> None:
    assert entered_token("·the", [" the"]) == " the"
    assert entered_token(" the", []) == " the"
    assert entered_token("'·the'", []) == " the"
    assert entered_token("·", ["·"]) == "·"
    assert entered_token("↵", []) == "\n"
    assert entered_token("", []) is None
