"""Explore the attention heads of transformer language models."""

from attn import runtime

runtime.prepare()
