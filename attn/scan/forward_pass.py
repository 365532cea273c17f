"""Runs the model over the windows of each shard and counts every layer's patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from attn.errors import ScanError
from attn.index.documents import DocumentWriter, read_vocabulary
from attn.index.repeats import Repeats
from attn.models.interface import Reading
from attn.models.session import ModelSession
from attn.scan.batches import Batch, Entry
from attn.scan.plan import Plan
from attn.scan.progress import Clock, Report
from attn.scan.shards import Shards
from attn.scan.tally import LayerTally
from attn.scan.windows import entry_of, windows_by_shard

BATCH_TOKENS = 2048  # tokens in a batch, padding included


def scan_shards(
    session: ModelSession, plan: Plan, work: Path, documents: DocumentWriter, report: Report
) -> None:
    """Run the model over documents.parquet, shard by shard, skipping shards that are done."""
    shards, numbers = Shards(work), {token: i for i, token in enumerate(read_vocabulary(work))}
    tallies = tallies_of(session, plan, len(numbers))
    repeats = Repeats.read(work)
    clock = Clock(documents.documents, report)
    size = BATCH_TOKENS
    for number, windows in windows_by_shard(work, plan.shard):
        done = {record.document for _, record in windows}
        found = shards.committed(number)
        if not found:
            entries = [entry_of(record, place, numbers, repeats, plan) for place, record in windows]
            size = _scan_shard(session, plan, tallies, len(numbers), entries, size, clock)
            shards.commit(number, [tally.finish(number) for tally in tallies])
        clock.shard_done(len(done), found=found)


def tallies_of(session: ModelSession, plan: Plan, vocabulary: int) -> list[LayerTally]:
    """An empty tally for each layer; ``vocabulary`` is the number of different tokens."""
    return [
        LayerTally(
            session.n_heads,
            plan.ctx,
            vocabulary,
            plan.limits,
            skip_first=plan.skip_first,
            causal=not session.bidirectional,
            device=session.device,
        )
        for _ in range(session.n_layers)
    ]


def _scan_shard(
    session: ModelSession,
    plan: Plan,
    tallies: list[LayerTally],
    vocabulary: int,
    entries: list[Entry],
    size: int,
    clock: Clock,
) -> int:
    """Count a shard. Returns the batch size in tokens, halved each time memory ran out."""
    tokens = torch.tensor(sorted({token for entry in entries for token in entry.tokens}))
    while True:
        for tally in tallies:
            tally.start(tokens)
        try:
            done: set[int] = set()
            for some in batches(entries, size):
                scan_batch(session, plan, tallies, some)
                done |= {entry.document for entry in some}
                clock.batch_done(len(done), sum(len(entry.ids) for entry in some))
        except torch.OutOfMemoryError as error:
            if size < max(len(entry.ids) for entry in entries):
                raise ScanError(
                    f"The memory of {session.device} does not hold one window of {plan.ctx} "
                    f"tokens: lower --ctx, or use --dtype bfloat16 or --device cpu."
                ) from error
            size //= 2
            # Batches of another size give other last bits, so the lists' bounds start afresh.
            tallies.clear()
            tallies.extend(tallies_of(session, plan, vocabulary))
            torch.cuda.empty_cache()
            continue
        return size


def scan_batch(
    session: ModelSession, plan: Plan, tallies: list[LayerTally], entries: list[Entry]
) -> None:
    """Run the model over windows and count every layer's pattern."""
    batch = Batch.make(entries, seed=plan.seed, device=session.device)

    def reduce(reading: Reading) -> None:
        tallies[reading.layer].add(reading.pattern, reading.visible, batch, reading.norms)

    session.observe(batch.ids, reduce, lengths=batch.lengths.tolist(), norms=plan.write)


def batches(entries: Sequence[Entry], size: int) -> Iterator[list[Entry]]:
    """Batches of windows of similar length, at most ``size`` tokens with padding."""
    batch: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (len(entry.ids), entry.window)):
        if batch and len(entry.ids) * (len(batch) + 1) > size:
            yield batch
            batch = []
        batch.append(entry)
    yield batch
