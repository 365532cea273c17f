"""A description's score on the page: the table, the verdict, and what it was measured on."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attn.describe.questions import TIERS
from attn.describe.report import Report
from attn.describe.score import Result, interval_text
from attn.describe.trial import SHUFFLED
from attn.ui.notices import plain

METHODS = """
A description is written from examples of *training* documents, four fifths of all, chosen by a hash
of their text. It is tested on the *held-out* fifth, by a language model that sees the description
and the text, never the attention.

- **Pair test**: does the head, at this destination, attend to this source? Yes: pairs above
  average, from all bands of attention, each band by its share of the head's attention above
  average and a twentieth at least. No: pairs at or below average, in three tiers: another
  source of the same row, a pair as far apart elsewhere, the same source token seen from another
  destination. The value is the area under the ROC curve (ROC-AUC) where the server gives
  log-probabilities, else the balanced accuracy; chance is 0.50.
- **Pick of five**: which of five sources, one strong and four at or below average? Chance is 0.20.
- **Intervals** are 95 %: Newcombe's for the area and Wilson's for the share, widened to a bootstrap
  over documents where that is wider.
- **To beat**: another head's description, read by the same model, and five rules without one:
  previous token, first token (the earlier, the better), same token, nearest token, and the token
  that gets most of the head's attention.
- **Above it by** is the description's value less a baseline's on the same questions, its interval
  from the same draws of documents for both.
- **Good** means that the low end of both intervals is above chance, and the low end of every
  difference above 0. A true description that says no more than a rule does is not called good: the
  rule is enough.
- An answer that cannot be read counts as a coin's, and is counted beside the score.

A low score can be the judge's fault: a weak language model reads badly. Near copies of one text,
with a word changed, are different documents and may be on both sides.
"""
"""What the Methods page says of scores."""


def show_report(report: Report) -> None:
    """Show the verdict, then the table with every baseline, then how it was measured."""
    box, icon = (st.success, "check_circle") if report.verdict.good else (st.warning, "error")
    box(plain(report.verdict.text), icon=f":material/{icon}:")
    names = {SHUFFLED: f"{SHUFFLED} ({report.other})"}
    show_results(report.results, names)
    pick, when = report.result.pick, report.created[:16].replace("T", " ")
    asked = report.result.pair.n + (pick.n if pick else 0)
    st.caption(
        f"Pair test: {report.result.method} of {report.result.pair.n} pairs, chance 0.50, then the "
        f"same with each kind of no apart. Pick of five: share right of {pick.n if pick else 0}, "
        f"chance 0.20. In brackets 95 % intervals. All on {report.documents} held-out documents. "
        f"**{report.result.unread} of {asked} answers could not be read**; they count as a coin's. "
        f"Judged by {plain(report.judge)} on {plain(when)}, "
        f"{report.prompt_tokens + report.answer_tokens:,} tokens."
    )


def show_results(results: Sequence[Result], names: dict[str, str] | None = None) -> None:
    """Show one row for each judge."""
    rows = []
    for result in results:
        name = (names or {}).get(result.name, result.name)
        row = {"description or rule": name, "pair test": interval_text(result.pair)}
        row |= {tier: interval_text(result.tiers.get(tier), short=True) for tier in TIERS}
        row |= {"pick of five": interval_text(result.pick)}
        if any(one.pair_behind for one in results):
            row["above it by: pairs"] = interval_text(result.pair_behind)
            row["above it by: picks"] = interval_text(result.pick_behind)
        rows.append(row)
    st.table(rows)
