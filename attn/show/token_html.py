"""Renders texts as HTML, with every token shaded by the attention it gets. No Streamlit.

Everything that comes from a text is escaped here, quotes included.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Sequence

from attn.formatting import shown
from attn.heads import Example, Window
from attn.index.effects import Needed
from attn.show.charts.colors import MARK

NEAR = 28
"""Tokens shown on each side of source and destination where a text is long."""

NOT_KEPT = "not kept in the index: open the heat map"

LONG = 200
"""Texts of more tokens than this begin folded."""

STYLE = f"""<style>
.attn-row {{ line-height: 1.5; }}
.attn-head {{ display: flex; flex-wrap: wrap; gap: .15rem .75rem; align-items: baseline; }}
.attn-rank {{ opacity: .65; min-width: 1.4rem; }}
.attn-number {{ font-variant-numeric: tabular-nums; }}
.attn-quiet {{ opacity: .75; font-size: .875rem; }}
.attn-token, .attn-text {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }}
.attn-token {{ font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; }}
.attn-text {{ margin: .3rem 0 0; font-size: .875rem; line-height: 1.9; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
.attn-text span {{ background: rgb(21 170 191 / calc(var(--a, 0) * .62)); border-radius: 2px;
  padding: 2px 0; }}
.attn-text span {{ unicode-bidi: isolate; }}
.attn-text .attn-part {{ padding: 2px 3px; border-left: 1px dotted currentColor; }}
.attn-text .attn-unknown {{ text-decoration: underline wavy; text-underline-offset: 3px; }}
.attn-text .attn-first {{ opacity: .85; font-size: .75rem; }}
.attn-text .attn-src {{ outline: 2px solid {MARK}; margin: 0 3px; }}
.attn-text .attn-dst {{ border-bottom: 4px double currentColor; font-weight: 700; }}
.attn-cut {{ opacity: .65; font-style: italic; }}
.attn-legend {{ display: flex; flex-wrap: wrap; gap: .3rem 1.25rem; align-items: center;
  font-size: .875rem; }}
.attn-legend .attn-text {{ margin: 0 .4rem 0 0; line-height: 1.6; }}
.attn-row details > summary {{ cursor: pointer; font-size: .875rem; opacity: .8;
  margin-top: .35rem; }}
</style>"""


def token(text: str) -> str:
    """One token as HTML, its spaces visible."""
    return f'<span class="attn-token">{html.escape(shown(text))}</span>'


def legend() -> str:
    """What shades and marks mean, as HTML."""
    steps = "".join(
        f'<span style="--a:{math.sqrt(a):.3f}">&nbsp;{a:g}&nbsp;</span>'
        for a in (0, 0.01, 0.1, 0.5, 1)
    )
    return (
        '<div class="attn-legend">'
        '<div><span class="attn-text"><span class="attn-dst">destination</span></span> '
        "looks from here</div>"
        '<div><span class="attn-text"><span class="attn-src">source</span></span> '
        "is looked at</div>"
        f'<div>attention <span class="attn-text">{steps}</span></div>'
        '<div class="attn-quiet">10× is ten times the row’s average. Point at a token for its '
        "numbers.</div></div>"
    )


def example_head(example: Example, window: Window, rank: int | str) -> str:
    """One example's numbers as HTML: its source token, multiple, attention, and where it is.

    ``rank`` stands before them: a number, or a name.
    """
    where = f"document {example.document}, {html.escape(shown_source(window.source))}"
    rank = html.escape(str(rank))
    more = f" · {example.more}" if example.more else ""
    source = window.labels[example.src]
    only = "" if example.row is not None else " · only the source is shaded"
    return (
        f'<div class="attn-head"><span class="attn-rank">{rank}</span>{token(source)}'
        f'<span class="attn-number"><b>{_multiple(example.multiple)}</b></span>'
        f'<span class="attn-number">attention {example.attention:.3f}</span>{_write(example)}'
        f'<span class="attn-quiet">seen from {token(window.labels[example.dst])}{_apart(example)} '
        f"· {where}{more}{only}</span></div>"
    )


def example_text(
    example: Example, window: Window, *, bidirectional: bool = False, bos: bool = True
) -> str:
    """One example's text as HTML, every token shaded, source and destination marked.

    It ends at the destination, unless rows see later positions too (``bidirectional``).
    """
    n = len(window.texts) if bidirectional else example.dst + 1
    return f'<div class="attn-row">{_text(example, window, n, bos)}</div>'


def needed_head(needed: Needed, window: Window, rank: int) -> str:
    """A token that a head is needed for, as HTML: the token, by how much its loss rises, where."""
    where = f"document {needed.document}, {html.escape(shown_source(window.source))}"
    return (
        f'<div class="attn-head"><span class="attn-rank">{rank}</span>'
        f"{token(window.labels[needed.position])}"
        f'<span class="attn-number"><b>{needed.change:+.3f} nats</b></span>'
        f'<span class="attn-number">loss {needed.loss:.3f}</span>'
        f'<span class="attn-quiet">predicted after {token(window.labels[needed.position - 1])} '
        f"· {where}</span></div>"
    )


def needed_text(needed: Needed, window: Window) -> str:
    """The text up to the token that is predicted, as HTML; of a long one, its end."""
    texts, end = window.texts, needed.position
    first = max(0, end - 3 * NEAR)
    cut = _cut(first) if first else ""
    before = html.escape("".join(texts[first:end]))
    last = html.escape(texts[end] or window.labels[end])
    return (
        f'<div class="attn-row"><p class="attn-text" dir="{direction(texts, window.kinds)}">{cut}'
        f'{before}<span class="attn-dst">{last}</span></p></div>'
    )


def direction(texts: Sequence[str], kinds: Sequence[str]) -> str:
    """Which way a text runs: "rtl" or "ltr", by its first letter that has a direction."""
    for i, text in enumerate(texts):
        for char in "" if kinds and kinds[i] == "special" else text:
            way = unicodedata.bidirectional(char)
            if way in ("L", "R", "AL"):
                return "ltr" if way == "L" else "rtl"
    return "ltr"


def explained(text: str, name: str, kind: str) -> str:
    """What there is to know of a token beside what it covers, empty for most."""
    if kind == "unknown" and text != name:
        return f"unknown to the tokenizer: the model reads {name}"
    if kind == "piece" and text != name:
        return f"a part of a character: its bytes are {name}"
    return ""


def shown_source(source: str) -> str:
    """A document's source on one line, cut where it is long."""
    line = re.sub(r"\s+", " ", source)
    return shown(line if len(line) <= 80 else line[:79] + "…", space=" ")


def _multiple(value: float) -> str:
    return f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


def _write(example: Example) -> str:
    if example.write is None:
        return ""
    return f'<span class="attn-number">write {example.write:.3g}</span>'


def _apart(example: Example) -> str:
    gap = example.dst - example.src
    if gap == 0:
        return ", itself"
    side = "later" if gap > 0 else "earlier"
    return f", {abs(gap)} token{'s' if abs(gap) > 1 else ''} {side}"


def _text(example: Example, window: Window, n: int, bos: bool) -> str:
    spans, texts = [_span(example, i, window, bos) for i in range(n)], window.texts[:n]
    way = direction(window.texts, window.kinds)
    if len(texts) <= LONG:
        return f'<p class="attn-text" dir="{way}">{"".join(spans)}</p>'
    keep = set()
    for place in (example.src, example.dst):
        keep |= set(range(max(0, place - NEAR), min(len(texts), place + NEAR + 1)))
    parts, last = [], -1
    for i in sorted(keep):
        parts += [_cut(i - last - 1)] if i > last + 1 else []
        parts.append(spans[i])
        last = i
    parts += [_cut(len(texts) - last - 1)] if last < len(texts) - 1 else []
    return (
        f'<p class="attn-text" dir="{way}">{"".join(parts)}</p><details><summary>'
        f"All {len(texts)} tokens"
        f'</summary><p class="attn-text" dir="{way}">{"".join(spans)}</p></details>'
    )


def _cut(n: int) -> str:
    return f'<i class="attn-cut"> … {n} token{"s" if n > 1 else ""} … </i>'


def _span(example: Example, place: int, window: Window, bos: bool) -> str:
    row, text, label = example.row, window.texts[place], window.labels[place]
    kind = window.kinds[place] if window.kinds else ""
    if row is None:  # the index keeps this pair alone
        value, known = (example.attention, True) if place == example.src else (0.0, False)
    else:
        value, known = float(row[place]) if place < len(row) else 0.0, True
    classes = [
        name
        for name, wanted in (
            ("attn-first", kind == "special" or (bos and place == 0)),
            ("attn-part", not text),
            ("attn-unknown", kind == "unknown"),
            ("attn-src", place == example.src),
            ("attn-dst", place == example.dst),
        )
        if wanted
    ]
    marks = f' class="{" ".join(classes)}"' if classes else ""
    shade = math.sqrt(min(max(value, 0.0), 1.0)) if math.isfinite(value) else 0.0
    visible = example.multiple / example.attention if example.attention else 0.0
    told = f"attention {value:.4f}\nmultiple {value * visible:.2f}×" if known else NOT_KEPT
    known_of = explained(text, window.names[place], kind) if window.names else ""
    title = html.escape("\n".join(filter(None, (f"{place} {shown(label)}", told, known_of))))
    seen = html.escape(shown(text, " "))
    return f'<span{marks} style="--a:{shade:.3f}" title="{title}">{seen}</span>'
