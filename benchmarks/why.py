"""What it costs to ask why, on a text of 64 tokens, against a plain forward pass of it.

    python -m benchmarks.why

One pair: the text is read anew, and the pair split on both sides and over all pairs of parts. A
graph: read anew, and followed back three steps. Turns alternate, so that all see the same machine;
medians of ROUNDS. The bars are 2.5 and 10 forward passes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from attn.analyse.why.graph import follow
from attn.analyse.why.split import read, split, split_pairs
from attn.heads import HeadId
from attn.models.builtin import NAME
from attn.models.session import load_model
from benchmarks.report import medians, report
from benchmarks.scan import plain_model
from benchmarks.search import ROUNDS, TEXT, TOKENS

HEADS = (HeadId(5, 0), HeadId(18, 6), HeadId(29, 3))
DST, SRC = 60, 20
PLAIN = "(a plain forward pass)"


def main() -> None:
    session = load_model(NAME)
    ids = session.encode(TEXT, limit=TOKENS).ids.tolist()
    assert len(ids) == TOKENS
    batch, model = torch.tensor([ids]), plain_model(session)
    assert session.anatomy  # found once a model

    def plain() -> object:
        with torch.no_grad():
            return model(input_ids=batch, use_cache=False)

    def one_pair(head: HeadId) -> object:
        stream = read(session, ids, head.layer)
        return split(stream, head, DST, SRC), split_pairs(stream, head, DST, SRC)

    def graph(head: HeadId) -> object:
        return follow(read(session, ids, head.layer), head, DST, SRC, steps=3)

    work: dict[str, Callable[[], object]] = {PLAIN: plain}
    for head in HEADS:
        work[f"one pair of {head}"] = lambda head=head: one_pair(head)
        work[f"a graph of three steps from {head}"] = lambda head=head: graph(head)
    found = medians(work, ROUNDS)
    forward = found[PLAIN]
    rows = [
        {"why": name, "ms": 1000 * median, "to_forward": median / forward}
        for name, median in found.items()
    ]
    report("why", rows)


if __name__ == "__main__":
    main()
