"""A head in two sentences. All their numbers come from the index, not from a language model.

The first says where the head's attention mass goes, by the budget of :mod:`attn.measure.metrics`;
the second which tokens it picks, for how often they occur.
"""

from __future__ import annotations

from attn.formatting import shown
from attn.heads import HeadId
from attn.index.index import Index
from attn.index.token_tables import TokenRow

PHRASES = {
    "self": "to the token itself",
    "previous": "to the token just before",
    "special": "to special tokens at the end",
    "duplicate": "to earlier copies of the current token",
    "induction": "to tokens that followed an earlier copy of the current one",
    "punctuation": "to punctuation and line ends",
    "rest": "elsewhere",
}
_LEAST = 0.05  # a share of what remains that is worth naming
_PAIRS = 5  # pairs above average that a token needs to be named


def summary(index: Index, head: HeadId) -> str:
    """Two sentences on a head: its budget, then the tokens it looks at and from.

    Raises HeadError for a head out of range.
    """
    budget = index.budget(head)
    if not index.rows(head):
        return f"{head} has no row that counts in this index, so there is nothing to say of it."
    return f"{_budget(head, budget)} {_tokens(index, head)}"


def not_measured(index: Index) -> str:
    """The metrics that an index lacks, with the reasons, as one sentence; empty where none is."""
    reasons: dict[str, list[str]] = {}
    for name, why in index.not_measured.items():
        reasons.setdefault(why, []).append(index.measured.metrics()[name].title)
    parts = [f"{', '.join(titles)} ({why})" for why, titles in reasons.items()]
    return f"Not measured in this index: {'; '.join(parts)}." if parts else ""


def _budget(head: HeadId, budget: dict[str, float]) -> str:
    rest = 1 - budget["sink"]
    start = f"{_percent(budget['sink'])} of the attention of {head} rests on the first position"
    if rest < 0.0005:
        return f"{start}: it hardly looks anywhere else."
    shares = {part: budget[part] / rest for part in PHRASES if part in budget}
    named = sorted((part for part in shares if shares[part] >= _LEAST), key=lambda p: -shares[p])
    told = [f"{_percent(shares[part])} goes {PHRASES[part]}" for part in named if part != "rest"]
    left = 1 - sum(shares[part] for part in named if part != "rest")
    told += [f"{_percent(left)} goes {PHRASES['rest']}"] if left >= 0.0005 else []
    return f"{start}; of what remains, {_listed(told)}."


def _tokens(index: Index, head: HeadId) -> str:
    rows = [row for row in index.sources(head) if row.pairs >= _PAIRS]
    if not rows:
        pairs = index.pairs(head)
        return f"Only {pairs:,} pairs are above average, too few to say which tokens it looks at."
    most = rows[:3]
    total = sum(row.mass for row in index.sources(head))
    whole = "what is not at rest" if index.manifest.skip_first else "its attention"
    share = sum(row.mass for row in most) / total if total else 0.0
    favoured = sorted(rows, key=lambda row: (-row.lift, row.token))[:3]
    return (
        f"The tokens it looks at most are {_quoted(most)}, with {_percent(share)} of {whole}; "
        f"for how often they stand in view, it favours {_quoted(favoured, lift=True)}."
    )


def _quoted(rows: list[TokenRow], *, lift: bool = False) -> str:
    return _listed(
        [
            f"“{shown(row.token)}”" + (f" ({row.lift:.1f}× an even head)" if lift else "")
            for row in rows
        ]
    )


def _listed(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
