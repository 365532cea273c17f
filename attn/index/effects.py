"""Effects of heads that were measured over an index's documents, kept beside it. No torch.

    indexes/smollm2-135m_sample_96058edf7fdd/                        the index
    indexes/smollm2-135m_sample_96058edf7fdd.effects-1f2e3d4c5b6a/   effects by their own identity
        effects.json              what was measured, and the hash of the next file; written last
        effects-0a1b2c3d.parquet  a row a head
        parts/                    what a command that was stopped goes on from

The effect of a head is how much the loss of a token rises, in nats in the mean over tokens, when
the head's output is replaced by its mean: above 0 where predictions need the head.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attn.errors import EffectsError
from attn.files import sha256, sync, written_whole
from attn.heads import HeadId
from attn.index.format import options
from attn.index.manifest import Manifest

FORMAT = 1
RECORD = "effects.json"

COLUMNS = pa.schema(
    [
        ("layer", pa.int16()),
        ("head", pa.int16()),
        ("estimate", pa.float64()),
        ("exact", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("tokens", pa.int64()),
        ("needed_document", pa.list_(pa.int64())),
        ("needed_start", pa.list_(pa.int32())),
        ("needed_position", pa.list_(pa.int32())),
        ("needed_loss", pa.list_(pa.float32())),
        ("needed_change", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Measured:
    """What was measured. ``index`` the index's identity; ``top`` tokens kept of an exact head.

    ``loss`` nats a token of the whole model. Over the ``exact`` heads measured exactly:
    ``spearman`` how well the estimates rank them, −1 to 1; ``off`` the mean of |estimate − exact|,
    ``bias`` that of estimate − exact, and ``size`` that of |exact|, nats a token. None where there
    are too few heads.
    """

    identity: str
    index: str
    documents: int
    windows: int
    tokens: int
    loss: float
    top: int
    exact: int
    spearman: float | None
    off: float | None
    bias: float | None
    size: float | None
    format: int = FORMAT

    @property
    def agreement(self) -> str:
        """How far the estimates can be believed, in a sentence."""
        if self.off is None or self.bias is None or self.size is None:
            return "No head was measured exactly, so how far the estimates are off is unknown."
        heads = f"{self.exact} head{'s' if self.exact > 1 else ''} measured exactly"
        ranks = (
            "too few to say how the estimates rank them"
            if self.spearman is None
            else f"the estimates rank them with a Spearman correlation of {self.spearman:.2f}"
        )
        return (
            f"{heads}: {ranks}, and are off by {self.off:.4f} nats a token in the mean "
            f"({abs(self.bias):.4f} too {'low' if self.bias < 0 else 'high'} on balance), where "
            f"the effects are {self.size:.4f}."
        )


@dataclass(frozen=True)
class Needed:
    """A token whose prediction needs a head.

    ``position`` the token's, in its window; ``loss`` that of the whole model and ``change`` how
    much more it is without the head, in nats.
    """

    document: int
    start: int
    position: int
    loss: float
    change: float


class Effects:
    """Effects of all heads, read once. ``path`` the folder, ``measured`` what was measured.

    ``estimate`` and ``exact`` (layer, head) float64, nats a token; NaN in layers without attention,
    and in ``exact`` where a head was only estimated. ``low`` and ``high`` the 95 % interval of the
    exact effect, or else of the estimate, over documents.
    """

    def __init__(self, path: Path, measured: Measured, table: pa.Table) -> None:
        self.path, self.measured, self._table = path, measured, table
        shape = (int(table["layer"][-1].as_py()) + 1, int(table["head"][-1].as_py()) + 1)
        self.estimate, self.exact, self.low, self.high = (
            np.asarray(table[name].to_numpy(), np.float64).reshape(shape)
            for name in ("estimate", "exact", "low", "high")
        )

    @cached_property
    def effect(self) -> np.ndarray:
        """(layer, head) float64: the exact effect where it was measured, or else the estimate."""
        return np.where(np.isfinite(self.exact), self.exact, self.estimate)

    def is_exact(self, head: HeadId) -> bool:
        """Whether the head was measured exactly."""
        return bool(np.isfinite(self.exact[head.layer, head.head]))

    def rank(self, head: HeadId) -> tuple[int, int] | None:
        """The head's place, the highest effect first, and how many have one; None without one."""
        value = self.effect[head.layer, head.head]
        if not np.isfinite(value):
            return None
        return int((self.effect > value).sum()) + 1, int(np.isfinite(self.effect).sum())

    def ranked(self) -> list[HeadId]:
        """All heads with an effect, the highest first; of the same effect, the earlier head."""
        order = np.argsort(-self.effect, axis=None, kind="stable")
        heads = (HeadId(*divmod(int(i), self.effect.shape[1])) for i in order)
        return [head for head in heads if np.isfinite(self.effect[head.layer, head.head])]

    def needed(self, head: HeadId) -> list[Needed]:
        """The tokens whose loss rises most without a head; none where it was only estimated."""
        row = head.layer * self.effect.shape[1] + head.head
        names = ("document", "start", "position", "loss", "change")
        columns = [self._table[f"needed_{name}"][row].as_py() for name in names]
        return [Needed(*values) for values in zip(*columns, strict=True)]

    def record(self, head: HeadId) -> dict[str, Any]:
        """A head's numbers as a flat record: what ``--json`` prints. None where there is none."""
        at, place = (head.layer, head.head), self.rank(head)
        arrays = {"effect": self.effect, "low": self.low, "high": self.high}
        arrays |= {"estimate": self.estimate, "exact": self.exact}
        numbers = {name: _known(float(values[at])) for name, values in arrays.items()}
        told = {"layer": head.layer, "head": head.head, "rank": place and place[0]}
        return told | numbers | {"tokens": self.measured.tokens}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def place(index: Path, identity: str) -> Path:
    """The folder of effects, beside an index's."""
    return index.with_name(f"{index.name}.effects-{identity[:12]}")


