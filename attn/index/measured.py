"""Which sums an index holds, and how its metrics are defined.

An index says in heads.parquet which sums it holds, in their order, so that a metric that is added
to attn later is "not measured" there and nothing else of the index is refused. Metrics that its
maker added are described there too, for readers who lack their code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from attn.errors import IndexDamaged
from attn.measure.metrics import DEFINED, Metric, metrics, of_kind, sums

_KEY = b"attn"
_LATER = {"role", "threshold", "on"}  # what a definition in an older index does not have


@dataclass(frozen=True)
class Measured:
    """What an index holds: ``sums`` in their order, each with its ``scales`` in fixed point.

    ``added`` the definitions that its maker added to those of attn; ``reasons`` why the model gave
    no answer to some probes, name → a few words.
    """

    sums: tuple[str, ...]
    scales: tuple[float, ...]
    added: tuple[Metric, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def now(cls, reasons: Mapping[str, str] | None = None) -> Measured:
        """What an index of a scan that starts now will hold."""
        made = sums()
        added = tuple(one for one in DEFINED.values() if one.origin)
        names, scales = tuple(m.name for m in made), tuple(m.scale for m in made)
        return cls(names, scales, added, dict(reasons or {}))

    @classmethod
    def read(cls, metadata: Mapping[bytes, bytes] | None, index: str) -> Measured:
        """From the metadata of heads.parquet; ``index`` is named in the IndexDamaged it raises."""
        try:
            told = json.loads((metadata or {})[_KEY])
            names, scales = (tuple(told[name]) for name in ("sums", "scales"))
            if len(names) != len(scales) or not all(isinstance(n, str) for n in names):
                raise ValueError("not the names of sums")
            reasons = told.get("reasons", {})  # an older index has none
            if not all(isinstance(why, str) for why in reasons.values()):
                raise ValueError("not reasons")
            added = tuple(map(_metric, told["added"]))
            return cls(names, tuple(map(float, scales)), added, reasons)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IndexDamaged(
                f"File heads.parquet of the index {index} does not say what it holds: scan again."
            ) from error

    def metadata(self) -> dict[bytes, bytes]:
        """What heads.parquet says of it."""
        told = {
            "sums": self.sums,
            "scales": self.scales,
            "added": [_described(one) for one in self.added],
        } | ({"reasons": dict(self.reasons)} if self.reasons else {})
        return {_KEY: json.dumps(told, sort_keys=True).encode()}

    @property
    def identity(self) -> dict[str, Any]:
        """The part of an index's identity that depends on what is measured."""
        return {
            "sums": self.sums,
            "added": [(one.name, one.source) for one in self.added],
            "probes": sorted(of_kind("probe")),
        }

    def metrics(self) -> dict[str, Metric]:
        """The definitions of the index's metrics by name: those of attn, then those added.

        An added one has its function only where the same code is loaded now.
        """
        found = {name: one for name, one in metrics().items() if not one.origin}
        for one in self.added:
            if one.shown:
                here = DEFINED.get(one.name)
                found[one.name] = here if here is not None and here.source == one.source else one
        return found


def _described(one: Metric) -> dict[str, Any]:
    told = {name: value for name, value in asdict(one).items() if name != "function"}
    return {name: value for name, value in told.items() if value or name not in _LATER}


def _metric(told: Mapping[str, Any]) -> Metric:
    names = {field.name for field in fields(Metric)} - {"function"}
    if not names - _LATER <= set(told) <= names:
        raise ValueError("not a definition")
    low, high = told["low_high"]
    return Metric(**{**told, "low_high": (low, high)})
