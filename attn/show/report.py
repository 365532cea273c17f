"""A head's report: everything the index says about it, as one HTML page. No torch, no Streamlit.

Every number is the index's own. What comes from a corpus, a model's name or a language model is
escaped where it becomes HTML: in :func:`_text`, in :mod:`attn.html_tables` and in
:mod:`attn.show.token_html`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

from attn.analyse.roles import roles, told
from attn.analyse.similar import similar
from attn.analyse.summary import not_measured, summary
from attn.describe.questions import TIERS
from attn.describe.report import Report
from attn.describe.score import interval_text
from attn.describe.store import Descriptions
from attn.describe.trial import SHUFFLED
from attn.files import written_whole
from attn.formatting import shown
from attn.heads import HeadId
from attn.html_tables import Safe, table
from attn.index.archive import writing_to
from attn.index.index import Index
from attn.index.query import Ranking
from attn.index.token_tables import TokenRow
from attn.measure.budget import PART_TITLES
from attn.measure.metrics import WAYS
from attn.measure.scores import BANDS
from attn.show import charts, html_page
from attn.show.glossary import WORDS
from attn.show.html_page import place
from attn.show.token_html import STYLE, example_head, example_text, legend

_MAPS = 6
_TOKENS = 25
_OF_BAND = 2
_SIMILAR = 10

_STYLE = """<style>
h1 { line-height: 1.2; margin: 0 0 .3rem; } h2 { margin: 2.5rem 0 .5rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
.maps, .pair { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.maps h3, .pair h3 { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
.metrics td:nth-child(2), .metrics td:nth-child(3) { white-space: nowrap; }
@media screen and (max-width: 40rem) {
  .metrics tr { display: grid; grid-template-columns: 1fr auto auto; }
  .metrics tr > :last-child { grid-column: 1 / -1; }
  .metrics tr > :not(:last-child) { border: 0; font-weight: 600; }
}
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid var(--line); }
code, .command { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  font-size: .875em; }
.command, blockquote { white-space: pre-wrap; margin: .5rem 0; padding: .6rem .8rem;
  border: 1px solid var(--line); border-radius: .4rem; overflow-wrap: anywhere; }
.example { padding: .7rem 0; border-bottom: 1px solid var(--line); break-inside: avoid; }
.quiet { opacity: .75; font-size: .875rem; } .warning { border-left: 4px solid #f76707;
  padding-left: .7rem; margin: .5rem 0; }
summary { cursor: pointer; margin: .7rem 0; } dt { font-weight: 600; } dd { margin: 0 0 .5rem; }
@media print { .wide { overflow: visible; } h2, h3 { break-after: avoid; } }
</style>"""


def report(index: Index, head: HeadId | str, *, n: int = 10, seed: int = 0) -> str:
    """A head's whole page as one HTML file that needs no network: some 5 MB, most of it Plotly.

    It has the head's numbers and budget, its place on the maps of all heads, its tokens, ``n``
    ranked and ``n`` random examples (``seed`` of their draw) and some of each band, its weights,
    the heads most like it, the descriptions kept beside the index with their scores, the words
    used, and the commands that make it again. The same index, descriptions and arguments give the
    same bytes. Raises HeadError for a head out of range, IndexDamaged or DescriptionStoreError for
    a file that cannot be read.

    >>> page = attn.report(index, "L18H6", n=3)
    >>> page.startswith("<!DOCTYPE html>"), "<title>L18H6 of smollm2-135m" in page
    (True, True)
    """
    head = HeadId.parse(head) if isinstance(head, str) else head
    figures: dict[str, Any] = {}
    parts = [_STYLE, STYLE, _top(index, head)]
    if index.rows(head):
        parts += [
            *_budget(index, head, figures),
            *_maps(index, head, figures),
            *_numbers(index, head),
            *_tokens(index, head),
            *_examples(index, head, n, seed),
            *_similar(index, head),
        ]
    parts += [
        *_weights(index, head, figures),
        *_descriptions(index, head),
        *_words(),
        *_again(index, head, n, seed),
    ]
    title = f"{head} of {index.manifest.model} on {index.manifest.corpus}"
    return html_page.page(title, "\n".join(parts), figures)


def write(index: Index, head: HeadId, file: str | Path, *, n: int = 10, seed: int = 0) -> Path:
    """Write a report to a file, replacing an existing one, and return the file.

    Raises SharingError where it cannot be written, else what :func:`report` raises.
    """
    page, file = report(index, head, n=n, seed=seed), Path(file)
    with writing_to(file), written_whole(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return file


def file_name(index: Index, head: HeadId) -> str:
    """The default name of a report's file: index and head, ``.html``."""
    return f"{index.name}.{head}.html"


def _text(text: str) -> Safe:
    """Plain text as HTML, on one line, with what cannot be seen as its code."""
    return Safe(html.escape(shown(re.sub(r"\s+", " ", text), " ")))


def _code(text: str) -> Safe:
    """Words whose `code` stands in backticks, as HTML."""
    parts = _text(text).split("`")
    return Safe("".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts)))


