"""The index's files: their names and schemas, the documents, the manifest, verifying. No torch.

- ``manifest.json``: what was scanned and how, and the SHA-256 of every other file; written last
- ``documents.parquet``: the scanned windows, their ids and display texts
- ``vocabulary.parquet``: every token of the corpus by rising id: as the vocabulary writes it
  (``entry``), its name (``text``), its ``kind``, ``texts`` that it covers, how often it occurs, and
  the attention that a uniform head would give it (``uniform_0``, and more where layers see
  differently); the other files name a token by its row here
- ``repeats.parquet``: each document whose text an earlier one has, and the first that has it
- ``heads.parquet``: a row a head, its exact counts, its metrics on random tokens and what its
  weights say
- ``examples/L00.parquet``: a file a layer, a row group a head; its kept pairs by falling multiple,
  each with its row of attention and its rank in every list (-1 where it is not in that list)
- ``tokens/L00.parquet``: a row group a head; what each token got as source, did as destination
- ``pairs/L00.parquet``: the best pairs of every source token, by head, token and rank, in row
  groups of at most :data:`PAIR_GROUP`
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from attn.measure.scores import LISTS

FORMAT = 5
"""Raised where an older index means something else by the same files. 4: each row of a long
document counts once however its windows overlap; samples hash a document's place, not its text; the
list of one pair a document has one a text, and repeats.parquet says which documents share theirs.
5: tokens are told apart by id; texts, words and pieces of characters come from the tokenizer;
windows of encoders have their special tokens; numbers of the weights have the norms folded in.
"""

_WORDS_AND_WEIGHTS = (
    "its words, the texts of its tokens and its numbers of the weights were read otherwise"
)
AFFECTED: dict[object, str] = {
    3: f"{_WORDS_AND_WEIGHTS}, its samples draw copies of a document together, and it counts the "
    "rows of long documents once for each window, so ",
    4: f"{_WORDS_AND_WEIGHTS}, so ",
}
"""Older format → what is wrong in such an index, for the sentence that refuses it."""


MANIFEST = "manifest.json"


DOCUMENTS = "documents.parquet"


VOCABULARY = "vocabulary.parquet"


REPEATS = "repeats.parquet"


FROM_CORPUS = (DOCUMENTS, VOCABULARY, REPEATS)
"""The files that are written while the corpus is read."""


HEADS = "heads.parquet"


GROUP = 16  # windows in a row group: what showing one document reads


PAIR_GROUP = 16384  # pairs in a row group of the token lists


DOCUMENT_COLUMNS = pa.schema(
    [
        ("document", pa.int64()),
        ("start", pa.int32()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("truncated", pa.bool_()),
        ("ids", pa.list_(pa.int32())),
        ("texts", pa.list_(pa.string())),
        ("words", pa.list_(pa.int32())),
    ]
)


VOCABULARY_COLUMNS = ("id", "entry", "text", "kind", "texts", "count", "rows")
"""Those that are known once the corpus is read."""


REPEAT_COLUMNS = pa.schema([("document", pa.int64()), ("first", pa.int64())])


EXAMPLE_COLUMNS = pa.schema(
    [
        ("head", pa.int16()),
        ("document", pa.int64()),
        ("start", pa.int32()),
        ("dst", pa.int32()),
        ("src", pa.int32()),
        ("token", pa.int32()),
        ("multiple", pa.float32()),
        ("attention", pa.float32()),
        ("write", pa.float32()),
        *((f"rank_{name}", pa.int32()) for name in LISTS),
        ("row", pa.list_(pa.float16())),
    ]
)


TOKEN_COLUMNS = pa.schema(
    [
        ("token", pa.int32()),
        *((f"{side}_{name}", kind) for side in ("source", "destination") for name, kind in (
            ("pairs", pa.int64()), ("mass", pa.int64()), ("maximum", pa.float32()))),
    ]
)  # fmt: skip


PAIR_COLUMNS = pa.schema(
    [
        ("token", pa.int32()),
        ("document", pa.int64()),
        ("start", pa.int32()),
        ("dst", pa.int32()),
        ("src", pa.int32()),
        ("multiple", pa.float32()),
        ("attention", pa.float32()),
    ]
)


def layer_file(kind: str, layer: int) -> str:
    """The name of a layer's file: ``kind`` is examples, tokens or pairs."""
    return f"{kind}/L{layer:02d}.parquet"


def options() -> dict[str, Any]:
    """How every Parquet file of an index is written."""
    return {"compression": "zstd", "write_page_checksum": True, "store_schema": True}