def write_effects(folder: Path, measured: Mapping[str, Any], table: pa.Table) -> Effects:
    """Keep what was measured, in place of what the folder held. Whole or not there."""
    temporary = folder / ".effects.parquet"
    pq.write_table(table, temporary, **options())
    digest = sha256(temporary)
    file = folder / f"effects-{digest[:12]}.parquet"
    sync(temporary)
    os.replace(temporary, file)
    record = {**measured, "format": FORMAT, "file": file.name, "sha256": digest}
    with written_whole(folder / RECORD) as name:
        name.write_text(_sealed(record))
        sync(name)
    sync(folder)
    for old in folder.glob("effects-*.parquet"):
        if old != file:
            old.unlink(missing_ok=True)
    return read_effects(folder)


def read_effects(folder: Path) -> Effects:
    """Read and check effects. Raises EffectsError where a byte is not as it was written."""
    try:
        text = (folder / RECORD).read_text()
        record = json.loads(text)
        seal = record.pop("seal")
        if record["format"] != FORMAT or _sealed(record) != text or not seal:
            raise ValueError("not as it was written")
        file, digest = folder / Path(record.pop("file")).name, record.pop("sha256")
        if sha256(file) != digest:
            raise ValueError("not as it was written")
        measured = Measured(**record)
        if {field.name for field in fields(Measured)} != set(record):
            raise ValueError("fields")
        return Effects(folder, measured, pq.read_table(file, page_checksum_verification=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise EffectsError(
            f"The effects in {folder.name} are damaged or of another version: remove that folder "
            f"and run `python -m attn effects` again."
        ) from error


def find_effects(index: Path, manifest: Manifest) -> Effects | None:
    """The effects kept beside an index, of the most tokens; None where there are none.

    Raises EffectsError where what is there is damaged.
    """
    found = [read_effects(folder) for folder in finished(index)]
    mine = [one for one in found if one.measured.index == manifest.identity]
    return max(mine, key=lambda one: (one.measured.tokens, one.path.name), default=None)


def finished(index: Path) -> list[Path]:
    """The folders of effects beside an index that have a result, by name."""
    pattern = f"{_literal(index.name)}.effects-*/{RECORD}"
    return sorted(path.parent for path in index.parent.glob(pattern))


def _literal(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _sealed(record: Mapping[str, Any]) -> str:
    """A record's text with a hash of it, which reveals a changed byte."""
    text = json.dumps(record, indent=1, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({**record, "seal": seal}, indent=1, sort_keys=True) + "\n"
