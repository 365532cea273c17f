"""Why a head looks where it looks, and what its look does to the next token.

In: a session and a text. Out: the score of one pair as a sum over what wrote to the residual stream
(:mod:`.split`), the earlier looks that it is made of, followed back (:mod:`.graph`), and what a
head's looks do to the logits (:mod:`.direct`). Imports :mod:`attn.models`; no Streamlit, no Plotly.
"""
