"""The judge that knows only a description: a language model answers the questions.

Questions go in batches, several calls at a time. Beliefs come from the log-probabilities of yes and
no where the server gives them. Every batch's answers are handed on as they come, so that a test
can be stopped and taken up again without asking twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from attn.describe.budget import Budget
from attn.describe.chat import Answer, LanguageModel, Request, TokenChoice
from attn.describe.judges import Belief, Weights
from attn.describe.prompts import Prompt, Shown, judge_prompt
from attn.describe.questions import PairQuestion, PickQuestion
from attn.errors import BudgetSpent, ContextOverflow, Stopped

_LINE = re.compile(r"^[ \t*]*(?:Text )?(\d+)[ \t]*[:.)\-]+[ \t*]*\"?([A-Za-z]+|\d+)", re.MULTILINE)
_TOKENS_A_LINE = 8

Saved = MutableMapping[str, dict[str, Any]]
"""Batch key → its answers: what a test that was stopped goes on from."""


@dataclass
class Reader:
    """Judges by a description. Satisfies :class:`attn.describe.judges.Judge`.

    ``batch`` questions a call; ``parallel`` calls at a time; ``saved`` answers had before, added to
    as answers come; ``budget`` what the calls may cost; ``progress`` is told how many questions
    were answered; ``stop`` ends it between calls and within them.
    """

    model: LanguageModel
    description: str
    bos: bool = False
    batch: int = 6
    parallel: int = 4
    seed: int = 0
    saved: Saved = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    progress: Callable[[int], None] | None = None
    stop: threading.Event | None = None
    graded: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pairs(self, questions: Sequence[PairQuestion]) -> list[Belief]:
        """The model's beliefs, 0..1: in degrees, or 0 and 1."""
        found = self._all(questions, pick=False)
        self.graded = all(answers["graded"] for answers in found) if found else False
        key = "beliefs" if self.graded else "said"
        return [belief for answers in found for belief in answers[key]]

    def picks(self, questions: Sequence[PickQuestion]) -> list[Weights]:
        """All weight on the source that the model names."""
        found = self._all(questions, pick=True)
        named = [place for answers in found for place in answers["said"]]
        return [
            None if place is None else tuple(float(i == place) for i in range(len(q.sources)))
            for place, q in zip(named, questions, strict=True)
        ]

    def prompts(self, questions: Sequence[PairQuestion | PickQuestion]) -> list[Prompt]:
        """The prompts that would be sent, one for each batch."""
        return [self._prompt(batch) for batch in _batches(questions, self.batch)]

    def _prompt(self, batch: Sequence[PairQuestion | PickQuestion]) -> Prompt:
        pick = isinstance(batch[0], PickQuestion)
        shown = [_shown(question, self.bos) for question in batch]
        return judge_prompt(self.description, shown, pick=pick, seed=self.seed)

    def _all(
        self, questions: Sequence[PairQuestion | PickQuestion], *, pick: bool
    ) -> list[dict[str, Any]]:
        batches = _batches(questions, self.batch)
        failure: Exception | None = None
        found: dict[int, dict[str, Any]] = {}
        halt = threading.Event()
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="attn-judge") as pool:
            waiting = {pool.submit(self._try, b, pick, halt): i for i, b in enumerate(batches)}
            for future in as_completed(waiting):
                error = future.exception()
                if error is None:
                    found[waiting[future]] = future.result()
                elif isinstance(error, Exception):
                    failure = _worse(failure, error)
        if failure is not None:
            raise failure
        return [found[i] for i in range(len(batches))]

    def _try(
        self, batch: Sequence[PairQuestion | PickQuestion], pick: bool, halt: threading.Event
    ) -> dict[str, Any]:
        """Get a batch's answers. A failure stops the other batches from being sent."""
        try:
            return self._batch(batch, pick, halt)
        except Stopped:
            halt.set()
            raise Stopped(
                "Stopped; the answers so far are kept, and the test can go on from them."
            ) from None
        except BaseException:
            halt.set()
            raise

    def _batch(
        self, batch: Sequence[PairQuestion | PickQuestion], pick: bool, halt: threading.Event
    ) -> dict[str, Any]:
        """The answers of one batch; in two halves where it is too long for the model."""
        prompt = self._prompt(batch)
        key = _key(self.model.name, prompt)
        if key not in self.saved:
            if halt.is_set() or (self.stop is not None and self.stop.is_set()):
                raise Stopped("Stopped.")
            try:
                answers = self._ask(prompt, pick)
            except ContextOverflow:
                if len(batch) == 1:
                    raise
                middle = len(batch) // 2
                return _joined(
                    self._batch(batch[:middle], pick, halt), self._batch(batch[middle:], pick, halt)
                )
            with self._lock:
                self.saved[key] = answers
        if self.progress:
            self.progress(len(batch))
        return self.saved[key]

    def _ask(self, prompt: Prompt, pick: bool) -> dict[str, Any]:
        longest = _TOKENS_A_LINE * prompt.examples + 16
        form = grammar(prompt.examples, pick=pick)
        request = Request(prompt.system, prompt.user, longest, logprobs=not pick, grammar=form)
        with self.budget.room(prompt.tokens + longest) as spent:
            answer = self.model.complete(request, stop=self.stop)
            spent(answer.usage)
        return read_picks(answer, prompt.examples) if pick else read_pairs(answer, prompt.examples)


