"""Measures the effects of heads over an index's documents, shard by shard.

Estimates of all heads come first; they say which heads are strongest, and those, with the ones
asked for, are measured exactly. Every shard is committed when it is done, so a command that was
killed goes on after the last one and ends in the same bytes. More heads can be asked for later:
what is there is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from attn.analyse.effects.merge import (
    Estimates,
    agreement,
    merge_estimates,
    merge_exact,
    most_needed,
    shard_name,
    table_of,
)
from attn.analyse.effects.passes import Batch, Passes, Place, precise
from attn.analyse.effects.plan import BATCH_TOKENS, SHARD, Plan
from attn.errors import EffectsError
from attn.formatting import duration
from attn.heads import HeadId
from attn.index.documents import first_row, read_ids
from attn.index.effects import RECORD, Effects, place, read_effects, write_effects
from attn.index.index import Index
from attn.index.parts import Parts
from attn.models.session import ModelSession

Step = Callable[[str, float, str], None]
"""Told how far the work is: what is done, the share of it (0 to 1), and documents and time left."""

Shard = Sequence[Place]


def measure(
    index: Index,
    load: Callable[[], ModelSession],
    plan: Plan | None = None,
    step: Step | None = None,
) -> Effects:
    """Measure effects as ``plan`` says and keep them beside the index.

    ``load`` gives a session of the index's model; it is called only where there is work to do.
    Raises EffectsError, HeadError, IndexMismatch for other weights, ModelError.
    """
    plan, told = plan or Plan(), step or (lambda *_: None)
    plan.check(index)
    documents = plan.documents(index)
    identity = plan.identity(index, documents)
    folder = place(index.path, identity)
    before = read_effects(folder) if (folder / RECORD).exists() else None
    already = [] if before is None else [one for one in index.heads() if before.is_exact(one)]
    if before is not None and set(plan.exact_heads(before.estimate)) <= set(already):
        return before
    session = load()
    session.need_weights(index.manifest.weights)
    passes = Passes(session)
    with _failing_in_words(folder):
        folder.mkdir(exist_ok=True)
        parts, shards = Parts(folder / "parts"), _shards(index, documents)
        _estimate(passes, parts, shards, told)
        estimates = merge_estimates(parts, len(shards))
        heads = plan.exact_heads(estimates.effect, already)
        _exact(passes, parts, shards, estimates, heads, plan.top, told)
        return _write(folder, index, identity, parts, shards, estimates, heads, plan.top)


def _shards(index: Index, documents: np.ndarray) -> list[Shard]:
    """The chosen documents' windows, :data:`SHARD` documents at a time."""
    places: dict[int, list[Place]] = {int(document): [] for document in documents}
    overlap = index.manifest.overlap
    for document, start, ids in read_ids(index.path, documents):
        places[document].append(Place(document, start, ids, first_row(start, 0, overlap)))
    each = [*places.values()]
    return [
        [one for some in each[i : i + SHARD] for one in some] for i in range(0, len(each), SHARD)
    ]


def _batches(shard: Shard, device: str) -> Iterator[tuple[list[int], Batch]]:
    """Windows of similar length, with their numbers in the shard, within BATCH_TOKENS."""
    order = sorted(range(len(shard)), key=lambda i: (len(shard[i].ids), i))
    some: list[int] = []
    for i in order:
        if some and len(shard[i].ids) * (len(some) + 1) > BATCH_TOKENS:
            yield some, Batch.make([shard[k] for k in some], device)
            some = []
        some.append(i)
    yield some, Batch.make([shard[k] for k in some], device)


class _Clock:
    """Tells how far a stage is, counting documents."""

    def __init__(self, stage: str, total: int, told: Step) -> None:
        self._stage, self._total, self._told = stage, total, told
        self._start, self._done, self._found = time.monotonic(), 0, 0
        told(stage, 0.0, f"0/{total:,} documents")

    def add(self, documents: int, *, found: bool) -> None:
        """Count documents, ``found`` where an earlier run has done them."""
        self._done += documents
        self._found += documents * found
        new, left = self._done - self._found, self._total - self._done
        seconds = (time.monotonic() - self._start) * left / new if new else 0.0
        detail = f"{self._done:,}/{self._total:,} documents"
        detail += f" · {duration(seconds)} left" if seconds else ""
        self._told(self._stage, self._done / self._total, detail)


def _documents(shard: Shard) -> list[int]:
    return sorted({one.document for one in shard})


def _clock(stage: str, shards: Sequence[Shard], told: Step) -> _Clock:
    return _Clock(stage, sum(len(_documents(shard)) for shard in shards), told)


def _estimate(passes: Passes, parts: Parts, shards: Sequence[Shard], told: Step) -> None:
    """One forward and one backward pass over every shard that has none yet."""
    clock = _clock("Estimating all heads", shards, told)
    for number, shard in enumerate(shards):
        found = parts.committed(shard_name(number))
        if not found:
            parts.commit(shard_name(number), _estimated(passes, shard))
        clock.add(len(_documents(shard)), found=found)


