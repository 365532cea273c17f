"""Merges indexes of parts of a corpus into the index that one scan of the whole would give."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from attn.errors import IndexMismatch, ScanError
from attn.index.documents import (
    Described,
    DocumentWriter,
    read_descriptions,
    read_documents,
    read_vocabulary,
)
from attn.index.folder import index_folder, is_whole, put_in_place
from attn.index.index import Index
from attn.index.manifest import Manifest, derived_values, verify_files
from attn.index.repeats import Repeats
from attn.scan.index_writer import write_index
from attn.scan.layer_files import Frame, Windows, head_counts, read_layer
from attn.scan.partials import LayerPart, Limits, merge

_OWN = (
    "identity", "fingerprint", "documents", "windows", "repeated", "tokens", "groups", "files",
    "rows", "skip", "docs", "short", "notices", "corpus",
)  # fmt: skip
"""Fields in which the manifests of parts may differ; all others must be equal. A corpus may lie in
another folder on another machine, but its name must be the same."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """One of the indexes to merge, and how its numbers map to those of the whole."""

    index: Index
    frame: Frame

    def part(self, layer: int) -> LayerPart:
        index = self.index
        counts = head_counts(index.path, layer, index.manifest.n_heads)
        return read_layer(index.path, layer, counts, index.uniform(layer), self.frame)


def merge_indexes(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Merge indexes of parts of one corpus and return the folder of the whole, inside ``out``.

    The parts are made by ``scan --skip N --docs M``, with N and M multiples of ``--shard``. Raises
    :class:`IndexMismatch` for parts of different scans, :class:`ScanError` for gaps and overlaps.
    """
    out = Path(out)
    indexes = sorted((Index.open(path) for path in paths), key=lambda i: i.manifest.skip)
    _check(indexes)
    for index in indexes:  # what is read below is not checked again
        verify_files(index.path)
    manifests = [index.manifest for index in indexes]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".index-", dir=out) as temporary:
        work = Path(temporary) / "index"
        work.mkdir()
        told: dict[int, Described] = {}
        for index in indexes:
            told |= read_descriptions(index.path)
        one = manifests[0]
        writer = DocumentWriter(work, one.min_row, one.overlap, one.suffix, told.__getitem__)
        for index in indexes:
            for records in read_documents(index.path):
                for record in records:
                    writer.add(record)
        writer.close()
        values = _values(manifests)
        values |= derived_values(values, writer, indexes[0].measured)
        folder = out / index_folder(values)
        if is_whole(folder):
            return folder
        pieces = _pieces(indexes, read_vocabulary(work), Repeats.read(work))
        first = manifests[0]
        limits = Limits(first.top, first.sample, first.band, first.per_token, first.write)

        def part_of(layer: int) -> LayerPart:
            return merge([piece.part(layer) for piece in pieces], limits)

        write_index(work, part_of, indexes[0].of_model(), values, indexes[0].measured)
        put_in_place(work, folder)
    return folder


def _check(indexes: Sequence[Index]) -> None:
    if not indexes:
        raise ScanError("Name the indexes to merge.")
    for index in indexes[1:]:
        a, b = (asdict(i.manifest) for i in (indexes[0], index))
        a, b = ({**told, "corpus": Path(told["corpus"]).name} for told in (a, b))
        alike = [name for name in a if name not in _OWN or name == "corpus"]
        other = next((name for name in alike if a[name] != b[name]), None)
        if other is not None:
            raise IndexMismatch(
                f"{indexes[0].name} and {index.name} differ in {other}, {a[other]} and {b[other]}: "
                f"parts of one whole are scanned alike."
            )
        if index.measured != indexes[0].measured:
            raise IndexMismatch(
                f"{indexes[0].name} and {index.name} hold different metrics: scan the older again."
            )
    for one, two in pairwise(indexes):
        end, start = one.manifest.end, two.manifest.skip
        if end is None or end > start:
            raise ScanError(
                f"{one.name} and {two.name} share documents: merge parts that do not overlap."
            )
        if end < start:
            raise ScanError(
                f"Documents {end} to {start - 1} are in none of the parts: scan them with "
                f"--skip {end} --docs {start - end}."
            )
        if end % one.manifest.shard:
            raise ScanError(
                f"{one.name} ends within a shard: --docs of all parts but the last is a multiple "
                f"of --shard, which is {one.manifest.shard}."
            )


def _values(manifests: Sequence[Manifest]) -> dict[str, Any]:
    first, last = manifests[0], manifests[-1]
    shared = {name: value for name, value in asdict(first).items() if name not in _OWN}
    shared.pop("format")
    return shared | {
        "corpus": first.corpus,
        "skip": first.skip,
        "docs": None if last.docs is None else last.skip + last.docs - first.skip,
        "short": sum(manifest.short for manifest in manifests),
        "notices": last.notices,  # a corpus counts its rows from the start, also the skipped ones
    }


def _pieces(indexes: Sequence[Index], vocabulary: list[int], repeats: Repeats) -> list[_Piece]:
    numbers = {token: number for number, token in enumerate(vocabulary)}
    pieces, first = [], 0
    for number, index in enumerate(indexes):
        manifest = index.manifest
        renumber = np.array([numbers[token] for token in read_vocabulary(index.path)], np.int64)
        windows = Windows.read(index.path)
        # A text's first document in the whole may be in an earlier part.
        windows = replace(windows, text=repeats.texts(windows.document))
        frame = Frame(
            windows,
            first,
            renumber,
            len(vocabulary),
            manifest.seed,
            manifest.ctx,
            frozenset([number]),
        )
        pieces.append(_Piece(index, frame))
        first += len(windows.document)
    return pieces
