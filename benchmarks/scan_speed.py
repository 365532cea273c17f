"""What a scan costs over a plain forward pass, as a ratio within one run.

    python benchmarks/scan_speed.py [--model smollm2-135m] [--dtype float32] [--rounds 5]

Both sides run the same batches of the sample corpus, in turns: a plain forward pass (transformers'
SDPA attention, no logits, no cache) and the scan's (patterns of all heads read and tallied).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch

from attn.corpus import load_corpus
from attn.model import ModelSession, Reading, load_model
from attn.scan import LISTS
from attn.tally import Batch, LayerTally


def batches(session: ModelSession, ctx: int, size: int, count: int) -> list[Batch]:
    documents = list(load_corpus("sample"))
    ids = [session.encode(d.text, None, ctx).ids.tolist() for d in documents]
    whole = [row for row in ids if len(row) == ctx]
    if len(whole) < size:
        raise SystemExit(f"Only {len(whole)} documents have {ctx} tokens.")
    made = []
    for i in range(count):
        picks = [(i * size + k) % len(whole) for k in range(size)]
        rows = [whole[p] for p in picks]
        places = range(i * size, (i + 1) * size)
        made.append(Batch.make(rows, places, [p * 7919 for p in places], 0, session.device))
    return made


def timed(work: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ctx", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    session = load_model(args.model, args.device, args.dtype)
    plain = copy.deepcopy(session.hf).base_model
    plain.set_attn_implementation("sdpa")
    work = batches(session, args.ctx, args.batch, args.rounds + 2)
    tallies = [
        LayerTally(
            session.n_heads,
            args.ctx,
            [100] * len(LISTS),
            min_row=10,
            skip_first=True,
            device=session.device,
        )
        for _ in range(session.n_layers)
    ]

    def forward(batch: Batch) -> None:
        with torch.no_grad():
            plain(input_ids=batch.ids, use_cache=False)

    def scan(batch: Batch) -> None:
        def reduce(reading: Reading) -> None:
            tallies[reading.layer].add(reading.pattern, reading.visible, batch)

        session.observe(batch.ids, reduce)

    ratios = []
    for i, batch in enumerate(work):
        a = timed(lambda b=batch: forward(b), session.device)  # type: ignore[misc]
        b = timed(lambda b=batch: scan(b), session.device)  # type: ignore[misc]
        if i >= 2:  # the first rounds warm up caches and thresholds
            ratios.append(b / a)
            tokens = batch.ids.numel()
            plain_speed, scan_speed = tokens / a, tokens / b
            print(f"plain {plain_speed:6.0f} tokens/s   scan {scan_speed:6.0f}   {b / a:.2f}x")
    print(f"scan / plain forward, median of {len(ratios)}: {statistics.median(ratios):.2f}x")


if __name__ == "__main__":
    main()
