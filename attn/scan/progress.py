"""How far a scan is, in documents, tokens and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from attn.formatting import duration


@dataclass(frozen=True)
class Progress:
    """The progress of a scan: ``stage`` in words, documents done and in all, tokens, seconds.

    A stage without documents has ``total`` 0. ``found`` of the documents were done by an earlier
    scan; tokens and seconds are this one's.
    """

    stage: str
    documents: int
    total: int | None
    tokens: int
    seconds: float
    found: int = 0

    @property
    def share(self) -> float:
        """The share of the stage that is done, 0 to 1; 0 if the total is unknown."""
        return self.documents / self.total if self.total else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest of the stage takes at the current pace, or None if unknown."""
        done = self.documents - self.found
        if not self.total or done <= 0:
            return None
        return self.seconds * (self.total - self.documents) / done

    @property
    def detail(self) -> str:
        """Documents, speed and time left, like "64/272 documents · 320 tokens/s · 3 min left"."""
        if self.total == 0:
            return ""
        of = f"/{self.total:,}" if self.total else ""
        speed = f" · {self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s" if self.tokens else ""
        left = f" · {duration(self.left)} left" if self.left else ""
        return f"{self.documents:,}{of} documents{speed}{left}"


Report = Callable[[Progress], None]


class Clock:
    """Reports the progress of a scan. It never goes back, even if a shard starts again."""

    def __init__(self, total: int, report: Report) -> None:
        self._total, self._report = total, report
        self._start = time.monotonic()
        self._before = self._done = self._tokens = self._found = 0
        self._tell(0)

    def batch_done(self, documents: int, tokens: int) -> None:
        """Count the documents of the current shard that are done, and new tokens."""
        self._tokens += tokens
        self._tell(self._before + documents)

    def shard_done(self, documents: int, *, found: bool) -> None:
        """Count a finished shard, or one that an earlier scan had finished (``found``)."""
        self._before += documents
        self._found += documents * found
        self._tell(self._before)

    def _tell(self, documents: int) -> None:
        self._done = min(max(self._done, documents), self._total)
        seconds = time.monotonic() - self._start
        self._report(
            Progress("Scanning", self._done, self._total, self._tokens, seconds, self._found)
        )
