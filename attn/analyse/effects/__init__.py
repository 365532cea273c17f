"""Effects over a corpus: what the model's predictions lose without a head.

:mod:`attn.analyse.effects.passes` is the model's part (estimates and exact effects on a batch),
:mod:`attn.analyse.effects.run` the orchestrator, :mod:`attn.analyse.effects.merge` what is made of
the parts. What is read afterwards, without torch, is :mod:`attn.index.effects`.
"""
