"""Ranks every head of a model by token, by pair, or by pattern.

By token the answer comes from an index alone, over its whole corpus. By cells — the pair or pairs
of a text, drawn or by a template — it takes one forward pass, in which each layer's pattern is
reduced to the attention on those cells and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attn.corpus.sentences import sentence_numbers
from attn.errors import QueryError
from attn.heads import HeadId

if TYPE_CHECKING:
    from attn.heads import Tokens
    from attn.index.index import Index
    from attn.models.interface import Reading
    from attn.models.session import ModelSession

CLOSING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class TokenAnswer:
    """What one head gave the tokens asked for, over an index's whole corpus.

    ``mass`` attention in all, in rows; ``lift`` that mass over what a uniform head would have given
    them; ``share`` of all that the head gives, the first position aside; ``pairs`` above average.
    """

    head: HeadId
    lift: float
    mass: float
    share: float
    pairs: int


@dataclass(frozen=True)
class CellsAnswer:
    """What one head puts on the cells asked for, over the rows that have any.

    ``share`` the mean mass on them; ``uniform`` the mean mass that a uniform head would put there;
    ``lift`` the first over the second: for one pair it is the pair's multiple, and ``share`` its
    attention; ``write`` the mean of attention times the norm of what each source's value writes.
    """

    head: HeadId
    share: float
    uniform: float
    lift: float
    write: float


def by_token(
    index: Index, text: str, *, regex: bool = False, least_mass: float = 1.0
) -> list[TokenAnswer]:
    """All heads by how much more they look at a token than its frequency explains, most first.

    ``text`` the token exactly, or, with ``regex``, an expression that its text must contain. Heads
    that gave the tokens less than ``least_mass`` in all are left out: a lift of next to nothing
    says nothing. The first position is left out, where the index leaves it out. Raises QueryError
    where no token of the corpus matches. Source: exact token tables of the index.
    """
    given = index.given(text, regex=regex)
    found = []
    for head in index.heads():
        at = head.layer, head.head
        mass, even, whole = float(given.mass[at]), float(given.even[at]), float(given.whole[at])
        if even > 0 and mass >= least_mass:
            found.append(TokenAnswer(head, mass / even, mass, mass / whole, int(given.pairs[at])))
    return sorted(found, key=lambda answer: (-answer.lift, answer.head))


def by_cells(session: ModelSession, ids: Sequence[int], cells: np.ndarray) -> list[CellsAnswer]:
    """All heads by how much more they look at some cells than a uniform head would, most first.

    ``ids`` (position,) the text's token ids; ``cells`` (dst, src) bool. One forward pass; ties by
    head. In a layer that sees less (a sliding window), the cells out of sight are no cells, and
    heads that see none of them are left out. Raises QueryError where no cell is asked for, or
    one that no head can see.
    """
    n = len(ids)
    cells = np.asarray(cells, bool)
    if cells.shape != (n, n):
        raise QueryError(f"Cells of {cells.shape} do not fit a text of {n} tokens.")
    if not session.bidirectional and np.triu(cells, 1).any():
        raise QueryError("A source after its destination is out of this model's sight.")
    if not cells.any():
        raise QueryError("The text has no such pair of tokens: take another text or pattern.")
    found: list[CellsAnswer] = []

    def read(reading: Reading) -> None:
        assert reading.norms is not None
        pattern = reading.pattern[0].double().cpu().numpy()
        visible = reading.visible[0].cpu().numpy()
        norms = reading.norms[0].double().cpu().numpy()
        seen = cells if session.bidirectional else cells & _in_sight(visible, n)
        rows = seen.any(1)
        if not rows.any():
            return
        shares = (pattern * seen)[:, rows].sum(2).mean(1)
        writes = (pattern * seen * norms[:, None])[:, rows].sum(2).mean(1)
        uniform = float((seen.sum(1)[rows] / visible[rows]).mean())
        for number, (share, write) in enumerate(zip(shares, writes, strict=True)):
            head = HeadId(reading.layer, number)
            found.append(
                CellsAnswer(head, float(share), uniform, float(share) / uniform, float(write))
            )

    session.observe(np.array([ids], np.int64), read, norms=True)
    return sorted(found, key=lambda answer: (-answer.lift, answer.head))


def _in_sight(visible: np.ndarray, n: int) -> np.ndarray:
    """(dst, src) bool: the last ``visible`` sources up to each destination."""
    place = np.arange(n)
    gap = place[:, None] - place
    return (gap >= 0) & (gap < visible[:, None])


def previous_token(tokens: Tokens) -> np.ndarray:
    """(dst, src) bool: the position before."""
    return np.eye(len(tokens), k=-1, dtype=bool)


def first_token(tokens: Tokens) -> np.ndarray:
    """(dst, src) bool: the first position, from the second row on."""
    cells = np.zeros((len(tokens), len(tokens)), bool)
    cells[1:, 0] = True
    return cells


def same_token(tokens: Tokens) -> np.ndarray:
    """(dst, src) bool: earlier copies of the destination's token."""
    values = np.asarray(tokens.ids)
    return np.tril(values[:, None] == values, -1)


