"""Commands that ask an index about heads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn.cli.options import Apart, Count, Destination, Head, IndexPath, Json, Regex, Token
from attn.cli.output import flat_record, print_examples, say, sortable
from attn.errors import QueryError
from attn.measure.scores import BANDS

if TYPE_CHECKING:
    from attn.heads import HeadId
    from attn.index.index import Index
    from attn.index.query import Ranking

commands = typer.Typer()


@commands.command()
def heads(
    index: IndexPath,
    by: Annotated[str, typer.Option(help="A metric, like induction, or effect.")] = "induction",
    n: Count = 20,
    metrics: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A Python file that defines derived metrics; it is run."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the heads with the highest value of a metric."""
    from attn.index.effects import find_effects
    from attn.index.index import Index
    from attn.index.with_effects import EFFECT, IndexWithEffects
    from attn.measure.user_metrics import load_file

    for file in metrics or ():
        load_file(file)
    opened = Index.open(index)
    if by == EFFECT.name:
        measured = find_effects(opened.path, opened.manifest)
        if measured is None:
            raise QueryError("No effects are measured here: run `python -m attn effects INDEX`.")
        opened = IndexWithEffects(opened, measured)
    values = opened.metric(by)
    if opened.none_counted:
        say(opened.none_counted)
    ranked = sorted(opened.heads(), key=lambda h: (-sortable(values[h.layer, h.head]), h))
    for head in ranked[:n]:
        value = float(values[head.layer, head.head])
        if as_json:
            record = {"layer": head.layer, "head": head.head, by: value if value == value else None}
            print(json.dumps(record))
        else:
            print(f"{head!s:8}{value:.4f}")


@commands.command()
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
    one_per_document: Annotated[
        bool, typer.Option(help="The best of each document, once a text.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the pairs of a head with the highest multiple of the row's average attention."""
    from attn.index.query import parse_distance

    print_examples(
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
        (token, destination),
        regex,
    )


@commands.command()
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
    from attn.index.query import parse_distance

    draw: dict[str, Any] = {"seed": seed, "token": token, "destination": destination}
    draw |= {"regex": regex, "distance": None if distance is None else parse_distance(distance)}

    def query(opened: Index, at: HeadId) -> Ranking:
        return opened.random(at, n, **draw) if band is None else opened.band(at, band, n, **draw)

    print_examples(index, head, as_json, query, (token, destination), regex)


@commands.command()
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
    from attn.heads import HeadId
    from attn.index.index import Index

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


@commands.command()
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
    from attn.analyse import search
    from attn.index.index import Index

    opened = Index.open(index)
    if token is not None and text is None:
        by_token = search.by_token(opened, token, regex=regex)[:n]
        if taken := opened.taken(token, regex=regex):
            say(taken)
        for one in by_token:
            print(
                json.dumps(flat_record(one))
                if as_json
                else f"{one.head!s:8}{one.lift:7.2f}×  {one.mass:10.1f}  {one.pairs:7,} pairs"
            )
        return
    if text is None or token is not None or (pattern is None) == (pair is None):
        raise QueryError("Say --token, or --text with one of --pattern and --pair.")
    from attn.models.session import load_model

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
            json.dumps(flat_record(answer))
            if as_json
            else f"{answer.head!s:8}{answer.share:7.3f}  {answer.lift:7.2f}×  "
            f"write {answer.write:.3g}"
        )


@commands.command()
def summary(index: IndexPath, head: Head) -> None:
    """Say in two sentences what a head's numbers are, and which known roles it plays."""
    from attn.analyse.roles import roles, told
    from attn.analyse.summary import summary as sentences
    from attn.heads import HeadId
    from attn.index.index import Index

    opened, at = Index.open(index), HeadId.parse(head)
    print(sentences(opened, at))
    if known := told(roles(opened, at)):
        print(known)


@commands.command("report")
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
    from attn.heads import HeadId
    from attn.index.index import Index
    from attn.show.report import file_name, write

    opened, at = Index.open(index), HeadId.parse(head)
    print(write(opened, at, out or Path(file_name(opened, at)), n=n, seed=seed))
