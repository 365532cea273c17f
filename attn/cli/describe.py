"""The commands that describe heads, and test and keep what was said.

No command takes a key: it comes from the environment or `.env` alone, as ATTN_LLM_KEY.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attn.cli.options import IndexPath, Json
from attn.describe.budget import Budget
from attn.describe.describe import Description, Draft, Options, describe, draft, first_sentence, own
from attn.describe.report import Report
from attn.describe.store import Descriptions
from attn.describe.trial import Plan, cost, trial
from attn.errors import BudgetSpent, DescribeError, DescriptionStoreError, ServerError
from attn.heads import HeadId
from attn.index.index import Index

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
    opened = Index.open(index)
    if (head is None) is not all_heads:
        raise DescribeError("Name one head, like L10H7, or say --all-heads.")
    if text is not None and all_heads:
        raise DescribeError("A description of your own is of one head: name it.")
    heads = opened.heads() if all_heads else [HeadId.parse(head or "")]
    heads = [one.check(opened.manifest.n_layers, opened.manifest.n_heads) for one in heads]
    options = Options(samples, seed, numbers, custom, prompt_tokens, answer_tokens)
    plan = Plan(questions, seed, batch, parallel)
    if dry_run:
        for one in heads:
            _show_draft(opened, draft(opened, one, options), text, plan)
        return
    from attn.describe.client import Client
    from attn.describe.servers import configured

    work = _Work(
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
        _show(found, report, as_json)
    used = work.budget.usage
    print(f"{used.prompt:,} + {used.answer:,} tokens used.", file=sys.stderr)


class _Work:
    """Describes and tests heads, and leaves out what is kept already."""

    def __init__(
        self, index: Index, model: Any, options: Options, plan: Plan, budget: Budget
    ) -> None:
        self._index, self._model, self._options, self._plan = index, model, options, plan
        self.budget, self._kept = budget, Descriptions(index)

    def head(
        self, head: HeadId, text: str | None, score: bool
    ) -> tuple[Description, Report | None]:
        """The head's description, and its report where asked for."""
        found = next((d for d in self._kept.of(head) if self._same(d, text)), None)
        if found is None and text is not None:
            found = own(self._index, head, text)
        elif found is None:
            drafted = draft(self._index, head, self._options)
            found = describe(self._index, drafted, self._model, budget=self.budget)
        self._kept.add(found)
        if not score:
            return found, None
        for report in self._kept.reports(found):
            if report.plan == self._plan.name and report.judge == self._model.name:
                return found, report
        return found, trial(
            self._index, found, self._model, self._kept, self._plan, budget=self.budget
        )

    def _same(self, description: Description, text: str | None) -> bool:
        if text is not None:
            return description.by_person and description.text == text.strip()
        asked = (description.author, description.options)
        return asked == (self._model.name, self._options)


def _show(found: Description, report: Report | None, as_json: bool) -> None:
    if as_json:
        from attn.describe.records import description_record, report_record

        told = report_record(report) if report else None
        print(json.dumps({**description_record(found), "report": told}, ensure_ascii=False))
        return
    print(f"{found.head}, described by {found.author}:\n{_printable(found.text)}\n")
    if report is None:
        return
    print(f"{'':28}{report.result.method:>20}{'':17}pick of five")
    for result in report.results:
        pair, pick = result.pair, result.pick
        picked = f"{pick.value:.2f} ({pick.low:.2f} to {pick.high:.2f})" if pick else "-"
        name = result.name + (f" ({report.other})" if result.name.startswith("another") else "")
        print(f"{name:36}{pair.value:.2f} ({pair.low:.2f} to {pair.high:.2f})     {picked}")
    print(
        f"{report.result.pair.n} pairs of {report.documents} held-out documents, "
        f"{report.result.unread} answers unread, judged by {report.judge}.\n{report.verdict.text}\n"
    )


def _show_draft(index: Index, drafted: Draft, text: str | None, plan: Plan) -> None:
    """The prompt as it would be sent, and what everything would cost."""
    prompt = drafted.prompt
    if text is None:
        print(f"--- system\n{_printable(prompt.system)}\n\n--- user\n{_printable(prompt.user)}\n")
        print(f"--- {prompt.examples} examples, about {prompt.tokens:,} tokens")
    told = cost(index, drafted.head, text or "x " * 100, plan)
    print(f"--- a test takes {told.calls} calls, about {told.usage.total:,} tokens")


def _printable(text: str) -> str:
    """Text for a terminal: control characters shown, not obeyed."""
    return "".join(c if c == "\n" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)


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
            line = _printable(first_sentence(found.text))
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