def induction(tokens: Tokens) -> np.ndarray:
    """(dst, src) bool: the tokens that followed those copies."""
    cells = np.zeros((len(tokens), len(tokens)), bool)
    cells[:, 1:] = same_token(tokens)[:, :-1]
    return cells


def opening_bracket(tokens: Tokens) -> np.ndarray:
    """(dst, src) bool: the bracket that is open where the destination stands, the innermost.

    A closing bracket looks at the one that it closes.
    """
    cells = np.zeros((len(tokens), len(tokens)), bool)
    still: list[tuple[str, int]] = []
    for dst, text in enumerate(tokens.texts):
        if still:
            cells[dst, still[-1][1]] = True
        for char in text:
            if char in CLOSING.values():
                still.append((char, dst))
            elif still and CLOSING.get(char) == still[-1][0]:
                still.pop()
    return cells


def sentence_start(tokens: Tokens) -> np.ndarray:
    """(dst, src) bool: the first token of the destination's sentence, which it is not itself.

    Sentences as :func:`attn.corpus.sentences.sentence_numbers` has them: special tokens, and blanks
    between two, belong to none.
    """
    cells = np.zeros((len(tokens), len(tokens)), bool)
    first: dict[int, int] = {}
    for dst, number in enumerate(sentence_numbers(tokens.texts, tokens.special)):
        if number >= 0 and first.setdefault(number, dst) != dst:
            cells[dst, first[number]] = True
    return cells


Template = Callable[["Tokens"], np.ndarray]
TEMPLATES: Mapping[str, Template] = {
    "previous token": previous_token,
    "first token": first_token,
    "same token": same_token,
    "induction": induction,
    "opening bracket": opening_bracket,
    "start of the sentence": sentence_start,
}
"""Name → (dst, src) cells of a text from its tokens."""


def template(name: str, tokens: Tokens) -> np.ndarray:
    """(dst, src) bool: the cells of a template on a text. Raises QueryError for another name."""
    if name not in TEMPLATES:
        raise QueryError(f"There is no pattern {name!r}: choose one of {', '.join(TEMPLATES)}.")
    return TEMPLATES[name](tokens)


def pair(tokens: Tokens, dst: int, src: int) -> np.ndarray:
    """(dst, src) bool: one cell. Raises QueryError for a place that the text lacks."""
    n = len(tokens)
    if not (0 <= dst < n and 0 <= src < n):
        raise QueryError(f"The text has positions 0 to {n - 1}: {dst} and {src} are not both.")
    cells = np.zeros((n, n), bool)
    cells[dst, src] = True
    return cells


def parse_pair(text: str) -> tuple[int, int]:
    """Destination and source from ``"5,3"``. Raises QueryError for anything else."""
    try:
        dst, src = (int(part) for part in text.split(","))
    except ValueError:
        raise QueryError(f"A pair is DST,SRC, like 5,3, not {text!r}.") from None
    return dst, src
