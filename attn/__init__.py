"""Explore the attention heads of transformer language models."""
