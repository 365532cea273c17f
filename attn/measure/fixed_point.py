"""Sums are kept in fixed point, so that adding them is exact in any order."""

from __future__ import annotations

FIXED = 2.0**32
"""A share of attention of 1.0 in fixed point. Sums that grow faster have a smaller scale."""
