"""Written descriptions of heads, and a score that says whether to believe them.

In: an index, a head, a language model. Out: a description, and a report on held-out documents.
Imports `attn.index` and the floors below it; the only importer of openai is `attn.describe.client`.

Called, ``attn.describe(index, head)`` is :func:`attn.describe.calls.describe`.
"""

from attn.callable_module import make_callable

make_callable(__name__, "attn.describe.calls", "describe")
