"""The words that code, pages and reports use, each defined once. Backticks mark code."""

from __future__ import annotations

WORDS = {
    "destination `dst` (query), source `src` (key)": (
        "row and column of a pattern: row `dst` says where that position looks"
    ),
    "pattern": "attention of one head after the softmax, `[dst, src]`; each row adds to 1",
    "attention `a`": "one cell of it, 0 to 1",
    "visible(dst)": (
        "how many sources the mask lets that row see: `dst + 1` in a causal model, at most "
        "the window in a sliding one, all in a bidirectional one"
    ),
    "multiple": "`a × visible(dst)`: how many times the row's average this source got",
    "sink": (
        "the first position, where heads rest. It is left out of the rankings, as are the special "
        "tokens that end an encoder's windows, and its mass is reported"
    ),
    "above average": (
        "a pair with multiple over 1, in a row from `min_row` on (10 unless the scan said "
        "otherwise), its source neither the first position nor a special token"
    ),
    "write": (
        "`a × ‖v_src · W_O‖`: attention weighted by the length of what the source's value "
        "moves; kept where the scan asked for it"
    ),
    "budget": (
        "all attention of a head, cut into parts that do not overlap: first position, self, "
        "previous token, special tokens (in encoders), earlier same token, induction, punctuation "
        "and line ends, the rest; a pair counts in the first that claims it"
    ),
    "lift": (
        "a source token's attention over what a head that spreads every row evenly would give it"
    ),
    "example": "one document, destination and source, with its scores and its row",
    "head": "`L10H7`: layer 10, head 7, both counted from 0, everywhere",
    "scan, index": (
        "running the model over a corpus once, and what that leaves for the pages to read"
    ),
}
"""Word → meaning."""
