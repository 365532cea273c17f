"""What a search over all heads costs on a text of 64 tokens, against a plain forward pass of it.

    python -m benchmarks.search

The forward pass keeps its fast attention; a search looks into the pattern of every head. Turns
alternate, so that both see the same machine; medians of ROUNDS.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from attn.analyse.search import TEMPLATES, by_cells, pair, template
from attn.models.builtin import NAME
from attn.models.session import load_model
from benchmarks.report import medians, report
from benchmarks.scan import plain_model

TEXT = (
    "Mira Castell opened the old ferry office at seven. By noon, Mira Castell had sold twelve "
    "tickets, and the old ferry office smelled of coffee again. At seven she closed the old ferry "
    "office (it was dark), and the twelve tickets were all that Mira Castell had sold. "
) * 2
TOKENS, ROUNDS = 64, 15
PLAIN = "(a plain forward pass)"


def main() -> None:
    session = load_model(NAME)
    tokens = session.encode(TEXT, limit=TOKENS)
    assert len(tokens) == TOKENS
    ids = [int(i) for i in tokens.ids]
    batch = torch.tensor([ids])
    cells = {name: template(name, tokens) for name in TEMPLATES} | {"a pair": pair(tokens, 40, 20)}

    def search(asked: np.ndarray) -> Callable[[], object]:
        return lambda: by_cells(session, ids, asked)

    model = plain_model(session)

    def plain() -> object:
        with torch.no_grad():
            return model(input_ids=batch, use_cache=False)

    work: dict[str, Callable[[], object]] = {PLAIN: plain}
    work |= {name: search(asked) for name, asked in cells.items()}
    found = medians(work, ROUNDS)
    forward = found[PLAIN]
    rows = [
        {"all 270 heads by": name, "ms": 1000 * median, "to_forward": median / forward}
        for name, median in found.items()
    ]
    report("search", rows)


if __name__ == "__main__":
    main()
