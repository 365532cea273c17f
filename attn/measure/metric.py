"""What a metric is, and how one is defined: by one decorated function.

A metric is one number a head. :func:`metric` says of a function which kind it is, and so what the
function takes and gives:

- ``pairs``: a :class:`~attn.measure.masks.Context` → mask (batch, dst, src). The metric is the
  attention mass on the mask.
- ``offsets``: tensor of ``dst - src`` → weights of the same shape. The metric is the attention mass
  with these weights.
- ``rows``: pattern (batch, head, dst, src) → one value a row, (batch, head, dst).
- ``writes``: write scores (batch, head, dst, src) and their sums over src → one value a row.
- ``positions``: ``visible`` (batch or 1, dst) and a Context → a value of each row that does not
  depend on attention, (batch or 1, dst).
- ``derived``: the means of sums, name → (layer, head) → the metric, (layer, head).
- ``random``: the pattern (batch, head, dst, src) on random tokens that come twice, and the length
  of one copy → (head,). See :mod:`attn.measure.random_tokens`.
- ``weights``: what :mod:`attn.measure.weights` finds, name → (layer, head, ...) → (layer, head).
- ``probe``: a :class:`~attn.measure.probes.model.ProbedModel` → (layer, head), on inputs made for
  it. Raises :class:`NotMeasured` where the model has no answer.

The first five are summed over the rows that count, in fixed point; the metric is the mean. Rows
before ``min_row`` and padding are left out by the scan, not by the function.

The function's docstring is what people read: its first paragraph says what the metric means, the
rest says when to distrust it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from attn.errors import MetricError
from attn.measure.fixed_point import FIXED
from attn.measure.masks import Context

if TYPE_CHECKING:
    from torch import Tensor

Means = Mapping[str, np.ndarray]
"""Sum → (layer, head) float64, its mean over the rows that count."""

SUMMED = ("pairs", "offsets", "rows", "positions", "writes")
"""The kinds that a scan sums, in the order in which an index keeps them."""

OF_MODEL = ("random", "weights", "probe")
"""The kinds that do not depend on the corpus."""

KINDS = (*SUMMED, "derived", *OF_MODEL)

SHARE = (0.0, 1.0)
"""The range of a share of attention."""

ANY = (float("-inf"), None)
"""The range of what has either sign and any size."""


class NotMeasured(Exception):
    """A probe that a model gives no answer to; its text is the reason, in a few words."""


@dataclass(frozen=True)
class Metric:
    """A number a head, as pages and the command line name it.

    ``name`` what ``--by`` takes; ``kind`` one of :data:`KINDS`; ``title`` and ``text`` for people;
    ``formula`` per row; ``low_high`` its range, with None where there is no upper end; ``warning``
    when to distrust it; ``main`` whether it is shown before the others unfold; ``scale`` what a sum
    of 1.0 is in fixed point; ``shown`` whether it is a metric or only a sum that derived metrics
    need; ``role`` what a head is called whose value reaches ``threshold``, and ``on`` on which
    inputs that was measured, all three empty where the metric gives no role; ``origin`` the file or
    package that defines it, empty for those that come with attn;
    ``source`` a hash of that file's text. ``function`` is None in an index that was made with a
    definition that is not loaded now.
    """

    name: str
    kind: str
    title: str
    unit: str
    text: str
    formula: str
    low_high: tuple[float, float | None]
    warning: str
    main: bool = False
    scale: float = FIXED
    shown: bool = True
    role: str = ""
    threshold: float | None = None
    on: str = ""
    origin: str = ""
    source: str = ""
    function: Callable[..., Any] | None = field(default=None, compare=False, repr=False)

    @property
    def span(self) -> str:
        """The range in words."""
        low, high = self.low_high
        if high is None:
            return "Of either sign" if low == float("-inf") else f"From {low:g} up"
        return f"{low:g} to {high:g}"


DEFINED: dict[str, Metric] = {}
"""Every definition by name: metrics, and the sums that derived metrics need."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def metric(
    kind: str,
    title: str,
    *,
    unit: str,
    formula: str,
    low_high: tuple[float, float | None] = SHARE,
    name: str | None = None,
    main: bool = False,
    scale: float | None = None,
    shown: bool = True,
    role: str = "",
    threshold: float | None = None,
    on: str = "",
) -> Callable[[_Function], _Function]:
    """Define a metric: the decorator of its function, which stays as it is.

    ``kind`` one of :data:`KINDS`; ``name`` the function's unless given; ``scale`` what a sum of 1.0
    is in fixed point: 2^32 for shares of attention, 2^20 for others, unless given. A sum must stay
    below 2^63 over a whole corpus. ``role``, ``threshold`` and ``on`` as in :class:`Metric`. Raises
    MetricError for a name that is taken, a kind that there is not, a role without a threshold, or a
    docstring that does not say when to distrust the metric.

    >>> from attn.measure.metric import DEFINED, metric
    >>> @metric("offsets", "Ten back", unit="share of attention", formula="a[dst, dst−10]")
    ... def ten_back(offset):
    ...     '''Attention on the token ten positions before.
    ...
    ...     Verses of one length make other habits look the same.
    ...     '''
    ...     return (offset == 10).float()
    >>> DEFINED["ten_back"].warning
    'Verses of one length make other habits look the same.'
    >>> del DEFINED["ten_back"]
    """

    def define(function: _Function) -> _Function:
        text, warning = _docstring(function)
        fixed = FIXED if low_high == SHARE else 2.0**20
        add(
            Metric(
                name or function.__name__,
                kind,
                title,
                unit,
                text,
                formula,
                low_high,
                warning,
                main=main,
                scale=fixed if scale is None else scale,
                shown=shown,
                role=role,
                threshold=threshold,
                on=on,
                function=function,
            )
        )
        return function

    return define


