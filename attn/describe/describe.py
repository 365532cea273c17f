"""Describes a head: builds the prompt, sends it, and makes a description of the answer."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from attn.corpus.sentences import sentence_ends
from attn.describe import evidence
from attn.describe.budget import Budget
from attn.describe.chat import LanguageModel, OnText, Request
from attn.describe.evidence import Passage
from attn.describe.prompts import Prompt, Shown, describe_prompt
from attn.errors import AnswerCut, ContextOverflow
from attn.heads import HeadId
from attn.index.index import Index

_AGAINST_CIRCLES = 0.5
_ONE_SENTENCE = 100  # tokens that one sentence needs at most; small models do not end by themselves

KINDS = {"ranked": "strong", "band": "weaker", "rest": "at rest"}


@dataclass(frozen=True)
class Options:
    """How a description is asked for.

    ``samples`` examples; ``seed`` of their draw and of the marks; ``numbers`` whether the head's
    budget and token table are told; ``custom`` the user's own words; ``budget`` tokens of the
    prompt, at most; ``longest`` tokens of the answer, at most; ``brief`` whether one sentence is
    asked for, which is what small models can do.
    """

    samples: int = 20
    seed: int = 0
    numbers: bool = False
    custom: str = ""
    budget: int = 6000
    longest: int = 600
    brief: bool = False


@dataclass(frozen=True)
class Draft:
    """A prompt ready to be sent, and what it was made from."""

    head: HeadId
    options: Options
    prompt: Prompt
    evidence: tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True)
class Description:
    """What a model, or a person, says that a head does.

    ``index`` the identity of the index; ``author`` the language model's name, or "you";
    ``server`` its host; ``evidence`` the (document id, start, dst, src) of each example;
    ``options`` what it was asked with, None for a person's; ``cut`` whether the answer ran on and
    only its whole sentences are kept.
    """

    id: str
    index: str
    head: HeadId
    author: str
    text: str
    created: str
    server: str = ""
    system: str = ""
    user: str = ""
    evidence: tuple[tuple[str | int, ...], ...] = ()
    options: Options | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    cut: bool = False

    @property
    def by_person(self) -> bool:
        """Whether a person wrote it."""
        return self.options is None


def draft(index: Index, head: HeadId, options: Options | None = None) -> Draft:
    """The prompt for a head, from training documents only. Sends nothing."""
    options = options or Options()
    passages = evidence.gather(index, head, options.samples, options.seed)
    examples = [_shown(passage, index.manifest.bos) for passage in passages]
    prompt = describe_prompt(
        examples,
        seed=options.seed,
        numbers=_numbers(index, head) if options.numbers else "",
        custom=options.custom,
        budget=options.budget,
        brief=options.brief,
    )
    places = tuple(passages[place].place for place in prompt.kept)
    return Draft(head, options, prompt, places)


def describe(
    index: Index,
    drafted: Draft,
    model: LanguageModel,
    on_text: OnText | None = None,
    stop: threading.Event | None = None,
    budget: Budget | None = None,
) -> Description:
    """Send a draft and return the whole description; raises a DescribeError, keeping nothing.

    A prompt too long for the model is halved once.
    """
    budget = budget or Budget()
    try:
        return _describe(index, drafted, model, on_text, stop, budget)
    except ContextOverflow:
        half = replace(drafted.options, budget=drafted.prompt.tokens // 2)
        shorter = draft(index, drafted.head, half)
        if shorter.prompt.examples == drafted.prompt.examples:
            raise
        return _describe(index, shorter, model, on_text, stop, budget)


def _describe(
    index: Index,
    drafted: Draft,
    model: LanguageModel,
    on_text: OnText | None,
    stop: threading.Event | None,
    budget: Budget,
) -> Description:
    prompt, options = drafted.prompt, drafted.options
    longest = min(options.longest, _ONE_SENTENCE) if options.brief else options.longest
    request = Request(prompt.system, prompt.user, longest, frequency_penalty=_AGAINST_CIRCLES)
    with budget.room(prompt.tokens + longest) as spent:
        answer = model.complete(request, on_text, stop)
        spent(answer.usage)
    text = answer.text.strip()
    if answer.cut:
        text = whole_sentences(text)
    if not text:
        raise AnswerCut(
            f"The model wrote no whole sentence in {longest} tokens: choose a larger "
            f"model, or show it fewer examples."
        )
    return Description(
        id=uuid.uuid4().hex,
        index=index.manifest.identity,
        head=drafted.head,
        author=model.name,
        text=text,
        created=now(),
        server=getattr(getattr(model, "server", None), "host", ""),
        system=prompt.system,
        user=prompt.user,
        evidence=drafted.evidence,
        options=options,
        prompt_tokens=answer.usage.prompt,
        answer_tokens=answer.usage.answer,
        seconds=answer.seconds,
        cut=answer.cut,
    )


def whole_sentences(text: str) -> str:
    """A text up to the end of its last whole sentence, empty if it has none.

    A sentence ends with its mark and the quotes or brackets that close after it, or with a line.

    >>> whole_sentences("It looks at names. It also looks at")
    'It looks at names.'
    """
    ends = sentence_ends(text)
    return text[: ends[-1]].strip() if ends else ""


def own(index: Index, head: HeadId, text: str) -> Description:
    """A person's own description."""
    identity = index.manifest.identity
    return Description(uuid.uuid4().hex, identity, head, "you", text.strip(), now())


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _shown(passage: Passage, bos: bool) -> Shown:
    example, texts = passage.example, passage.window.texts
    row = example.row
    shown = texts[: len(row) if row is not None else example.dst + 1]
    destination = _quoted(texts[example.dst])
    if passage.kind == "rest":
        marks: tuple[tuple[int, str], ...] = ()
        pair = f"({destination} → the first token, at rest: {passage.sink:.0%} of its attention)"
    else:
        marks = ((example.src, "src"),)
        pair = f"({destination} → {_quoted(texts[example.src])}, {example.multiple:.1f})"
    return Shown(shown, example.dst, marks, pair, KINDS[passage.kind], bos)


def _quoted(token: str) -> str:
    return json.dumps(token, ensure_ascii=False)


def _numbers(index: Index, head: HeadId) -> str:
    """The head's numbers as lines to tell beside the examples."""
    told = evidence.numbers(index, head)
    budget = ", ".join(f"{share:.1%} {name}" for name, share in told.budget)
    tokens = ", ".join(f"{_quoted(text)} {share:.1%}" for text, share in told.tokens)
    return (
        f"Where this head's attention goes over the whole corpus: {budget}.\n"
        f"What the rest of it goes to, by the source token's text: {tokens}."
    )


def first_sentence(text: str) -> str:
    """A description's first line, for lists."""
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else ""
