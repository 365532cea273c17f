"""Written descriptions of heads, and a score that says whether to believe them.

Called, ``attn.describe(index, head)`` is :func:`attn.describe.calls.describe`.
"""

from attn.calling import make_callable

make_callable(__name__, "attn.describe.calls", "describe")
