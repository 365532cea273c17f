"""AttentionData, the notebook class that this project began as, on the index of this one.

The original (a hackathon project of 2023) reads a batch of texts, ranks tokens by how many times
their row's average attention they received, and asks GPT what the head looks for. The methods here
have its names and give rows like its rows; see :class:`AttentionData` for what differs.
"""

from __future__ import annotations

import html
import shutil
import sys
import tempfile
import textwrap
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attn.corpus.corpus import Corpus, load_corpus
from attn.describe.calls import describe
from attn.describe.chat import LanguageModel
from attn.describe.describe import Options
from attn.errors import CorpusError
from attn.formatting import shown
from attn.heads import Example, HeadId, Window
from attn.html_tables import Safe, table
from attn.index.index import Index
from attn.index.query import Ranking
from attn.show.token_html import STYLE, example_text, token

if TYPE_CHECKING:
    from attn.models.session import ModelSession
    from attn.scan.plan import Plan


class Multiple(NamedTuple):
    """A token and how many times its row's average attention it received, with the row.

    ``str_tokens`` the texts of the row's tokens, up to and with the destination (the whole text in
    a model that reads both ways); ``attention_pattern`` (source,) float32, the row's attention on
    them, 0..1. The index keeps it in half precision: three digits hold.
    """

    token: str
    multiple: float
    str_tokens: tuple[str, ...]
    attention_pattern: np.ndarray


