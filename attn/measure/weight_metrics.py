"""The metrics of the weights alone: what a head could do, whatever the text.

Each is a function of what :mod:`attn.measure.weights` finds, arrays (layer, head, ...): ``ov`` and
``qk``, the singular values of the head's circuits; ``eigenvalues`` of its whole path from token to
token; ``q``, ``k`` and ``v``, the scores of the earlier heads that it composes with, the highest
first. A value is NaN where there is none. Sources as in :mod:`attn.measure.weights`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attn.measure.metric import metric

Found = Mapping[str, np.ndarray]

_COMPOSED = "share of the norm"


@metric(
    "weights", "Copying", unit="share of eigenvalues", low_high=(-1.0, 1.0),
    formula="Σ Re λ / Σ |λ|, λ the eigenvalues of W_E W_V W_O W_U",
)  # fmt: skip
def copying(found: Found) -> np.ndarray:
    """Whether a token looked at becomes likelier to come next: 1 for all, −1 less likely.

    Gains of norms are folded in; their scales, biases and rotations by position are not in it.
    """
    values = found["eigenvalues"]
    whole = np.nansum(np.abs(values), -1)
    share: np.ndarray = np.divide(
        np.nansum(values.real, -1), whole, out=np.full(whole.shape, np.nan), where=whole > 0
    )
    return share


@metric(
    "weights", "Q-composition", unit=_COMPOSED,
    formula="max over earlier heads of ‖W_OV W_QK‖ / (‖W_OV‖ ‖W_QK‖)",
)  # fmt: skip
def q_composition(found: Found) -> np.ndarray:
    """How much of what an earlier head writes this head's queries read, at most.

    Sizes only: no text need make use of it, and matrices drawn at random have some too.
    """
    return _best(found["q"])


@metric(
    "weights", "K-composition", unit=_COMPOSED,
    formula="max over earlier heads of ‖W_OV W_QKᵀ‖ / (‖W_OV‖ ‖W_QK‖)",
)  # fmt: skip
def k_composition(found: Found) -> np.ndarray:
    """How much of what an earlier head writes this head's keys read, at most.

    Sizes only: no text need make use of it, and matrices drawn at random have some too.
    """
    return _best(found["k"])


@metric(
    "weights", "V-composition", unit=_COMPOSED,
    formula="max over earlier heads of ‖W_OV W_OV′‖ / (‖W_OV‖ ‖W_OV′‖)",
)  # fmt: skip
def v_composition(found: Found) -> np.ndarray:
    """How much of what an earlier head writes this head's values read, at most.

    Sizes only: no text need make use of it, and matrices drawn at random have some too.
    """
    return _best(found["v"])


@metric(
    "weights", "Size of OV", unit="Frobenius norm", low_high=(0.0, None),
    formula="‖W_V W_O‖ = √(Σ σ²)",
)  # fmt: skip
def ov_norm(found: Found) -> np.ndarray:
    """How strongly the head can write what it reads.

    Gains of norms are folded in; their scales, biases and rotations by position are not in it.
    """
    return _norm(found["ov"])


@metric(
    "weights", "Directions of OV", unit="directions", low_high=(1.0, None),
    formula="(Σ σ²)² / Σ σ⁴, σ the singular values of W_V W_O",
)  # fmt: skip
def ov_rank(found: Found) -> np.ndarray:
    """How many directions the head writes in, by the weight of its singular values.

    Gains of norms are folded in; their scales, biases and rotations by position are not in it.
    """
    return _rank(found["ov"])


@metric(
    "weights", "Size of QK", unit="Frobenius norm", low_high=(0.0, None),
    formula="‖W_Q W_Kᵀ‖ = √(Σ σ²)",
)  # fmt: skip
def qk_norm(found: Found) -> np.ndarray:
    """How strongly the head can tell one token from another.

    Gains of norms are folded in; their scales, biases and rotations by position are not in it.
    """
    return _norm(found["qk"])


@metric(
    "weights", "Directions of QK", unit="directions", low_high=(1.0, None),
    formula="(Σ σ²)² / Σ σ⁴, σ the singular values of W_Q W_Kᵀ",
)  # fmt: skip
def qk_rank(found: Found) -> np.ndarray:
    """How many directions the head compares tokens by.

    Gains of norms are folded in; their scales, biases and rotations by position are not in it.
    """
    return _rank(found["qk"])


def _best(scores: np.ndarray) -> np.ndarray:
    """(layer, head): the first score, NaN where there is no earlier head."""
    return scores[..., 0].astype(np.float64)


def _norm(singular: np.ndarray) -> np.ndarray:
    """(layer, head): the Frobenius norm of a matrix from its singular values."""
    squares = singular.astype(np.float64) ** 2
    none = np.isnan(squares).all(-1)
    found: np.ndarray = np.where(none, np.nan, np.sqrt(np.nansum(squares, -1)))
    return found


def _rank(singular: np.ndarray) -> np.ndarray:
    """(layer, head): the effective rank of a matrix, NaN for one of zeros."""
    squares = singular.astype(np.float64) ** 2
    total, fourth = np.nansum(squares, -1), np.nansum(squares**2, -1)
    found: np.ndarray = np.divide(
        total**2, fourth, out=np.full(total.shape, np.nan), where=fourth > 0
    )
    return found
