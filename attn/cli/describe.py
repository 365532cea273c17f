"""The commands that describe heads, and test and keep what was said.

No command takes a key: it comes from the environment or `.env` alone, as ATTN_LLM_KEY.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from attn.cli.options import IndexPath, Json
from attn.errors import BudgetSpent, DescribeError, DescriptionStoreError, ServerError

commands = typer.Typer()


@commands.command("describe")
def describe_command(
    index: IndexPath,
    head: Annotated[str | None, typer.Argument(metavar="HEAD", help="A head, like L10H7.")] = None,
    all_heads: Annotated[bool, typer.Option("--all-heads", help="Every head, in order.")] = False,
    budget_tokens: Annotated[
        int | None, typer.Option(help="Stop before the calls cost more tokens than this.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Examples in the prompt.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of examples and questions.")] = 0,
    numbers: Annotated[bool, typer.Option(help="Tell the head's budget and tokens too.")] = False,
    custom: Annotated[str, typer.Option(help="Words of your own to add to the prompt.")] = "",
    prompt_tokens: Annotated[int, typer.Option(help="Longest prompt.", min=200)] = 6000,
    answer_tokens: Annotated[int, typer.Option(help="Longest answer.", min=8)] = 600,
    brief: Annotated[
        bool, typer.Option("--brief", help="Ask for one sentence, which small models can write.")
    ] = False,
    text: Annotated[str | None, typer.Option(help="Test this description of your own.")] = None,
    score: Annotated[bool, typer.Option(help="Test the description too.")] = True,
    questions: Annotated[int, typer.Option(help="Yes questions of the test.", min=1)] = 30,
    batch: Annotated[int, typer.Option(help="Questions a call.", min=1)] = 6,
    parallel: Annotated[int, typer.Option(help="Calls at a time.", min=1, max=32)] = 4,
    url: Annotated[str | None, typer.Option(help="The server's address.")] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask there.")] = None,
    deadline: Annotated[
        float | None, typer.Option(help="Seconds that a call may take.", min=0.1)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show prompt and cost; send nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Have a language model say what a head does, and test what it says on held-out text.

    What is done is kept beside the index. Said again, the command goes on where it stopped.
    """
    from attn.cli.describe_output import DescribedHeads, print_description, print_draft
    from attn.describe.budget import Budget
    from attn.describe.client import Client
    from attn.describe.describe import Options, draft
    from attn.describe.servers import configured
    from attn.describe.trial import Plan
    from attn.heads import HeadId
    from attn.index.index import Index

    opened = Index.open(index)
    if (head is None) is not all_heads:
        raise DescribeError("Name one head, like L10H7, or say --all-heads.")
    if text is not None and all_heads:
        raise DescribeError("A description of your own is of one head: name it.")
    heads = opened.heads() if all_heads else [HeadId.parse(head or "")]
    heads = [one.check(opened.manifest.n_layers, opened.manifest.n_heads) for one in heads]
    options = Options(samples, seed, numbers, custom, prompt_tokens, answer_tokens, brief)
    plan = Plan(questions, seed, batch, parallel)
    if dry_run:
        for one in heads:
            print_draft(opened, draft(opened, one, options), text, plan)
        return
    work = DescribedHeads(
        opened, Client(configured(url, model), deadline), options, plan, Budget(budget_tokens)
    )
    done, skipped = 0, []
    for one in heads:
        try:
            found, report = work.head(one, text, score)
        except BudgetSpent as spent:
            print(f"{spent} {done} of {len(heads)} heads are done.", file=sys.stderr)
            return
        except ServerError:
            raise
        except DescribeError as error:
            if not all_heads:
                raise
            skipped.append(one)
            print(f"{one}: {error}", file=sys.stderr)
            continue
        done += 1
        print_description(found, report, as_json)
    used = work.budget.usage
    print(f"{used.prompt:,} + {used.answer:,} tokens used.", file=sys.stderr)


@commands.command("descriptions")
def descriptions_command(
    index: IndexPath,
    head: Annotated[str | None, typer.Argument(metavar="HEAD", help="Only this head's.")] = None,
    take: Annotated[
        Path | None, typer.Option("--import", help="Add those of this file of JSON lines.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the descriptions kept beside an index; --json exports them with their scores."""
    from attn.cli.describe_output import printable
    from attn.describe.describe import first_sentence
    from attn.describe.store import Descriptions
    from attn.heads import HeadId
    from attn.index.index import Index

    opened = Index.open(index)
    kept = Descriptions(opened)
    if take is not None:
        try:
            with take.open(encoding="utf-8") as lines:
                added = kept.take(lines)
        except (OSError, UnicodeDecodeError):
            raise DescriptionStoreError(
                f"{take} cannot be read: give a file of JSON lines that --json wrote."
            ) from None
        print(f"{added} descriptions are new.")
        return
    wanted = None if head is None else str(HeadId.parse(head))
    if as_json:
        for line in kept.export():
            if wanted is None or json.loads(line)["head"] == wanted:
                print(line)
        return
    for found in kept.all():
        if wanted is None or str(found.head) == wanted:
            reports = kept.reports(found)
            told = f"{reports[0].result.pair.value:.2f}" if reports else "-"
            line = printable(first_sentence(found.text))
            print(f"{found.head!s:8}{told:6}{found.created[:16]}  {found.author}: {line}")


@commands.command("describe-local")
def local_command(
    gguf: Annotated[
        Path | None, typer.Option(help="A GGUF file; the built-in model's by default.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1, 0 for any.")] = 8080,
    context: Annotated[int, typer.Option(help="Tokens of prompt and answer.", min=256)] = 4096,
    idle: Annotated[
        float | None, typer.Option(help="End after so many seconds without use.")
    ] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="End when standard input ends.")
    ] = False,
) -> None:
    """Serve a language model on this machine, for who has no key. Ctrl-C ends it."""
    from attn.describe.local import POOR, hold, model_file, serve

    file = model_file(gguf)
    if gguf is None:
        print(POOR, file=sys.stderr)
    with serve(file, port, context) as address:
        print(
            f"Set ATTN_LLM_URL={address} and ATTN_LLM_MODEL={file.stem}. Ctrl-C ends it.",
            file=sys.stderr,
        )
        try:
            hold(address, lambda line: print(line, flush=True), with_parent=with_parent, idle=idle)
        except KeyboardInterrupt:
            print("Ended.", file=sys.stderr)