def _rows(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table that scrolls by itself where the page is narrow."""
    return f'<div class="wide">{table(columns, rows)}</div>'


def _top(index: Index, head: HeadId) -> str:
    """Whose head it is, what was scanned, what to know first, and two sentences."""
    kept = index.manifest
    windows = "all windows" if kept.all_windows else "the first window"
    facts = [
        ("index", kept.identity[:12]),
        ("model", f"{kept.model}, {kept.n_layers} layers × {kept.n_heads} heads, {kept.dtype}"),
        ("revision", kept.revision),
        ("corpus", kept.corpus),
        ("documents", f"{kept.documents:,}, {windows} of up to {kept.ctx} tokens each"),
        ("tokens", f"{kept.tokens:,}"),
        ("counted", f"{index.rows(head):,} rows of this head, those from {kept.min_row} on"),
        ("above average", f"{index.pairs(head):,} pairs of this head"),
    ]
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts if value
    )
    known = told(roles(index, head))
    known = f"<p>{_text(known)}</p>\n" if known else ""
    warnings = "".join(f'<p class="warning">{_text(said)}</p>' for said in index.warnings())
    return (
        f"<h1>{head} of {_text(kept.model)}</h1>\n<p>{_text(summary(index, head))}</p>\n{known}"
        f'<div class="wide"><table>{rows}</table></div>\n{warnings}'
    )


def _budget(index: Index, head: HeadId, figures: dict[str, Any]) -> Iterator[str]:
    name = f"{head}.budget"
    figures[name] = charts.budget({str(head): index.budget(head)}, PART_TITLES)
    yield "<h2>Where its attention goes</h2>"
    yield place(name)


def _maps(index: Index, head: HeadId, figures: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Among all heads</h2>"
    yield f'<p class="quiet">Layers down, heads across; {head} is framed.</p><div class="maps">'
    for name in index.main_metrics[:_MAPS]:
        metric, key = index.definition(name), f"{head}.{name}"
        figures[key] = charts.grid(
            index.metric(name), head, unit=metric.unit, low_high=metric.low_high, highest=400
        )
        yield f"<div><h3>{_text(metric.title)}</h3>{place(key)}</div>"
    yield "</div>"


def _numbers(index: Index, head: HeadId) -> Iterator[str]:
    found = index.numbers(head)
    yield "<h2>Its numbers</h2>"
    yield (
        '<p class="quiet">Means over the rows counted, unless they are of the weights. The place '
        "is among all heads, the highest value first.</p>"
    )
    first = index.main_metrics
    yield _metrics(index, {name: found[name] for name in first})
    others = {name: value for name, value in found.items() if name not in first}
    yield f'<details class="more"><summary>{len(others)} more</summary>{_metrics(index, others)}'
    if index.not_measured:
        yield f'<p class="quiet">{_text(not_measured(index))}</p>'
    yield "</details>"


def _metrics(index: Index, found: dict[str, float]) -> str:
    rows = []
    for name, value in found.items():
        metric, everyone = index.definition(name), index.metric(name)
        known = bool(np.isfinite(value))
        rank = f"{int((everyone > value).sum()) + 1} of {int(np.isfinite(everyone).sum())}"
        rows.append(
            [
                metric.title,
                f"{value:.4f}" if known else "none",
                rank if known else "",
                Safe(
                    f"{_text(metric.text)} {metric.span}, {_text(metric.unit)}. "
                    f"<em>Mind:</em> {_text(metric.warning)}"
                ),
            ]
        )
    columns = ["metric", "value", "place", "what it says"]
    return f'<div class="metrics">{_rows(columns, rows)}</div>'


def _tokens(index: Index, head: HeadId) -> Iterator[str]:
    yield "<h2>Its tokens</h2>"
    yield (
        '<p class="quiet">Over the whole corpus. Mass: attention, added up. Lift: mass over what a '
        "head that looks evenly would give; a row: mass a row that begins at this token. Best: the "
        'highest multiple. Times: how often the token stands in the corpus.</p><div class="pair">'
    )
    yield f"<div><h3>Looked at most</h3>{_token_table(index.sources(head, _TOKENS), 'lift')}</div>"
    rows = index.destinations(head, _TOKENS)
    yield f"<div><h3>From where it looks, not resting</h3>{_token_table(rows, 'a row')}</div></div>"


def _token_table(rows: Sequence[TokenRow], lift: str) -> str:
    cells = [
        [
            Safe(f"<code>{html.escape(shown(row.token))}</code>"),
            f"{row.mass:.1f}",
            f"{row.lift:.2f}",
            f"{row.pairs:,}",
            f"{row.maximum:.1f}×",
            f"{row.count:,}",
        ]
        for row in rows
    ]
    return _rows(["token", "mass", lift, "pairs", "best", "times"], cells)


def _examples(index: Index, head: HeadId, n: int, seed: int) -> Iterator[str]:
    yield "<h2>Examples</h2>"
    yield legend()
    ranked, random = index.top(head, n), index.random(head, n, seed=seed)
    yield f"<h3>Ranked by multiple: {_out_of(ranked)}</h3>"
    yield from _cards(index, ranked)
    yield f"<h3>At random: {_out_of(random)}, drawn with seed {seed}</h3>"
    yield from _cards(index, random)
    for number, (low, high) in enumerate(BANDS):
        band = index.band(head, number, _OF_BAND, seed=seed)
        if band.examples:
            yield f"<h3>At random, attention from {low:g} to {high:g}</h3>"
            yield from _cards(index, band)


def _out_of(ranking: Ranking) -> str:
    return f"{len(ranking.examples)} of {ranking.pairs:,} pairs above average"


def _cards(index: Index, ranking: Ranking) -> Iterator[str]:
    kept = index.manifest
    for rank, example in enumerate(ranking.examples, 1):
        window = index.window(example.document, example.start)
        text = example_text(example, window, bidirectional=kept.bidirectional, bos=kept.bos)
        yield f'<div class="example">{example_head(example, window, rank)}{text}</div>'


def _similar(index: Index, head: HeadId) -> Iterator[str]:
    found = similar(index, head, _SIMILAR)
    if not found:
        return
    yield "<h2>Similar heads</h2>"
    yield (
        '<p class="quiet">By all metrics and by the tokens looked at; 0 is the same, two heads '
        "drawn at random are near 1.</p>"
    )
    rows = [
        [one.head, f"{one.distance:.3f}", f"{one.metrics:.3f}", f"{one.tokens:.3f}"]
        for one in found
    ]
    yield _rows(["head", "distance", "of metrics", "of tokens"], rows)


def _weights(index: Index, head: HeadId, figures: dict[str, Any]) -> Iterator[str]:
    partners, values = index.composes_with(head), index.singular_values(head)
    if not partners or not values["ov"].size:
        return
    yield "<h2>From its weights</h2>"
    if any(partners.values()):
        yield (
            '<p class="quiet">The earlier heads whose output it reads most, with the composition '
            "score, 0 to 1. Random weights of the same shapes would score about "
            f"{index.random_composition(head):.3f}.</p>"
        )
        rows = [
            [WAYS[way][0], WAYS[way][1], ", ".join(f"{one} {score:.3f}" for one, score in found)]
            for way, found in partners.items()
        ]
        yield _rows(["read by its", "what that means", "earlier heads"], rows)
    name = f"{head}.singular-values"
    figures[name] = charts.spectrum({one.upper(): some for one, some in values.items()})
    yield "<h3>Singular values of its OV and QK circuits</h3>"
    yield place(name)


def _descriptions(index: Index, head: HeadId) -> Iterator[str]:
    kept = Descriptions(index)
    found = kept.of(head)
    if not found:
        return
    yield "<h2>Descriptions</h2>"
    for one in found:
        by = "a person" if one.by_person else one.author
        when = one.created[:16].replace("T", " ")
        yield f"<h3>By {_text(by)}, {_text(when)}</h3><blockquote>{html.escape(one.text)}"
        yield "</blockquote>"
        if one.cut:
            yield '<p class="quiet">The answer ran on: it is cut at its last whole sentence.</p>'
        reports = kept.reports(one)
        if reports:
            yield _score(reports[0])
        else:
            yield '<p class="warning">Not tested: there is no reason to believe it yet.</p>'


_ABOVE = ("above it by: pairs", "above it by: picks")


def _score(found: Report) -> str:
    names = {SHUFFLED: f"{SHUFFLED} ({found.other})"}
    rows = [
        [
            names.get(one.name, one.name),
            interval_text(one.pair),
            *(interval_text(one.tiers.get(tier), short=True) for tier in TIERS),
            interval_text(one.pick),
            interval_text(one.pair_behind),
            interval_text(one.pick_behind),
        ]
        for one in found.results
    ]
    return (
        f"<p><b>{_text(found.verdict.text)}</b></p>"
        + _rows(["description or rule", "pair test", *TIERS, "pick of five", *_ABOVE], rows)
        + f'<p class="quiet">{_text(found.result.method)} of {found.result.pair.n} pairs, chance '
        "0.50, then the same with each kind of no apart; pick of five, chance 0.20; in brackets "
        f"95 % intervals. On {found.documents} held-out documents, judged by "
        f"{_text(found.judge)}; {found.result.unread} answers could not be read.</p>"
    )


def _words() -> Iterator[str]:
    yield "<h2>Words</h2><dl>"
    for word, meaning in WORDS.items():
        yield f"<dt>{_code(word)}</dt><dd>{_code(meaning)}</dd>"
    yield "</dl>"


def _again(index: Index, head: HeadId, n: int, seed: int) -> Iterator[str]:
    query = urlencode(
        {"index": index.name, "layer": head.layer, "head": head.head} | index.manifest.about
    )
    yield "<h2>Make it again</h2><p>The index, then this page:</p>"
    again = f"python -m attn report INDEX {head} -n {n} --seed {seed}"
    yield f'<pre class="command">{_text(index.manifest.command)}\n{again}</pre>'
    yield "<p>The head in the app, after the app’s address:</p>"
    yield f'<pre class="command">{_text(f"?{query}")}</pre>'
