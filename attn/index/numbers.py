"""Numbers of heads: metrics, budget, histograms, what the weights say."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from attn.errors import QueryError
from attn.heads import HeadId
from attn.index.reader import IndexReader
from attn.measure.budget import PARTS
from attn.measure.fixed_point import FIXED
from attn.measure.histograms import DISTANCES
from attn.measure.metrics import OF_MODEL, Metric, values_of
from attn.measure.user_metrics import load_installed

_RANDOM_COMPOSITION = "random_composition"
_OF_WEIGHTS = ("q_", "k_", "v_", "ov_", "qk_", _RANDOM_COMPOSITION)
"""How the columns begin that hold what the weights say and are no metric."""


class HeadNumbers(IndexReader):
    """The numbers of heads that an index holds."""

    @cached_property
    def _metrics(self) -> dict[str, np.ndarray]:
        means = self._means
        found = {}
        for name, made in self._defined.items():
            if name in self._heads:
                found[name] = self._heads[name]
            elif made.kind not in OF_MODEL:
                try:
                    found[name] = values_of(made, means)
                except KeyError:  # a sum that this index lacks
                    continue
        return found

    @cached_property
    def _means(self) -> dict[str, np.ndarray]:
        """Sum → (layer, head) float64, its mean over the rows counted; those measured here."""
        rows = self._heads["rows"].astype(np.float64)
        none = np.full_like(rows, np.nan)
        means = {}
        for i, (name, scale) in enumerate(
            zip(self.measured.sums, self.measured.scales, strict=True)
        ):
            if self.manifest.write or not self._is_write(name):
                total = self._heads["sums"][..., i] / scale
                means[name] = np.divide(total, rows, out=none.copy(), where=rows > 0)
        return means

    @cached_property
    def _defined(self) -> dict[str, Metric]:
        if any(one.kind == "derived" for one in self.measured.added):
            load_installed()  # their functions may be those of an installed package
        found = self.measured.metrics()
        if not self.manifest.suffix:  # nothing separates where no special token ends a window
            found.pop("separator", None)
        return found

    def _is_write(self, name: str) -> bool:
        return name in self._defined and self._defined[name].kind == "writes"

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of this index's metrics, in the order to show them."""
        return tuple(self._metrics)

    @property
    def main_metrics(self) -> tuple[str, ...]:
        """The names of the metrics that are shown first; the others unfold."""
        return tuple(name for name in self._metrics if self._defined[name].main)

    def definition(self, name: str) -> Metric:
        """The definition of a metric of this index. Raises QueryError for one that it lacks."""
        self._check_metric(name)
        return self._defined[name]

    @cached_property
    def not_measured(self) -> dict[str, str]:
        """The metrics that this index lacks, each with the reason in a few words."""
        return {
            name: self._why_not(made)
            for name, made in self._defined.items()
            if name not in self._metrics
        }

    def _why_not(self, made: Metric) -> str:
        if made.name in self.measured.reasons:
            return self.measured.reasons[made.name]
        if made.kind == "weights":
            return "the weights of this model cannot be told apart by head"
        if made.kind == "writes" and not self.manifest.write:
            return "the scan kept no write scores: scan with --scores multiple,attention,write"
        if made.origin and made.kind == "derived":
            return f"its function is not loaded: it comes from {made.origin}"
        return "the index is older than this metric: scan again"

    def _check_metric(self, name: str) -> None:
        if name in self._metrics:
            return
        if name in self.not_measured:
            raise QueryError(f"The metric {name} is not measured here: {self.not_measured[name]}.")
        known = ", ".join(self.metric_names)
        raise QueryError(f"The index has no metric {name!r}: choose one of {known}.")

    def metric(self, name: str) -> np.ndarray:
        """(layer, head) float64: one metric of every head. Raises QueryError for another name."""
        self._check_metric(name)
        return self._metrics[name].copy()

    def numbers(self, head: HeadId) -> dict[str, float]:
        """Every metric of one head."""
        self._check(head)
        return {
            name: float(values[head.layer, head.head]) for name, values in self._metrics.items()
        }

    def of_model(self) -> dict[str, np.ndarray]:
        """What does not depend on the corpus: column → (layer, head) or (layer, head, ...).

        The metrics on random tokens, those of probes and, where the index has them, what the
        weights say, as :func:`attn.measure.weights.measure_weights` gives it.
        """
        names = [
            name for name in self._heads if name in self._defined or name.startswith(_OF_WEIGHTS)
        ]
        return {name: self._heads[name] for name in names}

    def singular_values(self, head: HeadId) -> dict[str, np.ndarray]:
        """The singular values of a head's circuits, falling: ``ov`` and ``qk`` → (d_head,).

        Empty where the index has none. Raises HeadError for a head out of range.
        """
        self._check(head)
        at = head.layer, head.head
        names = [name for name in ("ov", "qk") if f"{name}_singular" in self._heads]
        values = {name: self._heads[f"{name}_singular"][at] for name in names}
        return {name: some[np.isfinite(some)] for name, some in values.items()}

    def composes_with(self, head: HeadId) -> dict[str, list[tuple[HeadId, float]]]:
        """The earlier heads that a head composes with most: ``q``, ``k``, ``v`` → (head, score).

        Scores are shares of norms, 0 to 1, the highest first (see :mod:`attn.measure.weights`).
        Empty where the index has none. Raises HeadError for a head out of range.
        """
        self._check(head)
        at, n = (head.layer, head.head), self.manifest.n_heads
        found = {}
        for way in ("q", "k", "v"):
            if f"{way}_heads" in self._heads:
                numbers, scores = self._heads[f"{way}_heads"][at], self._heads[f"{way}_scores"][at]
                found[way] = [
                    (HeadId(*divmod(int(number), n)), float(score))
                    for number, score in zip(numbers, scores, strict=True)
                    if number >= 0
                ]
        return found

    def random_composition(self, head: HeadId) -> float:
        """The composition score of random weights of the same shapes; NaN where there is none."""
        self._check(head)
        values = self._heads.get(_RANDOM_COMPOSITION)
        return float("nan") if values is None else float(values[head.layer, head.head])

    def budget(self, head: HeadId) -> dict[str, float]:
        """The head's attention mass by part, in the order of claims; the shares add to 1.

        The part of special tokens is there where some end the windows. All NaN where no row was
        counted.
        """
        rows = self.rows(head)
        if not rows:
            found = dict.fromkeys(PARTS, float("nan"))
        else:
            shares = self._heads["parts"][head.layer, head.head] / FIXED / rows
            found = dict(zip(PARTS, [*map(float, shares), float(1 - shares.sum())], strict=True))
        if not self.manifest.suffix:
            del found["special"]
        return found

    def distances(self, head: HeadId) -> tuple[np.ndarray, np.ndarray]:
        """Where each bin of distance begins, and the share of the mass in it: (bin,), (bin,)."""
        rows = max(self.rows(head), 1)
        mass = self._heads["distances"][head.layer, head.head] / FIXED / rows
        return np.array(DISTANCES), mass

    def attention_counts(self, head: HeadId) -> np.ndarray:
        """(bin,) pairs above average: bin i has 2^-i-1 <= attention < 2^-i, the last the rest."""
        self._check(head)
        counts: np.ndarray = self._heads["attention"][head.layer, head.head]
        return counts.copy()

    @property
    def none_counted(self) -> str:
        """Why all numbers are none, in a sentence; empty where a row was counted."""
        if self.manifest.rows or self._heads["nonfinite"].any():
            return ""
        kept = self.manifest
        most = f"{kept.min_row} tokens{', BOS included' if kept.bos else ''}"
        return (
            f"No row was counted: no document is longer than {most}; "
            f"scan with a lower --min-row or longer texts."
        )

    def warnings(self) -> list[str]:
        """What to know before believing the numbers, in sentences."""
        said = list(self.manifest.notices)
        if self.none_counted:
            said.append(self.none_counted)
        if self.manifest.short:
            n = self.manifest.short
            what = "document" if n == 1 else "documents"
            said.append(f"Skipped {n} {what} of fewer than two tokens.")
        if self.manifest.repeated:
            n, whole = self.manifest.repeated, self.manifest.documents
            share = f"{100 * n / whole:.0f} %" if n >= whole / 100 else "under 1 %"
            verb = "repeats" if n == 1 else "repeat"
            said.append(
                f"{n:,} of {whole:,} documents ({share}) {verb} the text of an earlier one."
            )
        cut = self.manifest.windows > self.manifest.documents  # into more than one window
        if cut and self.manifest.overlap < self.manifest.min_row:
            said.append(
                f"Windows begin every {self.manifest.stride} tokens, so some rows counted have "
                f"fewer than {self.manifest.min_row} positions before them in their window: scan "
                f"with --stride {self.manifest.ctx - self.manifest.min_row} or less."
            )
        if self.manifest.without_attention:
            layers = self.manifest.without_attention
            some = f"Layers {', '.join(map(str, layers))}" if layers[1:] else f"Layer {layers[0]}"
            have = "have" if layers[1:] else "has"
            said.append(f"{some} of {self.manifest.model} {have} no attention: left out.")
        bad = [HeadId(int(a), int(b)) for a, b in np.argwhere(self._heads["nonfinite"] > 0)]
        if bad:
            rows = int(self._heads["nonfinite"].sum())
            heads = ", ".join(map(str, bad[:8])) + (" and others" if len(bad) > 8 else "")
            remedy = {
                "float16": "scan with --dtype bfloat16 or float32",
                "bfloat16": "scan with --dtype float32",
            }.get(self.manifest.dtype, "no dtype is wider, so check the model's weights")
            said.append(
                f"Left out {rows:,} rows of {heads} whose attention is not finite "
                f"in {self.manifest.dtype}: {remedy}."
            )
        return said
