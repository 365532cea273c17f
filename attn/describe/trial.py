"""Tests a description: questions, a judge that reads it, baselines, a verdict.

Descriptions by a model and by a person are tested alike.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attn.describe import evidence
from attn.describe.budget import Budget
from attn.describe.chat import LanguageModel, Usage
from attn.describe.describe import Description, Options, describe, draft, now
from attn.describe.judges import rules
from attn.describe.questions import Questions, ask
from attn.describe.reader import Reader
from attn.describe.report import Report
from attn.describe.score import Answers, answers, score, verdict
from attn.describe.store import Descriptions
from attn.errors import AnswerCut
from attn.heads import HeadId
from attn.index.index import Index

SHUFFLED = "another head's description"
_OTHERS = 3  # heads to try if a model does not finish its description

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """How a description is tested.

    ``questions`` yes questions, with as many no and half as many picks; ``seed`` of their draw;
    ``batch`` questions a call; ``parallel`` calls at a time.
    """

    questions: int = 30
    seed: int = 0
    batch: int = 6
    parallel: int = 4

    @property
    def name(self) -> str:
        """The plan in words; two tests of the same plan ask the same questions."""
        return f"{self.questions} questions, {self.batch} a call, seed {self.seed}"


@dataclass(frozen=True)
class Cost:
    """About what a test will take: ``calls`` and tokens."""

    calls: int
    usage: Usage


def questions(index: Index, head: HeadId, plan: Plan) -> Questions:
    """A head's questions; raises DescribeError where the index has too few held-out pairs."""
    manifest = index.manifest
    return ask(
        evidence.held_out_passages(index, head, plan.seed),
        plan.questions,
        plan.seed,
        skip_first=manifest.skip_first,
        bidirectional=manifest.bidirectional,
    )


def cost(index: Index, head: HeadId, text: str, plan: Plan, model: str = "") -> Cost:
    """What a test of a description will take, the shuffled baseline included. Sends nothing."""
    asked = questions(index, head, plan)
    reader = Reader(_Nobody(), text, index.manifest.bos, plan.batch, seed=plan.seed)
    prompts = [*reader.prompts(asked.pairs), *reader.prompts(asked.picks)]
    tokens = sum(prompt.tokens for prompt in prompts)
    answers = 5 * (len(asked.pairs) + len(asked.picks))
    return Cost(2 * len(prompts), Usage(2 * tokens, 2 * answers))


def trial(
    index: Index,
    description: Description,
    model: LanguageModel,
    kept: Descriptions,
    plan: Plan | None = None,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    budget: Budget | None = None,
) -> Report:
    """Test a description and keep the report.

    Answers are kept as they come: a trial that was stopped, or that failed, goes on from there when
    it is called again. Raises a DescribeError.
    """
    plan, budget = plan or Plan(), budget or Budget()
    start, before = time.monotonic(), budget.usage
    asked = questions(index, description.head, plan)
    tell = progress or (lambda message, share: None)
    tell("Choosing another head's description to compare with.", 0.0)
    other = another(index, description, model, kept, plan, stop, budget)
    total = 2 * (len(asked.pairs) + len(asked.picks))
    done = [0]

    def count(n: int) -> None:
        done[0] += n
        tell(f"{done[0]} of {total} questions answered.", done[0] / max(total, 1))

    def reader(text: str) -> Reader:
        return Reader(
            model, text, index.manifest.bos, plan.batch, plan.parallel, plan.seed,
            kept.answers(), budget, count, stop,
        )  # fmt: skip

    told = answers("this description", reader(description.text), asked)
    others = [answers(SHUFFLED, reader(other.text), asked)]
    others += by_rules(index, description.head, asked)
    result, baselines = score(told), [score(one, told) for one in others]
    report = Report(
        id=uuid.uuid4().hex,
        description=description.id,
        judge=model.name,
        created=now(),
        plan=plan.name,
        documents=asked.documents,
        other=str(other.head),
        result=result,
        baselines=tuple(baselines),
        verdict=verdict(result, baselines),
        prompt_tokens=budget.usage.prompt - before.prompt,
        answer_tokens=budget.usage.answer - before.answer,
        seconds=time.monotonic() - start,
    )
    kept.add_report(report)
    return report


def by_rules(index: Index, head: HeadId, asked: Questions) -> list[Answers]:
    """What the rules answer, which need no language model."""
    simple = rules(evidence.source_mass(index, head))
    return [answers(name, rule, asked) for name, rule in simple.items()]


def another(
    index: Index,
    description: Description,
    model: LanguageModel,
    kept: Descriptions,
    plan: Plan,
    stop: threading.Event | None,
    budget: Budget,
) -> Description:
    """A model's description of another head: one that is kept, or else one asked for now.

    The same description gets the same other one for as long as there is no need for a new one.
    """
    draw = random.Random(f"{description.index} {description.head} {plan.seed}")
    heads = [head for head in index.heads() if head != description.head]
    draw.shuffle(heads)
    known: dict[HeadId, Description] = {}
    for one in kept.all():
        if not one.by_person and one.text != description.text:
            known.setdefault(one.head, one)
    found = next((known[head] for head in heads if head in known), None)
    if found is not None:
        return found
    options = description.options or Options()
    candidates = [head for head in heads if index.pairs(head)][:_OTHERS]
    for head in candidates:
        try:
            made = describe(index, draft(index, head, options), model, None, stop, budget)
        except AnswerCut:
            if head == candidates[-1]:
                raise
            continue
        kept.add(made)
        return made
    return description


@dataclass(frozen=True)
class _Nobody:
    """Takes a model's place to see what it would be asked."""

    name: str = ""

    def complete(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("Nobody is asked.")
