"""The texts of the Methods page, which define every word and number of the app."""

from __future__ import annotations

import streamlit as st

from attn.formatting import shown
from attn.measure.metrics import Metric, metrics
from attn.show.glossary import WORDS
from attn.ui.describe import describe
from attn.ui.heads import circuits, effects
from attn.ui.prompt import switch_off
from attn.ui.search import search
from attn.ui.why import why

MEANS = (
    "Each is a mean over the rows counted, those from `min_row` on, unless it is of the weights or "
    "of inputs made for it."
)

METRIC = "| **{m.title}** `{m.name}` | `{formula}` ({m.unit}). {m.text} {m.warning}{role} |"

EXAMPLE = (
    ("<s>", 0.50),
    (" the", 0.05),
    (" cat", 0.30),
    (" sat", 0.05),
    (" on", 0.02),
    (" the", 0.08),
)
"""The row of the worked example: its tokens up to the destination, with their attention."""

WORKED = """
The text is `the cat sat on the`, after the beginning-of-sequence token. The row is that of the last
token, ` the`: it sees {visible} sources, so its average attention is 1/{visible} = {average:.3f}.

| source | attention `a` | multiple `a × {visible}` | it counts as |
|---|---|---|---|
{rows}

- **Above average** is `cat` alone, with a multiple of {best:.2f}: the first position is left out.
  In the rankings this row gives that one example. (A scan would pass it over: it counts rows from
  `min_row` on, 10 unless told otherwise, since a multiple says little where few sources are seen.)
- `cat` follows an earlier copy of the current token, so its {induction:.2f} is **induction**.
  **Sink** is {sink:.2f}, **previous token** {previous:.2f}, **duplicate token** {duplicate:.2f},
  **self** {self:.2f}. These five and the rest, {rest:.2f}, are the **budget**: they add to 1.
- **Distance** is 5 − 2 = 3 for `cat`, and {distance:.2f} in the mean over the row.
- If the value of `cat` moves the residual stream by a length of 2, its **write** is
  0.30 × 2 = 0.60.
- The notebook divided by what the first position left: `cat` would have had 0.30 / 0.50 × {visible}
  = 3.60.
"""
_COUNTS = ("sink", "duplicate token", "induction", "the rest", "previous token", "self")

LIMITS = """
- Attention says where a head reads, not what it moves: a cell of 0.9 can carry next to nothing.
- A high metric is a habit on this corpus, not a purpose. Names such as "induction head" need tests
  of their own: ablation, as in *Effects of heads*, or patching.
- Heads rest on the first position. A high attention there says that the head had nothing to do.
- Ranked examples are the extreme ones. Read random ones too before you say what a head does.
- Texts are cut at the scan's context length, so nothing further back is ever seen.
"""

ROLES = """
A probe is an input made for one question, whose answer is known, run once for a model. A head whose
number reaches the threshold wears the role as a label, with the number: "induction 0.87 on random
tokens".

- A role says what a head does on those inputs, and no more. Nothing is ablated or patched, so it is
  no cause: another head may do the same, or make up for it.
- The threshold of *retrieval* (0.1) is that of Wu et al. 2024, the one of *successor* (0.4) that of
  a re-implementation of Gould et al. 2023. The others, 0.3 and 0.4, are chosen here.
- Direct effects go from the head straight through the final norm, its scale held as it was in the
  run, to the vocabulary. What later layers make of them is left out, and so are
  biases behind the heads.
- Where a model lacks the words as single tokens, cannot do the task, reads both ways, or has no
  straight path to the vocabulary, the probe is "not measured", with the reason. In an index made
  before a probe was added it is "not measured" too.
- Induction, duplicate and previous token are those on random tokens (Olsson et al. 2022); names
  are those of Wang et al. 2022, copy suppression that of McDougall et al. 2023.
"""

NOTEBOOK = """
The notebook that this app grew from divided each row by `1 − a[first]`, or by a column's mean, to
take the first position out. A row that rests by 99.9 % then looks like the strongest of all, and a
perfectly uniform head shows a multiple of 29 on its last token. Here nothing is renormalised: the
resting mass stays where it is, a uniform head has a multiple of 1 everywhere, and rows at rest stay
at the bottom. Multiples are therefore lower than the notebook's, most of all for heads that rest.
"""

