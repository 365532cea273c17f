"""Interventions on a text: looks or whole heads switched off, and what changes, by a forward pass.

Nothing here is inferred: the model is run as it is and once more with patterns changed, and the two
are compared. Zero, mean and resampled rows as in Wang et al. 2022 (2211.00593, section 2); a row
with looks taken out is left as it is, or made to add to 1 again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attn.errors import ModelError, QueryError
from attn.heads import HeadId

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("looks", "head", "mean", "row")
"""What can be done: some looks off; all of a head off; its mean written instead; a row replaced."""


@dataclass(frozen=True)
class Intervention:
    """One change to one head.

    ``kind`` one of :data:`KINDS`; ``pairs`` (destination, source) of the looks that are switched
    off; ``renormalise`` whether what is left of their rows adds to 1 again; ``dst`` and ``row`` for
    the kind ``row``: the row of ``dst`` becomes that of the earlier token ``row``.
    """

    head: HeadId
    kind: str = "looks"
    pairs: tuple[tuple[int, int], ...] = ()
    renormalise: bool = False
    dst: int = -1
    row: int = -1


@dataclass(frozen=True)
class Moved:
    """How far a later head's pattern moved: half the attention that differs in a row, 0 to 1.

    ``mean`` over the rows from the first that was changed on, ``most`` in the row ``dst``.
    """

    head: HeadId
    mean: float
    most: float
    dst: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """A text with and without an intervention.

    ``before`` and ``after`` (position,) the loss of each token in nats, NaN for the first;
    ``moved`` the heads of later layers, those that moved most first; ``next_before`` and
    ``next_after`` (vocabulary,) float32 probabilities of the token after ``position``.
    """

    before: np.ndarray
    after: np.ndarray
    moved: tuple[Moved, ...]
    position: int
    next_before: np.ndarray
    next_after: np.ndarray

    def likeliest(self, n: int = 8) -> list[tuple[int, float, float]]:
        """Token ids with their probability before and after, those likely in either first."""
        order = np.argsort(-np.maximum(self.next_before, self.next_after), kind="stable")[:n]
        return [(int(i), float(self.next_before[i]), float(self.next_after[i])) for i in order]


def intervene(
    session: Any,
    ids: Sequence[int],
    changes: Sequence[Intervention],
    position: int = -1,
) -> Outcome:
    """Run a text as it is and with changes, and compare.

    ``ids`` (position,); ``position`` whose next token is compared, the last one unless given. The
    mean that a head writes is over the positions of this text. Raises HeadError, QueryError for a
    change that cannot be made, ModelError for a model that does not predict the next token.
    """
    if session.bidirectional:
        raise ModelError(
            f"{session.name} reads both ways and does not predict the next token, so no loss can "
            f"change: choose a model that does."
        )
    n = len(ids)
    _check(session, n, changes)
    if not -n <= position < n:
        raise QueryError(f"The text has tokens 0 to {n - 1}: there is no {position}.")
    plain, patterns = _run(session, ids, None, None)
    first = min(_first_row(one) for one in changes) if changes else n - 1
    with session.held(), _means(session, changes):
        changed, others = _run(session, ids, _changer(changes), patterns)
    layer = min((one.head.layer for one in changes), default=session.n_layers)
    at = position % n
    return Outcome(
        _losses(plain, ids),
        _losses(changed, ids),
        _moved(others, layer, first),
        at,
        _probabilities(plain, at),
        _probabilities(changed, at),
    )


def _check(session: Any, n: int, changes: Sequence[Intervention]) -> None:
    for one in changes:
        one.head.check(session.n_layers, session.n_heads)
        session.need_attention(one.head.layer)
        if one.kind not in KINDS:
            raise QueryError(f"{one.kind!r} is no intervention: choose one of {', '.join(KINDS)}.")
        for dst, src in one.pairs:
            if not 0 <= src <= dst < n:
                raise QueryError(f"The text has no look from token {dst} to token {src}.")
        if one.kind == "row" and not 0 <= one.row <= one.dst < n:
            raise QueryError(
                f"The row of token {one.dst} cannot become that of token {one.row}: name an "
                f"earlier token of the text."
            )
        if one.kind == "mean":
            assert session.anatomy  # refused by name where there is none


def _first_row(one: Intervention) -> int:
    if one.kind == "looks":
        return min((dst for dst, _ in one.pairs), default=0)
    return one.dst if one.kind == "row" else 0


def _changer(changes: Sequence[Intervention]) -> Callable[[int, Tensor], Tensor]:
    """What is done to each layer's pattern (batch, head, dst, src)."""

    def change(layer: int, pattern: Tensor) -> Tensor:
        here = [one for one in changes if one.head.layer == layer and one.kind != "mean"]
        if not here:
            return pattern
        changed = pattern.clone()
        for one in here:
            own = changed[:, one.head.head]  # (batch, dst, src)
            if one.kind == "head":
                own.zero_()
            elif one.kind == "row":
                own[:, one.dst] = pattern[:, one.head.head, one.row]
            else:
                _switch_off(own, one)
        return changed

    return change


