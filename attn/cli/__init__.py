"""The command line: one file a group of commands, joined in `attn.cli.main`.

In: what a person types. Out: lines for people, or one JSON object a line with `--json`. Imports any
floor below, inside the commands where it is slow to load.
"""
