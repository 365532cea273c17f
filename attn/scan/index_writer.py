"""Parts of all layers → the files of an index. The last step of a scan and of a merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attn.index.documents import read_vocabulary
from attn.index.format import HEADS, VOCABULARY, VOCABULARY_COLUMNS, options
from attn.index.manifest import write_manifest
from attn.index.measured import Measured
from attn.scan.layer_files import Windows, head_columns, write_layer
from attn.scan.partials import LayerPart


def write_index(
    work: Path,
    part_of: Callable[[int], LayerPart],
    of_model: Mapping[str, np.ndarray],
    values: Mapping[str, Any],
    measured: Measured,
) -> None:
    """Write everything but documents.parquet, which is in ``work`` with its vocabulary already.

    ``part_of`` gives the part of a layer and is called in order; ``of_model`` holds what does not
    depend on the corpus, column → (layer, head) or (layer, head, ...); ``values`` of the
    manifest, but for ``rows``; ``measured`` which sums the parts hold.
    """
    windows, vocabulary = Windows.read(work), read_vocabulary(work)
    columns: dict[str, Any] = {"layer": [], "head": [], "uniform": []}
    evens: list[np.ndarray] = []
    for layer in range(values["n_layers"]):
        part = part_of(layer)
        write_layer(work, layer, part, windows, len(vocabulary), not values["bidirectional"])
        heads = len(part.rows)
        even = np.zeros(len(vocabulary), np.int64)
        even[part.tokens.numpy()] = part.uniform.numpy()
        number = next((i for i, other in enumerate(evens) if (other == even).all()), len(evens))
        if number == len(evens):
            evens.append(even)
        added = {
            "layer": [layer] * heads,
            "head": list(range(heads)),
            "uniform": [number] * heads,
            **head_columns(part, len(vocabulary)),
        }
        for name, some in added.items():
            columns.setdefault(name, []).extend(some)
    for name, values_of_heads in of_model.items():
        flat = values_of_heads.reshape(-1, *values_of_heads.shape[2:])
        columns[name] = pa.array(list(flat) if flat.ndim > 1 else flat)
    table = pa.table(columns).replace_schema_metadata(measured.metadata())
    pq.write_table(table, work / HEADS, **options())
    known = pq.read_table(work / VOCABULARY, columns=list(VOCABULARY_COLUMNS))
    for i, even in enumerate(evens):
        known = known.append_column(f"uniform_{i}", pa.array(even))
    pq.write_table(known, work / VOCABULARY, **options())
    write_manifest(work, rows=max(columns["rows"]), **values)
