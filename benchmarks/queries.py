"""How long questions to an index take, on one of 10,000 documents.

    python -m benchmarks.queries

The index is synthetic but whole: random tallies written by the code that writes every index, two
layers of four heads, each source token with its ten best pairs. Cold is the first question of a
kind to a head, after the index was opened afresh; warm is any later one.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attn.heads import HeadId
from attn.index.index import Index
from attn.index.query import Ranking
from benchmarks.report import report

DOCUMENTS, WIDTH, HEADS, LAYERS, TOKENS = 10_000, 128, 4, 2, 20_000


def write(folder: Path) -> Path:
    """The synthetic index."""
    import torch

    from attn.index.documents import Described, DocumentWriter, Record, read_vocabulary
    from attn.index.manifest import derived_values
    from attn.index.measured import Measured
    from attn.measure.budget import PARTS
    from attn.measure.histograms import ATTENTION_BINS, DISTANCES
    from attn.measure.scores import LISTS
    from attn.scan.index_writer import write_index
    from attn.scan.partials import Best, LayerPart, Limits, Pairs, Table
    from attn.scan.sort_keys import descending, pack

    folder.mkdir()
    draw = np.random.default_rng(0)
    names = [f" token{i}" for i in range(TOKENS)]
    chances = 1 / (np.arange(TOKENS) + 3.0)
    chances /= chances.sum()
    writer = DocumentWriter(folder, 10, 0, 0, lambda i: Described(names[i], names[i], ""))
    for place in range(DOCUMENTS):
        ids = draw.choice(TOKENS, WIDTH, p=chances)
        texts = [names[i] for i in ids]
        made = (f"{place:016x}", f"row {place}", False, ids.tolist(), texts, [*range(WIDTH)])
        writer.add(Record(place, 0, *made))
    writer.close()
    known, limits = len(read_vocabulary(folder)), Limits()

    def random(*shape: int) -> torch.Tensor:
        return torch.from_numpy(draw.integers(1, 2**40, shape))

    def pairs(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        dst = torch.from_numpy(draw.integers(10, WIDTH, n))
        src = (dst * torch.from_numpy(draw.random(n))).long().clamp(min=1)
        place = pack(torch.from_numpy(draw.integers(0, DOCUMENTS, n)), dst, src)
        attention = torch.from_numpy(draw.random(n)).float().clamp(min=0.2)
        return place, attention, attention * (dst + 1)

    def part_of(layer: int) -> LayerPart:
        kept = []
        for kind, name in enumerate(LISTS):
            for head in range(HEADS):
                n = limits.of(name)
                place, attention, multiple = pairs(n)
                rows = torch.from_numpy(draw.random((n, WIDTH))).half()
                kept.append(
                    Pairs(
                        torch.full((n,), kind * HEADS + head),
                        descending(multiple),
                        place,
                        place >> 32,
                        torch.from_numpy(draw.integers(0, known, n)),
                        multiple,
                        attention,
                        torch.full((n,), torch.nan),
                        rows,
                    )
                )
        size = HEADS * known * limits.per_token
        place, attention, multiple = pairs(size)
        key = torch.arange(HEADS * known).repeat_interleave(limits.per_token)
        best = Best(key, descending(multiple), place, attention).best(limits.per_token)

        def table() -> Table:
            counts = torch.full((HEADS, known), 50)
            return Table(counts, random(HEADS, known), random(HEADS, known).float())

        return LayerPart(
            shards=frozenset([0]),
            rows=torch.full((HEADS,), DOCUMENTS * (WIDTH - 10)),
            pairs=torch.full((HEADS,), 50 * known),
            nonfinite=torch.zeros(HEADS, dtype=torch.int64),
            sums=random(len(Measured.now().sums), HEADS),
            parts=random(len(PARTS) - 1, HEADS),
            distances=random(len(DISTANCES), HEADS),
            attention=random(ATTENTION_BINS, HEADS),
            tokens=torch.arange(known),
            uniform=random(known),
            sources=table(),
            destinations=table(),
            kept=Pairs.join(kept).best(limits.groups(HEADS)),
            best=best,
        )

    values: dict[str, Any] = {
        "model": "synthetic", "revision": "", "weights": "", "dtype": "float32",
        "n_layers": LAYERS, "n_heads": HEADS, "bidirectional": False, "without_attention": (),
        "ctx": WIDTH, "bos": False, "min_row": 10, "top": limits.top, "sample": limits.sample,
        "seed": 0, "skip_first": True, "band": limits.band, "per_token": limits.per_token,
        "write": False, "all_windows": False, "stride": WIDTH, "shard": 64, "suffix": 0,
        "corpus": "synthetic",
        "skip": 0, "docs": None, "short": 0, "notices": (),
    }  # fmt: skip
    held = Measured.now()
    write_index(folder, part_of, {}, values | derived_values(values, writer, held), held)
    return folder


QUESTIONS: dict[str, Callable[[Index, HeadId, int], Ranking]] = {
    "ranked": lambda index, head, i: index.top(head, 10),
    "by attention": lambda index, head, i: index.top(head, 10, by="attention"),
    "reversed": lambda index, head, i: index.top(head, 10, reverse=True),
    "one a document": lambda index, head, i: index.top(head, 10, one_per_document=True),
    "random": lambda index, head, i: index.random(head, 10, seed=i),
    "band": lambda index, head, i: index.band(head, i % 5, 10),
    "by source token": lambda index, head, i: index.top(head, 10, token=f" token{i * 37 % TOKENS}"),
    "by expression": lambda index, head, i: index.top(head, 10, token=f"n{i % 90}7$", regex=True),
}


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = write(Path(temporary) / "index")
        heads = [HeadId(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
        for name, ask in QUESTIONS.items():
            index = Index.open(folder)
            cold, warm = [], []
            for i in range(200):
                start = time.perf_counter()
                ask(index, heads[i % len(heads)], i)
                (cold if i < len(heads) else warm).append((time.perf_counter() - start) * 1000)
            rows.append(
                {
                    "question": name,
                    "median_ms": statistics.median(warm),
                    "worst_ms": max(warm),
                    "cold_ms": max(cold),
                }
            )
        shutil.rmtree(folder)
    report("queries", rows)


if __name__ == "__main__":
    main()
