"""The index on disk: its format, its reading, its questions, and its ways to other people.

In: a folder that a scan made. Out: :class:`attn.index.index.Index` and its answers. No torch, no
model, no tokenizer. Imports `attn.corpus`, `attn.measure` and the ground floor.
"""