class AttentionData:
    """What the heads of a model look at on a batch of texts.

    ``model`` a name (as for :func:`attn.load_model`), a ModelSession, a TransformerBridge, or a
    pair of a Hugging Face model and its tokenizer; ``text_batch`` texts, None for the sample
    corpus; ``openai_model`` and ``openai_api_key`` who describes heads: a model of OpenAI, or any
    :class:`~attn.describe.chat.LanguageModel`, None for the server that the environment names;
    ``suppress_first_token`` leaves pairs whose source is the first position out; ``min_length``
    the first row that counts; ``max_length`` tokens of a text that are read, the BOS included.
    ``keep`` puts the index into the folder that the app reads, and takes it from there next time;
    else it lies in a temporary folder that goes with the object. ``seed`` of the random draws.

    The first call scans the texts, all heads at once; the others read the :attr:`index`. Asking for
    more rows than an index keeps scans again, with room for them.

    Raises ModelError for no model, CorpusError for no texts, ScanError where ``min_length`` or
    ``max_length`` do not fit, HeadError for a head that the model lacks, QueryError for fewer than
    one row.

    What differs from the original:

    - A multiple is ``attention × visible``, ``visible`` the number of sources that the row sees: 1
      for every token of a uniform head. With ``suppress_first_token`` the original set the first
      column to zero and divided by the average of a *column*, over rows of other lengths: a uniform
      head then had a multiple of 29 on the last of 30 tokens, and its rankings began with the last
      tokens of texts, whatever the head did. Here nothing is renormalised: what rests on the first
      token stays there, and its pairs are left out.
    - Texts are read one by one, with the model's BOS where it has one, not padded to one batch;
      special tokens spelled out in a text are text.
    - ``layer`` comes before ``head`` everywhere. ``reverse`` begins with the pair nearest above
      average, and goes with ``str_token``. Multiples are not rounded. Random rows are those of the
      seed: the same each time.
    - Descriptions are written from a choice of examples, of four fifths of the texts, so that
      :func:`attn.score` can test them on the others.

    Source: https://github.com/connor-henderson/attention-data

    >>> import attn
    >>> data = attn.AttentionData(model, ["one two three. one two three. " * 3])
    >>> rows = data.get_ranked_multiples(layer=18, head=6, num_multiples=2)
    >>> token, multiple, str_tokens, attention_pattern = rows[0]
    >>> len(str_tokens) == len(attention_pattern) > 10
    True
    >>> bool(multiple > 1)
    True
    """

    def __init__(
        self,
        model: object = "smollm2-135m",
        text_batch: Sequence[str] | None = None,
        openai_model: str | LanguageModel | None = None,
        openai_api_key: str | None = None,
        suppress_first_token: bool = True,
        min_length: int = 10,
        max_length: int = 30,
        *,
        keep: bool = False,
        seed: int = 0,
    ) -> None:
        if isinstance(text_batch, str):
            raise CorpusError("text_batch is a list of texts: put a single one into brackets.")
        self._given, self._texts = model, None if text_batch is None else tuple(text_batch)
        self._writer, self._key = openai_model, openai_api_key
        self._skip_first, self._rows = suppress_first_token, (min_length, max_length)
        self._keep, self._seed = keep, seed
        self._made: dict[Plan, Index] = {}
        self._wide: Plan | None = None  # of the index that keeps most for rankings

    @cached_property
    def session(self) -> ModelSession:
        """The model, loaded when it is first needed; a model that was given is left as it is.

        >>> attn.AttentionData(model).session is model
        True
        """
        from attn.models.given import session_of

        return session_of(self._given)

    @property
    def index(self) -> Index:
        """The index that the rows come from; the first use scans the texts.

        >>> data.index.manifest.documents
        40
        """
        return self._indexed(self._plan)

    def describe_head(
        self,
        layer: int,
        head: int,
        num_samples: int = 10,
        custom_prompt: str | None = None,
        print_description: bool = True,
    ) -> tuple[str, str]:
        """Have a language model say what a head does: the prompt that was sent, and its answer.

        ``num_samples`` examples in the prompt; ``custom_prompt`` words of your own that go into it;
        ``print_description`` prints the answer too, 80 characters a line. Raises NoServer where no
        language model is set, another DescribeError where none answers.

        >>> from attn.describe.chat import FakeModel
        >>> data = attn.AttentionData(model, texts, FakeModel(lambda request: "To names."))
        >>> prompt, description = data.describe_head(18, 6, print_description=False)
        >>> description
        'To names.'
        """
        options = Options(samples=num_samples, seed=self._seed, custom=custom_prompt or "")
        writer = self._language_model()  # before a scan: there may be none
        found = describe(self.index, HeadId(layer, head), writer, options)
        if print_description:
            for line in found.text.splitlines():
                print(textwrap.fill(line, 80))
        return f"{found.system}\n\n{found.user}", found.text

    def get_ranked_multiples(
        self,
        layer: int,
        head: int,
        str_token: str | None = None,
        num_multiples: int = 10,
        reverse: bool = False,
        display: bool = False,
    ) -> list[Multiple]:
        """The pairs above average with the highest multiples, the highest first.

        ``str_token`` only those whose source reads exactly so, like ``" their"``; ``reverse`` the
        nearest above average first; ``display`` shows them too. Fewer where there are no more.

        >>> rows = data.get_ranked_multiples(18, 6, str_token=" the", num_multiples=3)
        >>> [row.token for row in rows]
        [' the', ' the', ' the']
        """
        one = HeadId(layer, head)

        def ask(index: Index) -> Ranking:
            return index.top(one, num_multiples, token=str_token, reverse=reverse)

        def room(total: int) -> dict[str, int]:
            if str_token is None:
                return {"top": num_multiples}
            return {"per_token": total if reverse else num_multiples}

        ranking = self._ranked(ask, room, num_multiples)
        if display:
            which = "Bottom" if reverse else "Top"
            self._show(one, ranking, which, "" if str_token is None else f" for '{str_token}'")
        return self._multiples(ranking)

    def get_random_multiples(
        self, layer: int, head: int, num_multiples: int = 10, display: bool = False
    ) -> list[Multiple]:
        """Pairs above average, drawn uniformly without replacement by the object's seed.

        ``display`` shows them too. Fewer where there are no more.

        >>> len(data.get_random_multiples(18, 6, num_multiples=4))
        4
        """
        one = HeadId(layer, head)
        plan = self._plan
        ranking = self.index.random(one, num_multiples, seed=self._seed)
        if num_multiples > plan.sample and ranking.kept < ranking.pairs:
            wide = self._indexed(replace(plan, sample=num_multiples))
            ranking = wide.random(one, num_multiples, seed=self._seed)
        if display:
            self._show(one, ranking, "Random")
        return self._multiples(ranking)

    def _ranked(
        self, ask: Callable[[Index], Ranking], room: Callable[[int], dict[str, int]], n: int
    ) -> Ranking:
        """The answer of an index that keeps enough for it."""
        plan = self._plan
        for wide in (plan, self._wide or plan):
            ranking = ask(self._indexed(wide))
            total = ranking.pairs if ranking.matching is None else ranking.matching
            if ranking.exact and len(ranking.examples) >= min(n, total):
                return ranking
            plan = wide
        sizes = {name: max(size, getattr(plan, name)) for name, size in room(total).items()}
        self._wide = replace(plan, **sizes)
        return ask(self._indexed(self._wide))

    def _indexed(self, plan: Plan) -> Index:
        if plan not in self._made:
            self._made[plan] = self._scan(plan)
        return self._made[plan]

    @property
    def _plan(self) -> Plan:
        from attn.scan.plan import Plan

        first, ctx = self._rows
        return Plan(ctx=ctx, min_row=first, skip_first=self._skip_first, seed=self._seed)

    def _scan(self, plan: Plan) -> Index:
        from attn.scan.run import scan

        out = None if self._keep else self._folder
        return Index.open(scan(self.session, self._corpus(), plan, out=out))

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="attn-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _corpus(self) -> Corpus:
        texts = self._texts
        if texts is None:
            return load_corpus("sample")

        def rows() -> Iterator[tuple[str, str]]:
            for number, text in enumerate(texts, 1):
                yield f"text {number}", text

        return Corpus("text_batch", rows, total=len(texts))

    def _language_model(self) -> LanguageModel:
        if self._writer is not None and not isinstance(self._writer, str):
            return self._writer
        from attn.describe.client import Client
        from attn.describe.servers import OPENAI, Secret, Server, configured

        if self._key is None:
            return Client(configured(model=self._writer))
        return Client(Server(OPENAI, self._writer or "", Secret(self._key)))

    def _multiples(self, ranking: Ranking) -> list[Multiple]:
        return [self._multiple(example) for example in ranking.examples]

    def _multiple(self, example: Example) -> Multiple:
        window = self._window(example)
        row = self._row(example, window)
        return Multiple(example.token, example.multiple, window.texts[: len(row)], row)

    def _window(self, example: Example) -> Window:
        return self.index.window(example.document, example.start)

    def _row(self, example: Example, window: Window) -> np.ndarray:
        """The row's attention; of a pair that the index keeps without it, the model's."""
        if example.row is not None:
            return example.row
        pattern = self.session.pattern(window.ids, example.head)  # (dst, src)
        row: np.ndarray = pattern[example.dst].cpu().numpy()
        return row if self.index.manifest.bidirectional else row[: example.dst + 1]

    def _show(self, head: HeadId, ranking: Ranking, which: str, of: str = "") -> None:
        """Show rows as a table in a notebook, as text elsewhere."""
        title = (
            f"Layer {head.layer} Head {head.head}, {which} {len(ranking.examples)} / "
            f"{ranking.pairs} Multiples{of}"
        )
        kept = self.index.manifest
        rows, lines = [], [shown(title, " ")]
        for example in ranking.examples:
            window = self._window(example)
            whole = replace(example, row=self._row(example, window))
            text = example_text(whole, window, bidirectional=kept.bidirectional, bos=bool(kept.bos))
            rows.append((Safe(token(example.token)), f"{example.multiple:.1f}", Safe(text)))
            words = shown("".join(window.texts[: example.dst + 1])[-60:], " ")
            lines.append(f"{shown(example.token):>16} {example.multiple:6.1f}  {words}")
        columns = ("Token", "Multiple of the average", "Pattern")
        _display(STYLE + table(columns, rows, title), "\n".join(lines))


def _display(as_html: str, as_text: str) -> None:
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(as_text)
        return
    data = {"text/html": as_html, "text/plain": html.unescape(as_text)}
    ipython.display.display(data, raw=True)