def grammar(n: int, *, pick: bool) -> str:
    """The form of an answer to ``n`` questions, as a GBNF grammar.

    >>> grammar(1, pick=False)
    'root ::= "1:" ( " yes" | " no" )'
    """
    words = (" 1", " 2", " 3", " 4", " 5") if pick else (" yes", " no")
    word = "( " + " | ".join(f'"{word}"' for word in words) + " )"
    lines = [f'"{number}:" {word}' for number in range(1, n + 1)]
    return "root ::= " + ' "\\n" '.join(lines)


def read_pairs(answer: Answer, n: int) -> dict[str, Any]:
    """``said`` 1, 0 or None a question; ``beliefs`` in degrees where ``graded``.

    >>> from attn.describe.chat import Usage
    >>> read_pairs(Answer("1: yes\\n2: perhaps\\n3: No.", Usage(), 0.0), 3)["said"]
    [1.0, None, 0.0]
    """
    said: list[Belief] = [None] * n
    beliefs: list[Belief] = [None] * n
    graded = answer.choices is not None
    for number, word, start in _lines(answer.text, n):
        if word.lower() not in ("yes", "no") or said[number] is not None:
            continue
        said[number] = float(word.lower() == "yes")
        belief = _belief(answer.choices, start) if answer.choices else None
        graded = graded and belief is not None
        beliefs[number] = belief
    return {"said": said, "beliefs": beliefs, "graded": graded}


def read_picks(answer: Answer, n: int) -> dict[str, Any]:
    """``said`` the place of the source named, 0..4, or None, a question."""
    said: list[int | None] = [None] * n
    for number, word, _ in _lines(answer.text, n):
        if word in ("1", "2", "3", "4", "5") and said[number] is None:
            said[number] = int(word) - 1
    return {"said": said, "graded": True}


def _lines(text: str, n: int) -> list[tuple[int, str, int]]:
    """(question from 0, the word after its number, where that word begins in the text)."""
    found = [(int(m[1][:6]) - 1, m[2], m.start(2)) for m in _LINE.finditer(text)]
    if not found and n == 1:
        alone = re.match(r"\W*([A-Za-z]+|\d+)", text)
        found = [(0, alone[1], alone.start(1))] if alone else []
    return [(number, word, start) for number, word, start in found if 0 <= number < n]


def _belief(choices: Sequence[TokenChoice], start: int) -> Belief:
    """The weight of yes against no at the token that holds the answer's place ``start``."""
    at = 0
    for choice in choices:
        if at <= start < at + len(choice.text):
            weights = {"yes": 0.0, "no": 0.0}
            for text, logprob in choice.alternatives.items():
                word = re.sub(r"[^a-z]", "", text.lower())
                for name in weights:
                    if word and name.startswith(word):
                        weights[name] += math.exp(min(logprob, 0.0))
            total = weights["yes"] + weights["no"]
            return weights["yes"] / total if total > 0 else None
        at += len(choice.text)
    return None


def _shown(question: PairQuestion | PickQuestion, bos: bool) -> Shown:
    if isinstance(question, PairQuestion):
        marks: tuple[tuple[int, str], ...] = ((question.src, "src"),)
    else:
        marks = tuple((src, f"s{i}") for i, src in enumerate(question.sources, 1))
    return Shown(question.texts[: question.shown], question.dst, marks, bos=bos)


def _batches(
    questions: Sequence[PairQuestion | PickQuestion], size: int
) -> list[Sequence[PairQuestion | PickQuestion]]:
    return [questions[i : i + size] for i in range(0, len(questions), size)]


def _key(model: str, prompt: Prompt) -> str:
    text = json.dumps([model, prompt.system, prompt.user])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _joined(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    both = {name: one[name] + two[name] for name in one if name != "graded"}
    return {**both, "graded": one["graded"] and two["graded"]}


def _worse(one: Exception | None, two: Exception) -> Exception:
    """The more informative of two failures: a real one, not one that was stopped because of it."""
    if one is None or (isinstance(one, Stopped) and not isinstance(two, (Stopped, BudgetSpent))):
        return two
    return one