def _estimated(passes: Passes, shard: Shard) -> dict[str, np.ndarray]:
    """Sums of a shard: of z over its positions, and of the rest by document."""
    row = {document: i for i, document in enumerate(_documents(shard))}
    sums: dict[str, Any] = {}
    for numbers, batch in _batches(shard, passes.session.device):
        with passes.running(grad=True):
            one = passes.estimate(batch)
        at = torch.tensor([row[shard[i].document] for i in numbers])
        for name in ("loss", "tokens", "gradient", "product"):
            values = getattr(one, name)
            into = sums.setdefault(name, values.new_zeros((len(row), *values.shape[1:])))
            into.index_add_(0, at, values)
        sums["mean_sum"] = sums.get("mean_sum", 0) + one.mean_sum
        sums["mean_of"] = sums.get("mean_of", 0) + torch.tensor([one.positions])
    sums["gradient"] = sums["gradient"].float()  # the largest by far
    return {name: value.numpy() for name, value in sums.items()}


def _exact(
    passes: Passes,
    parts: Parts,
    shards: Sequence[Shard],
    estimates: Estimates,
    heads: Sequence[HeadId],
    top: int,
    told: Step,
) -> None:
    """Ablate each head on every shard that it was not ablated on yet."""
    if not heads:
        return
    plural = "s" if len(heads) > 1 else ""
    clock = _clock(f"Ablating {len(heads)} head{plural}", shards, told)
    for number, shard in enumerate(shards):
        missing = [head for head in heads if not parts.committed(shard_name(number, head))]
        if missing:
            for head, arrays in _ablated(passes, shard, estimates, missing, top).items():
                parts.commit(shard_name(number, head), arrays)
        clock.add(len(_documents(shard)), found=not missing)


def _ablated(
    passes: Passes, shard: Shard, estimates: Estimates, heads: Sequence[HeadId], top: int
) -> dict[HeadId, dict[str, np.ndarray]]:
    """Head → the change of the loss of each document, and the tokens that it changes most."""
    row = {document: i for i, document in enumerate(_documents(shard))}
    totals = {head: np.zeros(len(row)) for head in heads}
    found: dict[HeadId, list[dict[str, np.ndarray]]] = {head: [] for head in heads}
    for numbers, batch in _batches(shard, passes.session.device):
        at = [row[shard[i].document] for i in numbers]
        with passes.running(grad=False):
            whole = passes.unablated(batch)
            for head in heads:
                mean = torch.from_numpy(estimates.mean[head.layer, head.head]).float()
                change = whole.without(head, mean.to(passes.session.device))
                np.add.at(totals[head], at, precise(change).sum(1).cpu().numpy())
                found[head].append(_tokens(batch, whole.losses, change))
                found[head] = [most_needed(found[head], top)]
    return {head: {"total": totals[head], **found[head][0]} for head in heads}


def _tokens(batch: Batch, losses: torch.Tensor, change: torch.Tensor) -> dict[str, np.ndarray]:
    """Every token of a batch that counts, as columns."""
    windows, positions = (at.cpu().numpy() for at in batch.counted.nonzero(as_tuple=True))
    places = [batch.places[i] for i in windows]
    return {
        "document": np.array([one.document for one in places], np.int64),
        "start": np.array([one.start for one in places], np.int32),
        "position": positions.astype(np.int32),
        "loss": losses[batch.counted].float().cpu().numpy(),
        "change": change[batch.counted].float().cpu().numpy(),
    }


def _write(
    folder: Path,
    index: Index,
    identity: str,
    parts: Parts,
    shards: Sequence[Shard],
    estimates: Estimates,
    heads: Sequence[HeadId],
    top: int,
) -> Effects:
    exact = {head: merge_exact(parts, len(shards), head, top) for head in heads}
    table = table_of(estimates, exact)
    tokens = int(estimates.tokens.sum())
    of_exact = np.array([one.change.sum() / tokens for one in exact.values()])
    of_estimate = np.array([estimates.effect[head.layer, head.head] for head in exact])
    measured = {
        "identity": identity,
        "index": index.manifest.identity,
        "documents": len(estimates.tokens),
        "windows": sum(len(shard) for shard in shards),
        "tokens": tokens,
        "loss": float(estimates.loss.sum() / tokens),
        "top": top,
        "exact": len(heads),
        **agreement(of_estimate, of_exact),
    }
    return write_effects(folder, measured, table)


@contextmanager
def _failing_in_words(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into an EffectsError."""
    try:
        yield
    except BrokenPipeError:  # an error of whoever is told, not of the disk
        raise
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise EffectsError(
            f"The effects cannot be kept in {folder} ({reason}): free some space, then say the "
            f"command again; what is done is kept."
        ) from error
