"""The bins of the two histograms that a scan keeps of every head."""

from __future__ import annotations

DISTANCES = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513, 1025, 2049, 4097)
"""Where the bins of the distance histogram begin; each holds attention mass."""

ATTENTION_BINS = 12
"""Bins of the attention histogram: bin i counts pairs above average with 2^-i-1 <= a < 2^-i, the
last all below; a = 1 is in bin 0."""
