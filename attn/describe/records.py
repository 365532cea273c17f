"""Converts descriptions and reports to JSON records and back. Imported records are checked."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, TypeVar

from attn.describe.describe import Description, Options
from attn.describe.report import Report
from attn.describe.score import Difference, Measure, Result, Verdict
from attn.heads import HeadId

_T = TypeVar("_T")
_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
}


def description_record(description: Description) -> dict[str, Any]:
    """The record of a description."""
    return {**asdict(description), "head": str(description.head)}


def description_from(record: dict[str, Any]) -> Description:
    """The description of a record. Raises ValueError, KeyError or TypeError if it is malformed."""
    values = dict(record)
    options = values.pop("options")
    values["head"] = HeadId.parse(values["head"])
    values["evidence"] = tuple(tuple(place) for place in values["evidence"])
    values["options"] = None if options is None else _made(Options, options)
    description = _made(Description, values)
    if not description.id or not description.text:
        raise ValueError("empty")
    return description


def report_record(report: Report) -> dict[str, Any]:
    """The record of a report."""
    return asdict(report)


def report_from(record: dict[str, Any]) -> Report:
    """The report of a record. Raises ValueError, KeyError or TypeError if it is malformed."""
    values = dict(record)
    values["result"] = _result(values["result"])
    values["baselines"] = tuple(_result(one) for one in values["baselines"])
    values["verdict"] = _made(Verdict, values["verdict"])
    return _made(Report, values)


def _result(record: dict[str, Any]) -> Result:
    values = dict(record)
    values["pair"] = _measure(values["pair"])
    values["tiers"] = {str(tier): _measure(one) for tier, one in values["tiers"].items()}
    values["pick"] = None if values["pick"] is None else _measure(values["pick"])
    for name in ("pair_behind", "pick_behind"):
        if values.get(name) is not None:
            values[name] = _made(Difference, values[name])
    return _made(Result, values)


def _measure(record: dict[str, Any]) -> Measure:
    measure = _made(Measure, record)
    if not all(0 <= value <= 1 for value in (measure.value, measure.low, measure.high)):
        raise ValueError("no measure")
    return measure


def _made(kind: type[_T], values: dict[str, Any]) -> _T:
    """A value of a dataclass whose plain fields have the types that it names."""
    made = kind(**values)
    for field in fields(kind):  # type: ignore[arg-type]
        wanted = _PLAIN.get(str(field.type))
        found = getattr(made, field.name)
        if wanted and (not isinstance(found, wanted) or found != found):
            raise TypeError(field.name)
    return made
