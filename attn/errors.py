"""Every error that this package raises on purpose.

AttnError
├── HeadError(ValueError)             a head that cannot be read, or that the model lacks
├── ModelError(ValueError)            a model that cannot be had or cannot be read correctly
│   ├── BuiltinMissing                the built-in model has not been fetched yet
│   └── ContextTooLong                more tokens than the model's context holds
├── MetricError(ValueError)           a metric that cannot be defined or loaded
├── CorpusError(ValueError)           a corpus that cannot be had
│   └── EmptyCorpus                   ... or that holds no text
├── IndexFailure(ValueError)          an index that cannot be opened
│   ├── IndexMissing                  there is none at that path
│   ├── IndexDamaged                  a file of it is broken or foreign
│   └── IndexMismatch                 it was made by another version or for another model
├── PackageMissing(ImportError)       a package of one of the extras is not installed
├── QueryError(ValueError)            a question the index has no answer to
├── ScanError(RuntimeError)           a scan that cannot be done as asked
│   └── ScanStopped                   the user stopped it
├── EffectsError(RuntimeError)        effects of heads that cannot be measured as asked, or read
├── SharingError(RuntimeError)        an index that cannot be sent or fetched
└── DescribeError(RuntimeError)       a description or a score that cannot be had
    ├── DescriptionStoreError         the kept descriptions cannot be read or written
    ├── BudgetSpent                   the tokens allowed are used up
    ├── Stopped                       the user stopped it
    └── ServerError                   the language model's server did not do its part
        ├── NoServer                  none is set, or its address or key cannot be one
        ├── ServerUnreachable         (also ConnectionError) nothing answers at the address
        ├── KeyRefused                (also PermissionError) 401 or 403
        ├── NotAtServer               404: no such model or no such address
        ├── TooManyRequests           429
        ├── ServerFailed              5xx
        ├── RequestRefused            any other 4xx
        │   └── ContextOverflow       the prompt is longer than the model's context
        ├── ServerRedirects           3xx: keys do not follow redirects
        ├── AnswerUnreadable          a web page, `{}`, or no JSON where an answer should be
        ├── AnswerCut                 the answer ended before its end
        └── DeadlinePassed            (also TimeoutError) the whole call took too long

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


class MetricError(AttnError, ValueError):
    """A metric that cannot be defined or loaded."""


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


class PackageMissing(AttnError, ImportError):
    """A package of one of the extras is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package}, which is not installed: "
            f'run `pip install "attn[{extra}]"`.'
        )


class QueryError(AttnError, ValueError):
    """A question that the index has no answer to."""


class ScanError(AttnError, RuntimeError):
    """A scan that cannot be done as asked."""


class ScanStopped(ScanError):
    """The user stopped the scan; what was done is kept."""


class EffectsError(AttnError, RuntimeError):
    """Effects of heads that cannot be measured as asked, or whose file cannot be read."""


class SharingError(AttnError, RuntimeError):
    """An index that cannot be sent or fetched."""


class DescribeError(AttnError, RuntimeError):
    """A description or a score that cannot be had."""


class DescriptionStoreError(DescribeError):
    """The kept descriptions cannot be read or written."""


class BudgetSpent(DescribeError):
    """The tokens that were allowed are used up; what was done is kept."""


class Stopped(DescribeError):
    """The user stopped the work; what was done is kept."""


class ServerError(DescribeError):
    """The language model's server did not do its part."""


class NoServer(ServerError):
    """No server is set, or its address or key cannot be one."""


class ServerUnreachable(ServerError, ConnectionError):
    """Nothing answers at the address."""


class KeyRefused(ServerError, PermissionError):
    """The server refuses the key: 401 or 403."""


class NotAtServer(ServerError):
    """The server has no such model, or no such address: 404."""


class TooManyRequests(ServerError):
    """The server asks for patience: 429. ``wait`` the seconds that it asks for, where it says."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class ServerFailed(ServerError):
    """The server failed by its own account: 5xx."""


class RequestRefused(ServerError):
    """The server will not take the request: another 4xx."""


class ContextOverflow(RequestRefused):
    """The prompt is longer than the model's context."""


class ServerRedirects(ServerError):
    """The server points elsewhere; a key does not follow."""


class AnswerUnreadable(ServerError):
    """What came back is no answer: a web page, an empty object, or no JSON at all."""


class AnswerCut(ServerError):
    """The answer ended before its end."""


class DeadlinePassed(ServerError, TimeoutError):
    """The whole call took longer than it may."""
