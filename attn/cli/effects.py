"""The command that measures what the model's predictions lose without a head."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from attn.cli.options import Count, IndexPath, Json
from attn.cli.output import progress_bar, say

if TYPE_CHECKING:
    from attn.heads import HeadId
    from attn.index.effects import Effects
    from attn.models.session import ModelSession

commands = typer.Typer()


@commands.command()
def effects(
    index: IndexPath,
    docs: Annotated[
        int, typer.Option(help="On so many of the index's documents, spread evenly.", min=1)
    ] = 50,
    exact: Annotated[
        int, typer.Option(help="Measure so many of the strongest heads exactly.", min=0)
    ] = 10,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="HEAD", help="Measure this head exactly, too; may be repeated."),
    ] = None,
    n: Count = 20,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: Json = False,
) -> None:
    """Measure by how much the loss of each token rises when a head gives its mean instead.

    All heads are estimated by attribution patching, the strongest measured exactly. What is done is
    kept beside the index: a command that was stopped goes on where it was.
    """
    from attn.analyse.effects.plan import Plan
    from attn.heads import HeadId
    from attn.index.index import Index

    opened = Index.open(index)
    plan = Plan(docs, exact, tuple(HeadId.parse(text) for text in head or ()))
    plan.check(opened)

    def load() -> ModelSession:
        from attn.models.session import load_model

        return load_model(opened.manifest.model, device, opened.manifest.dtype)

    with progress_bar("Estimating all heads") as step:
        from attn.analyse.effects.run import measure

        found = measure(opened, load, plan, step)
    heads = found.ranked()
    if as_json:
        for one in heads:
            print(json.dumps(found.record(one)))
    else:
        asked = [one for one in heads if one in plan.heads and one not in heads[:n]]
        for one in [*heads[:n], *asked]:
            print(_line(found, one))
    measured = found.measured
    say(
        f"Nats a token, over {measured.tokens:,} tokens of {measured.documents:,} documents, where "
        f"the whole model's loss is {measured.loss:.3f}; the 95 % interval is over documents."
    )
    say(measured.agreement)
    say(f"Kept in {found.path}")


def _line(found: Effects, head: HeadId) -> str:
    at, rank = (head.layer, head.head), found.rank(head)
    place = "" if rank is None else str(rank[0])
    low, high = found.low[at], found.high[at]
    span = f"[{low:+.4f}, {high:+.4f}]" if low == low else "[one document: no interval]"
    estimate = f"  (estimated {found.estimate[at]:+.4f})" if found.is_exact(head) else ""
    kind = "exact" if found.is_exact(head) else "estimated"
    return f"{place:>5}  {head!s:8}{found.effect[at]:+.4f}  {span}  {kind}{estimate}"
