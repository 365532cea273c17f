"""What the describe commands do with heads: describe and test them, and print the outcome."""

from __future__ import annotations

import json
from typing import Any

from attn.describe.budget import Budget
from attn.describe.describe import Description, Draft, Options, describe, draft, own
from attn.describe.records import description_record, report_record
from attn.describe.report import Report
from attn.describe.score import interval_text
from attn.describe.store import Descriptions
from attn.describe.trial import Plan, cost, trial
from attn.heads import HeadId
from attn.index.index import Index


class DescribedHeads:
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


def print_description(found: Description, report: Report | None, as_json: bool) -> None:
    """Print a description and, if it was tested, its score."""
    if as_json:
        told = report_record(report) if report else None
        print(json.dumps({**description_record(found), "report": told}, ensure_ascii=False))
        return
    print(f"{found.head}, described by {found.author}:\n{printable(found.text)}")
    print("(The answer ran on: it is cut at its last whole sentence.)\n" if found.cut else "")
    if report is None:
        return
    print(f"{'':36}{report.result.method:22}{'pick of five':22}above it by: pairs")
    for result in report.results:
        name = result.name + (f" ({report.other})" if result.name.startswith("another") else "")
        measures = (result.pair, result.pick, result.pair_behind)
        print(f"{name:36}" + "".join(f"{interval_text(one):22}" for one in measures).rstrip())
    print(
        f"{report.result.pair.n} pairs of {report.documents} held-out documents, "
        f"{report.result.unread} answers unread, judged by {report.judge}.\n{report.verdict.text}\n"
    )


def print_draft(index: Index, drafted: Draft, text: str | None, plan: Plan) -> None:
    """The prompt as it would be sent, and what everything would cost."""
    prompt = drafted.prompt
    if text is None:
        print(f"--- system\n{printable(prompt.system)}\n\n--- user\n{printable(prompt.user)}\n")
        print(f"--- {prompt.examples} examples, about {prompt.tokens:,} tokens")
    told = cost(index, drafted.head, text or "x " * 100, plan)
    print(f"--- a test takes {told.calls} calls, about {told.usage.total:,} tokens")


def printable(text: str) -> str:
    """Text for a terminal: control characters shown, not obeyed."""
    return "".join(c if c == "\n" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
