"""Metrics of a user's own: from a Python file, or from a package that is installed.

A file defines them as attn defines its own, with :func:`attn.measure.metric.metric`. A package
names the module that does so as an entry point of the group ``attn.metrics``. Loading one runs its
code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from attn.errors import MetricError
from attn.measure.metrics import DEFINED, Metric, sums

GROUP = "attn.metrics"


def load_file(path: str | Path) -> list[Metric]:
    """Run a Python file that defines metrics, and return them.

    Raises MetricError for a file that cannot be run, that defines none, or whose functions do not
    give what their kind asks for.
    """
    file = Path(path)
    if not file.is_file():
        raise MetricError(f"There is no file {file}: name a Python file that defines metrics.")

    def run() -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"attn_metrics_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ImportError("it is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return _load(run, file.name, hashlib.sha256(file.read_bytes()).hexdigest())


@cache
def load_installed() -> tuple[Metric, ...]:
    """Load the metrics of all installed packages that offer some, once a process."""
    from importlib.metadata import entry_points

    found: list[Metric] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.name
        found += _load(point.load, origin, "")
    return tuple(found)


def _load(run: Callable[[], Any], origin: str, source: str) -> list[Metric]:
    """What ``run`` defines, marked with where it is from; nothing of it is left if it fails."""
    with _all_or_nothing() as before:
        try:
            made = run()
        except MetricError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise MetricError(f"The metrics of {origin} cannot be loaded: {error!r}.") from error
        new = [one for name, one in DEFINED.items() if name not in before]
        if not new:
            raise MetricError(
                f"{origin} defines no metric: decorate its functions with "
                f"@attn.measure.metric.metric."
            )
        source = source or _source_of(made)
        found = [replace(one, origin=origin, source=source) for one in new]
        DEFINED.update({one.name: one for one in found})
        for one in found:
            _try(one)
    return found


@contextmanager
def _all_or_nothing() -> Iterator[frozenset[str]]:
    """Take back what was defined meanwhile if the work fails."""
    before = frozenset(DEFINED)
    try:
        yield before
    except BaseException:
        for name in DEFINED.keys() - before:
            del DEFINED[name]
        raise


def _source_of(made: object) -> str:
    """A hash of the text of the module that an entry point names."""
    module = made if isinstance(made, ModuleType) else inspect.getmodule(made)
    try:
        text = inspect.getsource(module) if module is not None else ""
    except (OSError, TypeError):
        text = ""
    return hashlib.sha256(text.encode()).hexdigest()


def _try(made: Metric) -> None:
    """Call a new definition on a small input of its kind, and look at what it gives.

    Raises MetricError where it fails, or gives another shape or a value that is not finite.
    """
    assert made.function is not None  # it has just been defined
    if made.kind == "probe":
        raise MetricError(
            f"The metric {made.name} of {made.origin} is a probe: those come with attn alone."
        )
    given, shapes = _samples()[made.kind]
    try:
        values = np.asarray(made.function(*given))
        shape, finite = values.shape, bool(np.isfinite(values).all())
    except KeyError as error:
        raise MetricError(
            f"The metric {made.name} of {made.origin} asks for {error}, which nothing defines."
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise MetricError(
            f"The metric {made.name} of {made.origin} fails on a small input: {error!r}."
        ) from error
    if shape not in shapes:
        wanted = " or ".join(str(one) for one in shapes)
        raise MetricError(
            f"The metric {made.name} of {made.origin} gives {shape} on a small input where "
            f"{made.kind} give {wanted}: see attn.measure.metric."
        )
    if not finite:
        raise MetricError(
            f"The metric {made.name} of {made.origin} gives values that are not finite."
        )


def _samples() -> dict[str, tuple[tuple[Any, ...], list[tuple[int, ...]]]]:
    """Kind → arguments for a function of it, and the shapes that it may give for them.

    Two windows of six tokens, three heads that look evenly; one layer.
    """
    import torch

    from attn.measure.masks import Context

    n = 6
    pattern = torch.ones(2, 3, n, n).tril() / torch.arange(1, n + 1).view(1, 1, n, 1)
    context = Context(torch.tensor([[1, 2, 3, 1, 2, 3], [4, 4, 5, 6, 4, 4]]))
    position = torch.arange(n)
    ones = np.ones((1, 3))
    of_weights = {name: np.ones((1, 3, 4)) for name in ("ov", "qk", "q", "k", "v")}
    return {
        "pairs": ((context,), [(1, n, n), (2, n, n)]),
        "offsets": ((position[:, None] - position[None, :],), [(n, n)]),
        "rows": ((pattern,), [(2, 3, n)]),
        "positions": ((position[None] + 1, context), [(1, n), (2, n)]),
        "writes": ((pattern, pattern.sum(-1)), [(2, 3, n)]),
        "derived": (({made.name: ones for made in sums()},), [(1, 3)]),
        "random": ((pattern, n // 2), [(3,)]),
        "weights": ((of_weights | {"eigenvalues": np.ones((1, 3, 4), complex)},), [(1, 3)]),
    }