RANKINGS = """
- **Ranked**: the pairs with the highest multiple, or attention, in the whole corpus. Equal scores:
  the earlier document, destination and source first.
- **Reversed**: the pairs nearest above average, the lowest multiple over 1 first.
- **Random**: drawn evenly, without replacement, from all pairs above average; the seed decides.
- **One per document**: the best pair of each document. Documents of the same text count as one.
  Every example of a repeated text says how many more documents have it.
- A **source token** filter by multiple is exact over the whole corpus: the index keeps the best
  pairs of every source token. Other filters look among the examples that it keeps, and say so.
- **Bands**: drawn evenly from the pairs whose attention is below 1/16, then 1/8, 1/4, 1/2 and 1.
- **Long documents**, scanned to their end, are cut into windows that begin every `stride` tokens.
  The first window counts its rows from `min_row` on; a later one counts the rows that the window
  before did not have, as perplexity with a stride does. So each row of a document, and each pair,
  counts once, at any stride. Unless the scan named a stride, windows overlap so far that every row
  counted has `min_row` positions before it in its window, BOS included. With a longer stride some
  have fewer, down to none where windows do not overlap; the index then says so.
- **Samples** are drawn by a document's place in the corpus, so copies of a text are drawn one by
  one and hold their share of a sample, no more.
- **Token tables** count every row of the corpus; the first position, and special tokens at the
  end, are left out of them.
"""

TOKENS = """
What a token covers, its word and its name are what the tokenizer says: its offsets, its words, its
vocabulary.

- **Texts** of tokens, joined, are the text. A space that a tokenizer drops goes to the token after
  it. Where several tokens make one character, the first wears it; the others are narrow cells that
  can be pointed at, with their bytes on hover. By themselves, as on the axes of a heat map, they
  are called by the character and their number: `ภ`, `ภ₂`, `ภ₃`. Only a piece that is cut off from
  the rest of its character shows its bytes, like `\\xe0`.
- A **token** is an id of the vocabulary: what the model saw. An uncased model has one for `the`,
  `The` and `THE`; one piece of bytes begins many characters. A filter takes a token as it reads or
  as the vocabulary writes it (`Ġthe`, `▁the`, `##s`), and the page says which tokens that are.
- **Unknown tokens** show the text that stands there, underlined: the model reads the same unknown
  token for all of it. *Same token* and *induction* compare what the model reads, so two unknown
  words count as copies of each other.
- **Words** end where the tokenizer's own do, and where letters, digits and the marks on them end. A
  number is one word, however many tokens it has.
- **Special tokens**: a causal model's windows begin with its BOS, where it has one. An encoder's
  have what its tokenizer puts around a text, as [CLS] and [SEP]. Like the first position, those at
  the end are where heads rest: they are in no ranking, their rows do not count, and their share is
  a part of the budget and the metric *Separator*.
- **Sentences** end with `. ! ? … 。 ！ ？ । ؟` and their like, with the quotes and brackets that
  close after them, or with a line. A full stop inside a number ends none, and special tokens are in
  no sentence.
"""


def worked_example() -> str:
    """The worked example as Markdown, its numbers from the row."""
    shares, visible = [share for _, share in EXAMPLE], len(EXAMPLE)
    rows = (
        f"| `{shown(text)}` | {share:.2f} | {share * visible:.2f}× | {kind} |"
        for (text, share), kind in zip(EXAMPLE, _COUNTS, strict=True)
    )
    sink, duplicate, induction, rest, previous, itself = shares
    return WORKED.format(
        visible=visible,
        average=1 / visible,
        rows="\n".join(rows),
        best=induction * visible,
        induction=induction,
        sink=sink,
        previous=previous,
        duplicate=duplicate,
        rest=rest,
        distance=sum((visible - 1 - src) * share for src, share in enumerate(shares)),
        self=itself,
    )


SECTIONS = (
    ("A worked example", worked_example()),
    ("From the weights", circuits.METHODS),
    ("Effects of heads", effects.METHODS),
    ("Known roles", ROLES),
    ("Tokens, words, sentences", TOKENS),
    ("Rankings", RANKINGS),
    ("Why a head looks there", why.METHODS),
    ("Switching looks and heads off", switch_off.METHODS),
    ("Searching for heads", search.METHODS),
    ("How descriptions are scored", describe.METHODS),
    ("What attention does not show", LIMITS),
    ("Why the numbers differ from the notebook's", NOTEBOOK),
)


def role_of(metric: Metric) -> str:
    """Which role a metric gives, and from which value on, as Markdown."""
    if metric.threshold is None:
        return ""
    return f" From {metric.threshold:g} on, the head wears the role **{metric.role}**."


def show() -> None:
    """Words, metrics, then the sections."""
    st.subheader("Words", anchor="words")
    words = (f"| {word} | {meaning} |" for word, meaning in WORDS.items())
    st.markdown("| word | meaning |\n|---|---|\n" + "\n".join(words))
    st.subheader("Metrics", anchor="metrics")
    st.markdown(MEANS)
    rows = (
        METRIC.format(m=m, formula=m.formula.replace("|", "\\|"), role=role_of(m))
        for m in metrics().values()
    )
    st.markdown("| metric | of a row, and what that says |\n|---|---|\n" + "\n".join(rows))
    for title, text in SECTIONS:
        st.subheader(title, anchor=False)
        st.markdown(text)
