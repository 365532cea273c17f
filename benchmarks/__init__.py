"""Measurements as commands: ``python -m benchmarks.NAME``."""

import attn as attn  # before torch, which reads at its start what attn.runtime sets