def add(made: Metric) -> None:
    """Add a definition to :data:`DEFINED`.

    Raises MetricError for a name that is taken and for what no metric can be.
    """
    if made.name in DEFINED:
        raise MetricError(f"The metric {made.name} is defined already: give yours another name.")
    if not made.name.isidentifier():
        raise MetricError(f"{made.name!r} cannot name a metric: use letters, digits and _.")
    if made.kind not in KINDS:
        raise MetricError(
            f"The metric {made.name} is of no known kind, {made.kind!r}: "
            f"choose one of {', '.join(KINDS)}."
        )
    if bool(made.role) != (made.threshold is not None):
        raise MetricError(f"The metric {made.name} needs a role and its threshold, or neither.")
    if made.shown and not (made.text and made.warning):
        raise MetricError(
            f"The docstring of the metric {made.name} needs two paragraphs: what it means, and "
            f"when to distrust it."
        )
    DEFINED[made.name] = made


def _docstring(function: Callable[..., Any]) -> tuple[str, str]:
    """The first paragraph of a docstring and the rest of it, each on one line."""
    first, _, rest = (inspect.getdoc(function) or "").partition("\n\n")
    return " ".join(first.split()), " ".join(rest.split())


def metrics() -> dict[str, Metric]:
    """The metrics by name, in the order to show them: the definitions that are shown."""
    return {name: made for name, made in DEFINED.items() if made.shown}


def of_kind(kind: str) -> dict[str, Callable[..., Any]]:
    """The functions of one kind by name, in the order of their definition."""
    return {
        made.name: made.function
        for made in DEFINED.values()
        if made.kind == kind and made.function is not None
    }


def sums() -> tuple[Metric, ...]:
    """What a scan sums over the rows that count, in the order in which an index keeps it."""
    return tuple(made for kind in SUMMED for made in DEFINED.values() if made.kind == kind)


def values_of(made: Metric, means: Means) -> np.ndarray:
    """(layer, head) float64: a metric from the means of the sums; KeyError where one is missing."""
    if made.kind != "derived":
        return means[made.name]
    if made.function is None:
        raise KeyError(made.name)
    found: np.ndarray = made.function(means)
    return found


def of_rows(made: Metric, pattern: Tensor, context: Context) -> Tensor:
    """A metric's value in every row, (batch, head, dst), of a pattern (batch, head, dst, src).

    For the kinds ``pairs``, ``offsets`` and ``rows``; ValueError for others.
    """
    import torch

    if made.function is None or made.kind not in ("pairs", "offsets", "rows"):
        raise ValueError(f"{made.name} is no mean over rows")
    if made.kind == "rows":
        values: Tensor = made.function(pattern)
        return values
    if made.kind == "pairs":
        mask = made.function(context)
    else:
        position = torch.arange(pattern.shape[-1], device=pattern.device)
        mask = made.function(position[:, None] - position[None, :])[None]
    total: Tensor = torch.linalg.vecdot(pattern, mask[:, None])
    return total
