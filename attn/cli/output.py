"""What commands print: progress, examples, flat records."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attn.heads import Example, HeadId
    from attn.index.archive import Received
    from attn.index.index import Index
    from attn.index.query import Ranking


def sortable(value: float) -> float:
    """The value, or what sorts below every value where it is not a number."""
    return float(value) if value == value else float("-inf")


def flat_record(answer: Any) -> dict[str, Any]:
    """An answer of attn/analyse/search.py as one flat object."""
    record: dict[str, Any] = asdict(answer)
    place: dict[str, int] = record.pop("head")
    return place | record


def say(text: str) -> None:
    """Print a sentence for a person on standard error."""
    print(text, file=sys.stderr)


def print_received(received: Received) -> None:
    """Print where an index is now, and whether it was there before."""
    if not received.new:
        say("The index is there already.")
    print(received.folder)


def print_examples(
    path: Path,
    head: str,
    as_json: bool,
    query: Callable[[Index, HeadId], Ranking],
    taken: Sequence[str | None] = (),
    regex: bool = False,
) -> None:
    """Ask an index for examples of a head and print them, one a line.

    ``taken`` the filters by token: which tokens they take is said where that is not plain.
    """
    from attn.heads import HeadId
    from attn.index.index import Index

    opened = Index.open(path)
    at = HeadId.parse(head)
    ranking = query(opened, at)
    for told in taken:
        if told and (sentence := opened.taken(told, regex=regex)):
            say(sentence)
    for example in ranking.examples:
        if as_json:
            print(json.dumps(example.record()))
        else:
            print(_line(opened, example))
    if not as_json:
        print(f"{at}: {_out_of(ranking)}")


def _out_of(ranking: Ranking) -> str:
    n, pairs = len(ranking.examples), f"{ranking.pairs:,} pairs above average"
    if ranking.matching is not None:
        pairs = f"{ranking.matching:,} that match, out of {pairs}"
    among = "" if ranking.exact else f" (among the {ranking.kept:,} examples kept that match)"
    return f"{n} of {pairs}{among}"


def _line(index: Index, example: Example) -> str:
    """One example for a terminal: scores, then the text with source and destination marked."""
    window = index.window(example.document, example.start)
    texts, labels = [*window.texts], window.labels
    texts[example.src] = f"[[{labels[example.src]}]]"
    if example.dst != example.src:
        texts[example.dst] = f"<<{labels[example.dst]}>>"
    first, last = sorted((example.src, example.dst))
    start = max(0, first - 8)
    shown = texts[start : last + 1]
    if last - first > 40:
        shown = [*texts[start : first + 8], " … ", *texts[last - 16 : last + 1]]
    text = "".join(shown).replace("\n", "↵")
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    more = f"  ({example.more})" if example.more else ""
    return f"{example.multiple:8.2f}×  {example.attention:.3f}  #{example.document:<6}{text}{more}"


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, float, str], None]]:
    """A progress bar on standard error: step(message, share 0..1, detail)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=1.0, detail="")

        def step(message: str, share: float, detail: str) -> None:
            progress.update(task, description=message, completed=share, detail=detail)

        yield step
