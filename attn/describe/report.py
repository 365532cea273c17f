"""A description's score, as it is kept and shown."""

from __future__ import annotations

from dataclasses import dataclass

from attn.describe.score import Result, Verdict


@dataclass(frozen=True)
class Report:
    """How a description did on held-out text, beside what it must beat.

    ``description`` its id; ``judge`` the model that answered; ``plan`` how it was tested;
    ``documents`` how many held-out ones the questions are about; ``other`` the head whose
    description is the shuffled baseline.
    """

    id: str
    description: str
    judge: str
    created: str
    plan: str
    documents: int
    other: str
    result: Result
    baselines: tuple[Result, ...]
    verdict: Verdict
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0

    @property
    def results(self) -> tuple[Result, ...]:
        """The description's result first, then the baselines'."""
        return (self.result, *self.baselines)
