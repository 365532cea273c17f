"""Every error that this package raises on purpose.

AttnError
├── HeadError(ValueError)             a head that cannot be read, or that the model lacks
├── ModelError(ValueError)            a model that cannot be had or cannot be read correctly
│   ├── BuiltinMissing                the built-in model has not been fetched yet
│   └── ContextTooLong                more tokens than the model's context holds
├── CorpusError(ValueError)           a corpus that cannot be had
│   └── EmptyCorpus                   ... or that holds no text
├── IndexFailure(ValueError)          an index that cannot be opened
│   ├── IndexMissing                  there is none at that path
│   ├── IndexDamaged                  a file of it is broken or foreign
│   └── IndexMismatch                 it was made by another version or for another model
├── QueryError(ValueError)            a question the index has no answer to
└── ScanError(RuntimeError)           a scan that cannot be done as asked

Each message is one sentence that says what is wrong and what to do about it. The CLI prints it
and exits with code 2; a page shows it as a notice.
"""

from __future__ import annotations


class AttnError(Exception):
    """Base of all errors this package raises on purpose."""


class HeadError(AttnError, ValueError):
    """A head that cannot be read, or that the model lacks."""


class ModelError(AttnError, ValueError):
    """A model that cannot be had, or whose attention cannot be read correctly."""


class BuiltinMissing(ModelError):
    """The built-in model has not been fetched yet."""


class ContextTooLong(ModelError):
    """More tokens than the model's context holds."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(
            f"The text is {length} tokens long and the model's context holds {limit}: "
            f"shorten the text."
        )
        self.length = length
        self.limit = limit


class CorpusError(AttnError, ValueError):
    """A corpus that cannot be had."""


class EmptyCorpus(CorpusError):
    """A corpus that holds no text."""


class IndexFailure(AttnError, ValueError):
    """An index that cannot be opened."""


class IndexMissing(IndexFailure):
    """There is no index at that path."""


class IndexDamaged(IndexFailure):
    """A file of the index is broken or does not belong to it."""


class IndexMismatch(IndexFailure):
    """The index was made by another version, or for another model."""


class QueryError(AttnError, ValueError):
    """A question that the index has no answer to."""


class ScanError(AttnError, RuntimeError):
    """A scan that cannot be done as asked."""
