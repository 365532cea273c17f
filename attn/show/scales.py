"""Shares of attention on the colour scale: by square root, evenly, or by powers of ten.

A place on the scale is 0 to 1; ``high``, over 0, is the share that lies at 1. By root, 0.01 of a
``high`` of 1 lies at a tenth; by powers of ten, all up to :data:`FLOOR` lies at 0.
"""

from __future__ import annotations

import math

import numpy as np

SCALES = {"root": "Square root", "linear": "Linear", "log": "Logarithmic"}
"""Name, as links have it → title."""

FLOOR = 1e-4
"""The share at which the logarithmic scale begins; every ``high`` is to lie above it."""

_APART = 0.15  # of the scale, from tick to tick
_ROOTS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


def places(shares: np.ndarray, scale: str, high: float = 1.0) -> np.ndarray:
    """Where shares lie on a scale, float64 of the same shape; NaN stays.

    >>> places(np.array([0.0001, 0.01, 0.25, 1]), "root").tolist()
    [0.01, 0.1, 0.5, 1.0]
    >>> places(np.array([0, 0.0001, 0.01, 1]), "log").tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    part = np.clip(np.asarray(shares, np.float64) / high, 0, 1)
    if scale == "linear":
        return part
    if scale == "root":
        found: np.ndarray = np.sqrt(part)
        return found
    least = FLOOR / high
    return np.log(np.maximum(part, least) / least) / -math.log(least)


def shares(where: np.ndarray, scale: str, high: float = 1.0) -> np.ndarray:
    """The shares at places of a scale: the inverse of :func:`places`."""
    where = np.asarray(where, np.float64)
    if scale == "linear":
        return where * high
    if scale == "root":
        return where**2 * high
    found: np.ndarray = FLOOR * (high / FLOOR) ** where
    return found


def ticks(scale: str, high: float = 1.0) -> list[float]:
    """Shares to label a scale with: round ones that stand apart, then the highest."""
    if scale == "root":
        known = list(_ROOTS)
    elif scale == "log":
        known = [FLOOR * 10**i for i in range(int(math.log10(1 / FLOOR)) + 1)]
    else:
        size = 10.0 ** math.floor(math.log10(high))
        step = next(s * size for s in (0.2, 0.5, 1, 2) if s * size >= _APART * high)
        known = [step * i for i in range(7)]
    kept = known[:1]
    for tick in known[1:]:
        before, at = places(np.array([kept[-1], tick]), scale, high)
        if tick < high and min(at - before, 1 - at) >= _APART - 1e-9:
            kept.append(tick)
    return [*kept, high]


def tick_label(tick: float, scale: str) -> str:
    """A tick's label; the logarithmic scale has all that is less at its lowest, too."""
    return f"≤{tick:g}" if scale == "log" and tick <= FLOOR else f"{tick:.2g}"
