"""Runs a scan: corpus → tokens → patterns, layer by layer → tallies → shards → an index.

The corpus is read once, tokenized into documents.parquet; the model then runs over that file a
shard at a time, so memory does not grow with the corpus. The index's folder is named by the hash of
everything that decides its content. A scan whose index exists has nothing to do, and shards let a
scan resume where it stopped.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from attn.config import settings
from attn.corpus.corpus import Corpus
from attn.index.documents import DocumentWriter
from attn.index.folder import index_folder, is_whole, put_in_place
from attn.index.format import FROM_CORPUS
from attn.index.manifest import derived_values
from attn.index.measured import Measured
from attn.measure.probes.measure import measure_probes
from attn.measure.random_tokens import measure_random
from attn.measure.user_metrics import load_installed
from attn.measure.weights import measure_weights
from attn.models.session import ModelSession
from attn.scan.forward_pass import scan_shards
from attn.scan.index_writer import write_index
from attn.scan.partials import LayerPart, merge
from attn.scan.plan import Plan
from attn.scan.progress import Progress, Report
from attn.scan.shards import READING, Shards, failing_in_words, remove_old, take_over
from attn.scan.windows import tokenize, windows_by_shard


def scan(
    session: ModelSession,
    corpus: Corpus,
    plan: Plan | None = None,
    *,
    skip: int = 0,
    out: str | Path | None = None,
    progress: Report | None = None,
) -> Path:
    """Scan a corpus and return the folder of its index, inside ``out`` or the settings' folder.

    ``skip`` leaves out the first documents of the corpus: the index of a part, for
    :func:`attn.scan.merge.merge_indexes`. Nothing is done twice: where the index of the same input
    exists, its folder is returned, and shards that an earlier scan left are used. The folder
    appears only when it is complete. Raises :class:`ScanError`, :class:`EmptyCorpus`.

    ``attn.scan`` is this module, which calls this function: ``attn.scan.Plan`` is there too.

    >>> corpus = attn.load_corpus("sample", docs=3)
    >>> folder = attn.scan(model, corpus, attn.scan.Plan(ctx=32))
    >>> attn.Index.open(folder).manifest.documents
    3
    """
    load_installed()
    plan = plan or Plan()
    plan.check_numbers(skip)
    plan = plan.check(session)
    parent = settings().indexes if out is None else Path(out)
    report = progress or (lambda _: None)
    with failing_in_words(parent):
        parent.mkdir(parents=True, exist_ok=True)
    remove_old(parent)
    with (
        failing_in_words(parent),
        tempfile.TemporaryDirectory(prefix=READING, dir=parent) as temporary,
    ):
        fresh = Path(temporary) / "scan"
        fresh.mkdir()
        documents, short = tokenize(session, corpus, plan, skip, fresh, report)
        values = _values(session, corpus, plan, skip, short, documents)
        folder = parent / index_folder(values)
        work = parent / f".scan-{values['identity'][:16]}"
        if is_whole(folder):
            shutil.rmtree(work, ignore_errors=True)  # of a scan that was killed as it ended
            return folder
        take_over(fresh, work)
    with failing_in_words(parent):
        try:
            scan_shards(session, plan, work, documents, report)
            index = work / f"index-{uuid.uuid4().hex}"
            try:
                report(Progress("Measuring the weights", 0, 0, 0, 0.0))
                of_model = measure_random(session, seed=plan.seed) | measure_weights(session)
                report(Progress("Probing for known roles", 0, 0, 0, 0.0))
                probed, reasons = measure_probes(session)
                measured = Measured.now(reasons)
                _assemble(plan, work, index, of_model | probed, values, measured, report)
                put_in_place(index, folder)
            finally:
                shutil.rmtree(index, ignore_errors=True)
        except (OSError, pa.ArrowException):
            if not is_whole(folder):  # else another scan has finished it
                raise
    shutil.rmtree(work, ignore_errors=True)
    return folder


def _values(
    session: ModelSession,
    corpus: Corpus,
    plan: Plan,
    skip: int,
    short: int,
    documents: DocumentWriter,
) -> dict[str, Any]:
    """The manifest's values; ``identity`` hashes all that decides what the index holds."""
    values = {
        "model": session.name,
        "revision": session.revision,
        "weights": session.weights,
        "dtype": session.dtype,
        "n_layers": session.n_layers,
        "n_heads": session.n_heads,
        "bidirectional": session.bidirectional,
        "without_attention": session.without_attention,
        **asdict(plan),
        "corpus": corpus.name,
        "skip": skip,
        "docs": None if corpus.docs is None else corpus.docs - skip,
        "short": short,
        "notices": tuple(corpus.notices),
    }
    return values | derived_values(values, documents, Measured.now())


def _assemble(
    plan: Plan,
    work: Path,
    index: Path,
    of_model: Mapping[str, np.ndarray],
    values: dict[str, Any],
    measured: Measured,
    report: Report,
) -> None:
    """Merge all shards into an index."""
    index.mkdir()
    for name in FROM_CORPUS:
        shutil.copyfile(work / name, index / name)
    shards, numbers = Shards(work), [number for number, _ in windows_by_shard(work, plan.shard)]

    def part_of(layer: int) -> LayerPart:
        report(Progress("Writing the index", 0, 0, 0, 0.0))
        whole: LayerPart | None = None
        for number in numbers:
            part = shards.layer(number, layer)
            whole = part if whole is None else merge([whole, part], plan.limits)
        assert whole is not None
        return whole

    write_index(index, part_of, of_model, values, measured)
