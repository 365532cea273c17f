"""Probes: made inputs with known answers, which say whether a head plays a published role.

A file a probe, with its paper, in which a function under
``@metric("probe", ..., role=..., threshold=...)`` takes a
:class:`~attn.measure.probes.model.ProbedModel` and gives (layer, head), or raises NotMeasured with
the reason. Induction, duplicate and previous token are measured on random tokens: see
:mod:`attn.measure.random_tokens`. Importing this package defines the metrics and loads no torch.
"""

from __future__ import annotations

from attn.measure.probes import copy_suppression, names, retrieval, successors

__all__ = ["copy_suppression", "names", "retrieval", "successors"]
