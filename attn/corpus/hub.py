"""Datasets of the Hugging Face Hub, streamed row by row, and its errors in one sentence each.

Only attn/corpus/corpus.py reads datasets; attn/index/hub.py shares the errors. No code of a dataset
is ever run. A dataset is pinned to a commit before it is read, so that its name makes the same
corpus again.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from attn.corpus.files import FIELDS_SHOWN, no_field
from attn.errors import AttnError, CorpusError

SECONDS = 10.0  # that the Hub may take to answer

_NAME = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(/(?P<config>[^/@#:]+))?"
    r"(@(?P<revision>[^#:]+))?(\#(?P<split>[^:]+))?(:(?P<field>.+))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Wording:
    """What the Hub's errors are called where they happen, after the dataset's name.

    ``error`` is raised with the remedies when the Hub is switched off (``offline``), when it shows
    no such dataset (``missing``), does not let in (``refused``) or does not answer
    (``unreachable``), and when the reason is another (``failed``, of which ``{reason}`` is part);
    ``cannot`` says what did not come to be.
    """

    error: type[AttnError]
    offline: str
    missing: str
    refused: str
    unreachable: str
    failed: str
    cannot: str = "cannot be had"
    nothing: str | None = None


_CORPUS = Wording(
    CorpusError,
    offline="is no file here, and Hub datasets are off while HF_HUB_OFFLINE is set: "
    "unset it, or name a file.",
    missing="is neither a file nor a dataset that the Hub shows you: check the name, "
    "or log in with `hf auth login` if it is private.",
    refused="log in with `hf auth login`",
    unreachable="check the connection, or name a file",
    failed="cannot be read ({reason}): name another dataset or configuration.",
    nothing="holds no files of text that can be read: name another dataset.",
)

_QUIET_LOCK = threading.Lock()
_quiet_depth = 0
_quiet_stack = ExitStack()


@dataclass(frozen=True)
class HubName:
    """``OWNER/NAME[/CONFIG][@REVISION][#SPLIT][:FIELD]``, where ``id`` is ``OWNER/NAME``."""

    id: str
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    field: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """Read the name of a dataset; None where the text is not of that form."""
        match = _NAME.fullmatch(text)
        return cls(**match.groupdict()) if match else None

    def __str__(self) -> str:
        parts = [("/", self.config), ("@", self.revision)]
        parts += [("#", None if self.split == "train" else self.split)]
        parts += [(":", None if self.field == "text" else self.field)]
        return self.id + "".join(mark + part for mark, part in parts if part)


def pin(name: HubName) -> HubName:
    """The name with the commit that its revision stands for; raises :class:`CorpusError`.

    Where the Hub does not answer, this fails within :data:`SECONDS`, without a retry.
    """
    from huggingface_hub import HfApi

    try:
        with _quiet():
            info = HfApi().dataset_info(name.id, revision=name.revision, timeout=SECONDS)
    except Exception as error:
        raise explain(name.id, name.revision, error, _CORPUS, unreachable=True) from error
    return HubName(name.id, name.config, info.sha or name.revision, name.split, name.field)


def rows(name: HubName, field: str, batch: int) -> Iterator[dict[str, Any]]:
    """The rows of a pinned dataset's split, ``batch`` in memory at once.

    Of a Parquet file only the field's column is read. Raises :class:`CorpusError` where the
    configuration, the split or the field is not there, or where the stream breaks off.
    """
    try:
        with _quiet():
            stream = iter(_stream(name, field, batch))
        while True:
            with _quiet():
                some = list(islice(stream, batch))
            yield from some
            if len(some) < batch:
                return
    except CorpusError:
        raise
    except Exception as error:
        raise explain(name.id, name.revision, error, _CORPUS) from error


def _stream(name: HubName, field: str, batch: int) -> Any:
    """The split as an iterable of rows, checked for the field."""
    splits = _splits(name, field, batch)
    split = name.split or "train"
    if split not in splits:
        listed = ", ".join(map(repr, splits))
        raise CorpusError(f"{name.id} has no split {split!r}: name one of {listed}.")
    features = splits[split].features
    if features is None:
        return splits[split]
    if field not in features:
        names = list(features) or list(_splits(name)[split].features)
        raise no_field(name.id, field, names)
    kind = features[field]
    mixed = type(kind).__name__ == "Json"  # text in some rows, perhaps
    if not mixed and getattr(kind, "dtype", None) not in ("string", "large_string", "string_view"):
        raise CorpusError(
            f"{name.id} holds {getattr(kind, 'dtype', None) or type(kind).__name__} in "
            f"{field!r}, not text: name another field after a colon."
        )
    return splits[split]


def _splits(name: HubName, field: str | None = None, batch: int = 1) -> Any:
    """All splits by name; of Parquet files only the field is read, where one is named."""
    import datasets
    from datasets.packaged_modules.parquet.parquet import Parquet

    address = f"hf://datasets/{name.id}"  # never a folder here that is called the same
    with tempfile.TemporaryDirectory() as nothing_cached:
        try:
            builder = datasets.load_dataset_builder(
                address, name.config, revision=name.revision, cache_dir=nothing_cached
            )
        except ValueError as error:
            names = datasets.get_dataset_config_names(address, revision=name.revision)
            if name.config in names:
                raise
            listed = ", ".join(names[:FIELDS_SHOWN])
            wrong = f"no configuration {name.config!r}" if name.config else "many configurations"
            raise CorpusError(
                f"{name.id} has {wrong}: write {name.id}/CONFIG with one of {listed}."
            ) from error
        if hasattr(builder.config, "encoding_errors"):
            builder.config.encoding_errors = "replace"
        if field is not None and isinstance(builder, Parquet):
            builder.config.columns = [field]
            builder._generate_tables = partial(_parquet_tables, builder, batch)
        return builder.as_streaming_dataset()


def _parquet_tables(
    builder: Any, batch: int, files: list[str], row_groups_list: object
) -> Iterator[tuple[Any, Any]]:
    """In place of the builder's own, which holds a whole row group: 2 GB of a file of 490 bytes."""
    import pyarrow as pa
    from datasets.builder import Key
    from datasets.utils.file_utils import xopen
    from pyarrow.parquet import ParquetFile

    columns = builder.config.columns
    for i, address in enumerate(files):
        with xopen(address, "rb") as raw, ParquetFile(raw, buffer_size=2**20) as file:
            batches = file.iter_batches(batch, columns=columns, use_threads=False)
            for j, some in enumerate(batches):
                yield Key(i, j), builder._cast_table(pa.Table.from_batches([some]))


def explain(
    name: str,
    revision: str | None,
    error: BaseException,
    wording: Wording,
    *,
    unreachable: bool = False,
) -> AttnError:
    """One sentence for whatever the libraries raised, with its remedy."""
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    def about(text: str) -> AttnError:
        return wording.error(f"{name} {text}")

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return about(wording.offline)
        # The loader says of some errors only in words what they were.
        if isinstance(cause, errors.GatedRepoError) or " is a gated dataset" in str(cause):
            return about(
                f"is a gated dataset: ask for access at {constants.ENDPOINT}/datasets/{name}, "
                f"then log in with `hf auth login`."
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            return about(f"has no revision {revision!r}: name a branch, tag or commit of it.")
        if isinstance(cause, errors.RepositoryNotFoundError | errors.HFValidationError):
            return about(wording.missing)
        if isinstance(cause, RuntimeError) and "scripts are no longer" in str(cause):
            return about("needs a script of its own, which is never run: name another dataset.")
        if isinstance(cause, errors.HfHubHTTPError) and cause.response is not None:
            status = cause.response.status_code
            remedy = wording.refused if status in (401, 403) else "try again later"
            said = " ".join((cause.server_message or "").split())[:200].rstrip(".")
            answers = f"{status} ({said})" if said else f"{status}"
            return about(f"{wording.cannot}, the Hub answers {answers}: {remedy}.")
        if unreachable or isinstance(cause, httpx.TransportError | ConnectionError | TimeoutError):
            return about(
                f"{wording.cannot}, {constants.ENDPOINT} does not answer or breaks off: "
                f"{wording.unreachable}."
            )
        if isinstance(cause, FileNotFoundError) and wording.nothing:
            return about(wording.nothing)
        cause = cause.__cause__ or cause.__context__
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return about(wording.failed.format(reason=reason))


@contextmanager
def quiet_client(seconds: float) -> Iterator[None]:
    """In here the Hub's client prints nothing and waits so long for an answer."""
    with ExitStack() as stack:
        _quiet_client(stack, seconds)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """While any thread is in here, the libraries print nothing and give up within a minute.

    Their settings are the process's: the first one in sets them, the last one out restores them.
    """
    global _quiet_depth
    with _QUIET_LOCK:
        if not _quiet_depth:
            _set_quiet(_quiet_stack)
        _quiet_depth += 1
    try:
        yield
    finally:
        with _QUIET_LOCK:
            _quiet_depth -= 1
            if not _quiet_depth:
                _quiet_stack.close()


def _set_quiet(stack: ExitStack) -> None:
    import datasets

    _quiet_client(stack, SECONDS)

    def put(owner: object, attribute: str, value: object) -> None:
        stack.callback(setattr, owner, attribute, getattr(owner, attribute))
        setattr(owner, attribute, value)

    for read_or_open in ("READ", "OPEN"):
        put(datasets.config, f"STREAMING_{read_or_open}_MAX_RETRIES", 1)  # the client has its own
        put(datasets.config, f"STREAMING_{read_or_open}_RETRY_INTERVAL", 1)
    put(datasets.config, "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL", 5)
    _without_output(stack, datasets, datasets.logging)


def _quiet_client(stack: ExitStack, seconds: float) -> None:
    import huggingface_hub.utils as hub

    session = hub.get_session()  # type: ignore[attr-defined]
    stack.callback(setattr, session, "timeout", session.timeout)
    session.timeout = seconds
    _without_output(stack, hub, hub.logging)


def _without_output(stack: ExitStack, bars: Any, logs: Any) -> None:
    stack.callback(logs.set_verbosity, logs.get_verbosity())
    logs.set_verbosity(logs.CRITICAL)
    if not bars.are_progress_bars_disabled():
        stack.callback(bars.enable_progress_bars)
        bars.disable_progress_bars()
