"""The budget of tokens that the work may cost. Parallel calls share one budget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attn.describe.chat import Usage
from attn.errors import BudgetSpent


class Budget:
    """Counts what calls cost. ``limit`` the tokens allowed, None for any number.

    >>> budget = Budget(100)
    >>> with budget.room(80) as spent:
    ...     spent(Usage(50, 10))
    >>> budget.usage.total
    60
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.usage = limit, Usage()
        self._reserved = 0
        self._lock = threading.Lock()

    @contextmanager
    def room(self, tokens: int) -> Iterator[Callable[[Usage], None]]:
        """Reserve about ``tokens`` for a call, which then reports what it cost.

        Raises BudgetSpent when there is no room for them.
        """
        with self._lock:
            if self.limit is not None and self.usage.total + self._reserved + tokens > self.limit:
                raise BudgetSpent(
                    f"The budget of {self.limit:,} tokens has no room for the next call, of about "
                    f"{tokens:,}: what was done is kept, and the same command goes on from there."
                )
            self._reserved += tokens
        try:
            yield self._spent
        finally:
            with self._lock:
                self._reserved -= tokens

    def _spent(self, usage: Usage) -> None:
        with self._lock:
            self.usage += usage
