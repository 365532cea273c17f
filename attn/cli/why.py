"""The command that says why a head looks where it looks, and what its look does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from attn.cli.options import Head, IndexPath, Json
from attn.cli.output import say
from attn.formatting import shown

if TYPE_CHECKING:
    from attn.analyse.why.answers import Split
    from attn.heads import Tokens

commands = typer.Typer()


@commands.command()
def why(
    index: IndexPath,
    head: Head,
    text: Annotated[str, typer.Option(help="The text.")],
    pair: Annotated[
        str, typer.Option(metavar="DST,SRC", help="Positions in the text, from 0, the BOS counted.")
    ],
    n: Annotated[
        int, typer.Option("-n", help="How many parts, and pairs of parts, for people.", min=1)
    ] = 8,
    as_json: Json = False,
) -> None:
    """Split the score of one look over what wrote to the residual stream, in nats."""
    from attn.analyse.search import parse_pair
    from attn.analyse.why.split import read, split, split_pairs
    from attn.heads import HeadId
    from attn.index.index import Index
    from attn.models.session import load_model

    (dst, src), at = parse_pair(pair), HeadId.parse(head)
    manifest = Index.open(index).manifest
    session = load_model(manifest.model, dtype=manifest.dtype)
    session.need_weights(manifest.weights)
    at.check(session.n_layers, session.n_heads)
    tokens = session.encode(text, manifest.bos)
    stream = read(session, tokens.ids.tolist(), at.layer)
    made, pairs = split(stream, at, dst, src), split_pairs(stream, at, dst, src)
    if as_json:
        _print_json(made, pairs, n)
    else:
        _print_lines(made, pairs, tokens, n)


def _pairs(made: Split, pairs: np.ndarray, n: int) -> list[tuple[str, float]]:
    """The strongest pairs of a query part and a key part, by name."""
    order = np.argsort(-np.abs(pairs), axis=None, kind="stable")[:n]
    rows, columns = np.unravel_index(order, pairs.shape)
    return [
        (f"{made.parts[i].name} × {made.parts[j].name}", float(pairs[i, j]))
        for i, j in zip(rows, columns, strict=True)
    ]


def _print_json(made: Split, pairs: np.ndarray, n: int) -> None:
    rows = [("query", part.name, nats) for part, nats in made.strongest("query", len(made.parts))]
    rows += [("key", part.name, nats) for part, nats in made.strongest("key", len(made.parts))]
    rows += [("pair", name, nats) for name, nats in _pairs(made, pairs, n)]
    rows.append(("total", str(made.head), made.total))
    for side, part, nats in rows:
        print(json.dumps({"side": side, "part": part, "nats": nats}))


def _print_lines(made: Split, pairs: np.ndarray, tokens: Tokens, n: int) -> None:
    dst, src = (shown(tokens.labels[i]) for i in (made.dst, made.src))
    print(
        f"{made.head}  {dst!r} ({made.dst}) → {src!r} ({made.src}): attention "
        f"{made.attention:.3f}, {made.total:+.3f} nats against the mean over the "
        f"{made.visible} sources that the row sees"
    )
    for side, title in (("query", "query side"), ("key", "key side")):
        print(f"\n{title}: what wrote at {dst!r}" if side == "query" else f"\n{title}: at {src!r}")
        for part, nats in made.strongest(side, n):
            print(f"{nats:+9.3f}  {part.name}")
        print(f"{made.total:+9.3f}  all {len(made.parts)} parts")
    print("\npairs of parts, query × key")
    for name, nats in _pairs(made, pairs, n):
        print(f"{nats:+9.3f}  {name}")
    if made.capped:
        say("This model caps its scores: nats are those before the cap.")