def _switch_off(own: Tensor, one: Intervention) -> None:
    for dst, src in one.pairs:
        own[:, dst, src] = 0
    if one.renormalise:
        for dst in {dst for dst, _ in one.pairs}:
            left = own[:, dst].sum(-1, keepdim=True)
            own[:, dst] /= left.clamp(min=1e-12)


@contextmanager
def _means(session: Any, changes: Sequence[Intervention]) -> Iterator[None]:
    """Meanwhile heads of the kind ``mean`` write their mean over the text's positions."""
    from attn.measure.module_calls import hooked

    heads = [one.head for one in changes if one.kind == "mean"]
    with hooked() as handles:
        for layer in {head.layer for head in heads}:
            numbers = [head.head for head in heads if head.layer == layer]

            def replace(module: Any, args: Any, numbers: list[int] = numbers) -> Any:
                flat = args[0]  # (batch, position, head * d_head), or without the batch
                by_head = flat.clone().unflatten(-1, (session.n_heads, -1))
                for number in numbers:
                    by_head[..., number, :] = by_head[..., number, :].mean(-2, keepdim=True)
                return (by_head.reshape(flat.shape), *args[1:])

            output = session.anatomy.blocks[layer].output
            handles.append(output.register_forward_pre_hook(replace))
        yield


def _run(
    session: Any,
    ids: Sequence[int],
    change: Callable[[int, Tensor], Tensor] | None,
    compare: dict[int, Tensor] | None,
) -> tuple[Tensor, dict[int, Tensor]]:
    """Logits (position, vocabulary), and of each layer its pattern (head, dst, src), or, where one
    is given to compare with, half the sum of the differences of every row, (head, dst)."""
    kept: dict[int, Tensor] = {}

    def keep(reading: Any) -> None:
        pattern = reading.pattern[0]
        if compare is not None:
            pattern = (pattern - compare[reading.layer]).abs().sum(-1) / 2
        kept[reading.layer] = pattern.clone()

    out = session.run_whole([list(ids)], keep, change=change)
    return out.logits[0].float(), kept


def _losses(logits: Tensor, ids: Sequence[int]) -> np.ndarray:
    """(position,) float64: the loss of each token given those before it, NaN for the first."""
    import torch

    losses = np.full(len(ids), np.nan)
    if len(ids) > 1:
        wanted = torch.as_tensor(list(ids[1:]), device=logits.device)
        losses[1:] = (
            torch.nn.functional.cross_entropy(logits[:-1].double(), wanted, reduction="none")
            .cpu()
            .numpy()
        )
    return losses


def _probabilities(logits: Tensor, position: int) -> np.ndarray:
    found: np.ndarray = logits[position].softmax(-1).cpu().numpy()
    return found


def _moved(rows: dict[int, Tensor], layer: int, first: int) -> tuple[Moved, ...]:
    """The heads above a layer by how far their rows from ``first`` on moved."""
    found = []
    for number, distance in rows.items():
        if number <= layer:
            continue
        later = distance[:, first:].cpu().numpy()
        for head, values in enumerate(later):
            most = int(values.argmax())
            found.append(
                Moved(
                    HeadId(number, head),
                    float(values.mean()),
                    float(values[most]),
                    first + most,
                )
            )
    return tuple(sorted(found, key=lambda one: (-one.mean, one.head)))
