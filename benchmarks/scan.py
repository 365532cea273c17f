"""What a scan costs over a plain forward pass, as ratios within one run.

    python -m benchmarks.scan

Both sides run the same batches of the sample corpus, in turns: a plain forward pass (transformers'
SDPA attention, no logits, no cache), and all that a scan does with a batch: masks made, patterns of
all heads read, everything tallied. Medians over the rounds after the first, in which lists fill.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from attn.corpus.corpus import load_corpus
from attn.models.session import ModelSession, load_model
from attn.scan.batches import Entry
from attn.scan.forward_pass import BATCH_TOKENS, scan_batch
from attn.scan.plan import Plan
from attn.scan.tally import LayerTally
from benchmarks.report import report


def batches(session: ModelSession, ctx: int, count: int) -> tuple[list[list[Entry]], int]:
    """``count`` batches of full windows of the sample's text, end to end, and its vocabulary."""
    ids: list[int] = []
    texts: list[str] = []
    words: list[int] = []
    for document in load_corpus("sample"):
        tokens = session.encode(document.text, False)
        ids += tokens.ids.tolist()
        texts += tokens.texts
        before = words[-1] + 1 if words else 0
        words += [before + word for word in tokens.words]
    assert session.bos_id is not None
    numbers = {token: i for i, token in enumerate(sorted({*ids, session.bos_id}))}
    size, step = BATCH_TOKENS // ctx, ctx - 1
    made = []
    for i in range(count):
        entries = []
        for k in range(i * size, (i + 1) * size):
            start = k * step % (len(ids) - step)
            some = slice(start, start + step)
            own, shown = [session.bos_id, *ids[some]], ["BOS", *texts[some]]
            numbered = [numbers[token] for token in own]
            entries.append(Entry(own, shown, [-1, *words[some]], numbered, k, k, 7919 * k, 10, k))
        made.append(entries)
    return made, len(numbers)


def timed(work: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def plain_model(session: ModelSession, logits: bool = False) -> Any:
    """A session's model with transformers' fast attention; without its logits unless asked for."""
    plain = copy.deepcopy(session.hf, {id(session._watch): None})
    plain = plain if logits else plain.base_model
    plain.set_attn_implementation("sdpa")
    return plain


def measure(session: ModelSession, ctx: int, rounds: int) -> dict[str, Any]:
    """Plain and scan seconds a batch, and their ratio, as medians of the rounds."""
    plain = plain_model(session)
    work, vocabulary = batches(session, ctx, rounds + 2)
    plan = Plan(ctx=ctx).check(session)
    tallies = [
        LayerTally(session.n_heads, ctx, vocabulary, plan.limits, device=session.device)
        for _ in range(session.n_layers)
    ]
    pairs = []
    for entries in work:
        ids = torch.tensor([entry.ids for entry in entries], device=session.device)

        def forward(ids: torch.Tensor = ids) -> None:
            with torch.no_grad():
                plain(input_ids=ids, use_cache=False)

        def scan(entries: list[Entry] = entries) -> None:
            scan_batch(session, plan, tallies, entries)

        pairs.append((timed(forward, session.device), timed(scan, session.device)))
    kept = pairs[2:]
    return {
        "tokens": ctx,
        "dtype": session.dtype,
        "plain_s": statistics.median(a for a, _ in kept),
        "scan_s": statistics.median(b for _, b in kept),
        "ratio": statistics.median(b / a for a, b in kept),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--ctx", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rows = []
    for dtype in args.dtype:
        session = load_model(args.model, args.device, dtype)
        rows += [measure(session, ctx, args.rounds) for ctx in args.ctx]
    report("scan", rows)


if __name__ == "__main__":
    main()
