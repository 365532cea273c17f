"""Packages that are called like the function they are named for: ``attn.scan(...)``.

``attn.scan`` and ``attn.describe`` are folders of this package, and Python puts a submodule into
its package's namespace whenever anyone imports it: a function of the same name there would be one
or the other, depending on what was imported before. So the name is always the module, and the
module can be called.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module with a function to be called by its name."""

    _function: tuple[str, str]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    @property
    def __wrapped__(self) -> Any:
        module, name = self._function
        return getattr(importlib.import_module(module), name)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__wrapped__)


def make_callable(module: str, where: str, function: str) -> None:
    """Let a module that is being imported be called as a function of the module ``where``.

    The function is looked up at each call; ``inspect.signature`` of the module is the function's.
    """
    made: Any = sys.modules[module]
    made.__class__ = _Callable
    made._function = where, function
