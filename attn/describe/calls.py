"""The library's two calls: describe a head, and test a description.

Both keep their results beside the index, where the app and the command line find them.
"""

from __future__ import annotations

from attn.describe import describe as describing
from attn.describe.chat import LanguageModel
from attn.describe.describe import Description, Options, own
from attn.describe.report import Report
from attn.describe.store import Descriptions
from attn.describe.trial import Plan, trial
from attn.errors import DescribeError
from attn.heads import HeadId
from attn.index.index import Index


def describe(
    index: Index,
    head: HeadId | str,
    model: LanguageModel | None = None,
    options: Options | None = None,
) -> Description:
    """Have a language model say what a head does, from examples of training documents.

    ``head`` like ``"L18H6"``; ``model`` any :class:`~attn.describe.chat.LanguageModel`, None for
    the server of the environment (``ATTN_LLM_URL``, ``ATTN_LLM_MODEL``, ``ATTN_LLM_KEY``);
    ``options`` of the prompt. The description's ``system`` and ``user`` are what was sent, its
    ``prompt_tokens`` and ``answer_tokens`` what it cost. Raises NoServer where no server is set,
    another DescribeError where none answers, HeadError for a head out of range.

    Source: Bills et al. 2023, "Language models can explain neurons in language models".

    >>> from attn.describe.chat import FakeModel
    >>> fake = FakeModel(lambda request: "Attends to the token after an earlier copy.")
    >>> found = attn.describe(index, "L18H6", fake)
    >>> found.text, str(found.head), found.author
    ('Attends to the token after an earlier copy.', 'L18H6', 'fake')
    """
    chosen = HeadId.parse(head) if isinstance(head, str) else head
    drafted = describing.draft(index, chosen, options)
    found = describing.describe(index, drafted, model or _of_environment())
    Descriptions(index).add(found)
    return found


def score(
    index: Index,
    description: Description | str,
    model: LanguageModel | None = None,
    plan: Plan | None = None,
    *,
    head: HeadId | str | None = None,
) -> Report:
    """Test a description on held-out documents, against chance, five rules and another head's.

    ``description`` one that :func:`describe` made, or a person's words, with their ``head``;
    ``model`` the judge, as for :func:`describe`; ``plan`` how many questions. The report's
    ``result.pair.value`` is an area under the ROC curve, or a balanced accuracy where the judge
    says only yes or no: 0..1, chance 0.5, with its 95 % interval; ``result.pick.value`` the share
    of sources picked right of five, chance 0.2. ``verdict`` says whether to believe the
    description. Raises NoServer where no server is set, another DescribeError where none answers
    or the index has too few held-out pairs.

    Source: the two tests are described in :mod:`attn.describe.questions`, the intervals in
    :mod:`attn.describe.score`.

    >>> from attn.describe.chat import FakeModel
    >>> from attn.describe.trial import Plan
    >>> fake = FakeModel(lambda request: "1: yes")
    >>> report = attn.score(index, "Attends to verbs.", fake, Plan(questions=4), head="L18H6")
    >>> report.verdict.good
    False
    """
    if isinstance(description, str):
        if head is None:
            raise DescribeError("A description of your own is of one head: name it.")
        chosen = HeadId.parse(head) if isinstance(head, str) else head
        chosen.check(index.manifest.n_layers, index.manifest.n_heads)
        description = own(index, chosen, description)
    kept = Descriptions(index)
    kept.add(description)
    return trial(index, description, model or _of_environment(), kept, plan)


def _of_environment() -> LanguageModel:
    from attn.describe.client import Client
    from attn.describe.servers import configured

    return Client(configured())
