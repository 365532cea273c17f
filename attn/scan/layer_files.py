"""A layer's counts and lists in the index's files: writing them, and reading them back.

Reading gives back exactly what was written, so that indexes of parts of a corpus can be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from attn.index.documents import read_documents
from attn.index.format import (
    EXAMPLE_COLUMNS,
    HEADS,
    PAIR_COLUMNS,
    PAIR_GROUP,
    TOKEN_COLUMNS,
    layer_file,
    options,
)
from attn.index.repeats import Repeats
from attn.measure.scores import LISTS
from attn.scan.partials import Best, LayerPart, Pairs, Table
from attn.scan.sort_keys import MOST, descending, hashes_of, pack, unpack


@dataclass(frozen=True, eq=False)
class Windows:
    """Where each window of a corpus is, (window,): its document, start, length and hash key.

    ``text`` the first document that has its document's text.
    """

    document: np.ndarray
    start: np.ndarray
    length: np.ndarray
    key: np.ndarray
    text: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Windows:
        """Read the windows of documents.parquet, in its order."""
        rows = [
            (record.document, record.start, len(record.ids), record.key)
            for records in read_documents(folder)
            for record in records
        ]
        document, start, length, key = (
            np.array(column, np.int64) for column in zip(*rows, strict=True)
        )
        return cls(document, start, length, key, Repeats.read(folder).texts(document))


def write_layer(
    folder: Path, layer: int, part: LayerPart, windows: Windows, vocabulary: int, causal: bool
) -> None:
    """Write the three files of a layer; pairs/ only if token lists are kept."""
    for kind in ("examples", "tokens", "pairs"):
        (folder / kind).mkdir(exist_ok=True)
    heads = len(part.rows)
    with pq.ParquetWriter(
        folder / layer_file("examples", layer), EXAMPLE_COLUMNS, **options()
    ) as file:
        for head in range(heads):
            _write(file, _examples(part.kept, head, heads, windows, causal))
    with pq.ParquetWriter(folder / layer_file("tokens", layer), TOKEN_COLUMNS, **options()) as file:
        for head in range(heads):
            _write(file, _tokens(part, head))
    with pq.ParquetWriter(folder / layer_file("pairs", layer), PAIR_COLUMNS, **options()) as file:
        ends = torch.searchsorted(part.best.key, torch.arange(heads + 1) * vocabulary).tolist()
        for head in range(heads):
            table = _pairs(part.best, slice(ends[head], ends[head + 1]), vocabulary, windows)
            if table.num_rows:  # an empty table would become a row group, and readers count those
                file.write_table(table, row_group_size=PAIR_GROUP)


def _write(file: pq.ParquetWriter, table: pa.Table) -> None:
    file.write_table(table, row_group_size=max(1, table.num_rows))


def _examples(kept: Pairs, head: int, heads: int, windows: Windows, causal: bool) -> pa.Table:
    """The kept pairs of a head, each once, by falling multiple, then place."""
    group, place = kept.group.numpy(), kept.place.numpy()
    mine = np.flatnonzero(group % heads == head)
    places, first = np.unique(place[mine], return_index=True)
    index = mine[first]
    falling = np.lexsort((places, -kept.multiple.numpy()[index]))
    places, index = places[falling], index[falling]
    window, dst, src = (part.numpy() for part in unpack(torch.from_numpy(places)))
    columns: dict[str, Any] = {
        "head": np.full(len(index), head, np.int16),
        "document": windows.document[window],
        "start": windows.start[window].astype(np.int32),
        "dst": dst.astype(np.int32),
        "src": src.astype(np.int32),
        "token": kept.token.numpy()[index].astype(np.int32),
        "multiple": kept.multiple.numpy()[index],
        "attention": kept.attention.numpy()[index],
        "write": kept.write.numpy()[index],
    }
    order = np.argsort(places)
    for kind, name in enumerate(LISTS):
        members = place[group == kind * heads + head]  # by rank already
        rank = np.full(len(index), -1, np.int32)
        rank[order[np.searchsorted(places[order], members)]] = np.arange(len(members))
        columns[f"rank_{name}"] = rank
    ends = dst + 1 if causal else windows.length[window]
    rows = kept.rows.numpy()[index]
    offsets = np.concatenate([[0], np.cumsum(ends)]).astype(np.int32)
    seen = np.arange(rows.shape[1]) < np.asarray(ends)[:, None]
    columns["row"] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows[seen]))
    return pa.table(columns, EXAMPLE_COLUMNS)


def _tokens(part: LayerPart, head: int) -> pa.Table:
    columns: dict[str, Any] = {"token": part.tokens.numpy().astype(np.int32)}
    for side, table in (("source", part.sources), ("destination", part.destinations)):
        for name in ("pairs", "mass", "maximum"):
            columns[f"{side}_{name}"] = getattr(table, name)[head].numpy()
    return pa.table(columns, TOKEN_COLUMNS)


def _pairs(best: Best, mine: slice, vocabulary: int, windows: Windows) -> pa.Table:
    window, dst, src = (part.numpy() for part in unpack(best.place[mine]))
    columns = {
        "token": (best.key[mine] % vocabulary).numpy().astype(np.int32),
        "document": windows.document[window],
        "start": windows.start[window].astype(np.int32),
        "dst": dst.astype(np.int32),
        "src": src.astype(np.int32),
        "multiple": best.multiple[mine].numpy(),
        "attention": best.attention[mine].numpy(),
    }
    return pa.table(columns, PAIR_COLUMNS)


def head_columns(part: LayerPart, vocabulary: int) -> dict[str, list[Any]]:
    """A layer's rows of heads.parquet: column → one value a head."""
    heads = len(part.rows)
    listed = torch.bincount(part.best.key // max(vocabulary, 1), minlength=heads)
    return {
        "rows": part.rows.tolist(),
        "pairs": part.pairs.tolist(),
        "nonfinite": part.nonfinite.tolist(),
        "listed": listed.tolist(),
        **{name: getattr(part, name).T.tolist() for name in LISTED},
    }


LISTED = ("sums", "parts", "distances", "attention")
"""The columns of heads.parquet that hold a list of integers a head."""


def head_counts(folder: Path, layer: int, heads: int) -> dict[str, np.ndarray]:
    """A layer's rows of heads.parquet, column → (head, ...), as :func:`read_layer` takes them."""
    names = ["rows", "pairs", "nonfinite", "listed", *LISTED]
    table = pq.read_table(folder / HEADS, columns=names).slice(layer * heads, heads)
    return {name: np.array(table[name].to_pylist(), np.int64) for name in names}


@dataclass(frozen=True, eq=False)
class Frame:
    """How an index's numbers of windows and tokens map to those of a larger index.

    ``windows`` its own, with the texts of the larger one; ``first`` the number of its
    first window there; ``renumber`` (token,) its tokens' numbers there, of ``vocabulary``; ``seed``
    of the samples; ``width`` of a row; ``shards`` what it covers.
    """

    windows: Windows
    first: int
    renumber: np.ndarray
    vocabulary: int
    seed: int
    width: int
    shards: frozenset[int]

    def place(self, table: pa.Table) -> tuple[Tensor, Tensor]:
        """Places in the larger index, and the windows in this one, of pairs."""
        document, start = table["document"].to_numpy(), table["start"].to_numpy()
        lines = self.windows.document * (1 << 32) + self.windows.start
        window = torch.from_numpy(np.searchsorted(lines, document * (1 << 32) + start))
        dst, src = (torch.from_numpy(table[name].to_numpy().astype(np.int64)) for name in PLACE)
        return pack(window + self.first, dst, src), window


PLACE = ("dst", "src")


def read_layer(
    folder: Path, layer: int, counts: Mapping[str, np.ndarray], uniform: np.ndarray, frame: Frame
) -> LayerPart:
    """Read the part that :func:`write_layer` wrote, with the numbers of a larger index.

    ``counts`` the layer's rows of heads.parquet, column → (head, ...); ``uniform`` (token,).
    """
    heads = len(counts["rows"])
    with pq.ParquetFile(folder / layer_file("examples", layer)) as file:
        kept = [_kept(file.read_row_group(head), head, heads, frame) for head in range(heads)]
    with pq.ParquetFile(folder / layer_file("tokens", layer)) as file:
        tables = [file.read_row_group(head) for head in range(heads)]
    own = tables[0]["token"].to_numpy()
    order = np.argsort(frame.renumber[own])

    def column(name: str) -> Tensor:
        return torch.from_numpy(np.stack([table[name].to_numpy()[order] for table in tables]))

    sources, destinations = (
        Table(*(column(f"{side}_{name}") for name in ("pairs", "mass", "maximum")))
        for side in ("source", "destination")
    )
    return LayerPart(
        shards=frame.shards,
        tokens=torch.from_numpy(frame.renumber[own][order]),
        uniform=torch.from_numpy(uniform[own][order]),
        sources=sources,
        destinations=destinations,
        kept=Pairs.join(kept),
        best=_best(pq.read_table(folder / layer_file("pairs", layer)), counts["listed"], frame),
        **{name: torch.from_numpy(counts[name]) for name in ("rows", "pairs", "nonfinite")},
        **{name: torch.from_numpy(counts[name].T.copy()) for name in LISTED},
    )


def _kept(table: pa.Table, head: int, heads: int, frame: Frame) -> Pairs:
    """A head's pairs as the lists hold them, one entry a list."""
    place, window = frame.place(table)
    _, dst, src = unpack(place)
    keys = torch.from_numpy(frame.windows.key)[window]
    chance, of_row = hashes_of(keys, dst, src, frame.seed)
    multiple, attention, write = (
        torch.from_numpy(table[name].to_numpy().copy())
        for name in ("multiple", "attention", "write")
    )
    falling = descending(multiple)
    orders = {
        "top": falling,
        "attention": descending(attention),
        "write": descending(write.nan_to_num(0)),
        "bottom": MOST - falling,
        "by_document": falling,
        "rows": of_row,
    }
    rows = torch.zeros((table.num_rows, frame.width), dtype=torch.float16)
    for i, row in enumerate(table["row"]):
        values = torch.from_numpy(row.values.to_numpy().copy())
        rows[i, : len(values)] = values
    text = torch.from_numpy(frame.windows.text)[window]
    token = torch.from_numpy(frame.renumber[table["token"].to_numpy()])
    parts = []
    for kind, name in enumerate(LISTS):
        rank = table[f"rank_{name}"].to_numpy()
        by_rank = np.argsort(rank, kind="stable")
        some = torch.from_numpy(by_rank[rank[by_rank] >= 0])
        group = torch.full_like(some, kind * heads + head)
        order = orders.get(name, chance)
        parts.append(
            Pairs(
                group,
                order[some],
                place[some],
                text[some],
                token[some],
                multiple[some],
                attention[some],
                write[some],
                rows[some],
            )
        )
    return Pairs.join(parts)


def _best(table: pa.Table, listed: np.ndarray, frame: Frame) -> Best:
    place, _ = frame.place(table)
    head = np.repeat(np.arange(len(listed)), listed)
    token = frame.renumber[table["token"].to_numpy()]
    return Best(
        torch.from_numpy(head * frame.vocabulary + token),
        descending(torch.from_numpy(table["multiple"].to_numpy().copy())),
        place,
        torch.from_numpy(table["attention"].to_numpy().copy()),
    )
