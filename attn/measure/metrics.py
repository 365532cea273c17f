"""All metrics by name: those of patterns, of the weights, of probes, and those that users add.

Import what is needed from here: importing this module defines the metrics that come with attn.
"""

from __future__ import annotations

from attn.measure import pattern_metrics, probes, weight_metrics
from attn.measure.metric import (
    DEFINED,
    OF_MODEL,
    SUMMED,
    Metric,
    NotMeasured,
    metrics,
    of_kind,
    of_rows,
    sums,
    values_of,
)

__all__ = [
    "DEFINED", "OF_MODEL", "SUMMED", "WAYS", "Metric", "NotMeasured", "metrics", "of_kind",
    "of_rows", "pattern_metrics", "probes", "sums", "values_of", "weight_metrics",
]  # fmt: skip

WAYS = {
    "q": ("Queries", "What it looks for depends on what these earlier heads wrote."),
    "k": ("Keys", "What it finds depends on what these earlier heads wrote."),
    "v": ("Values", "What it moves on was written by these earlier heads."),
}
"""The ways in which a head composes with earlier ones: title, meaning."""
