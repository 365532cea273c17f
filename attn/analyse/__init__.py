"""Questions to an index or to a text: which heads, how alike, how different, in two sentences.

In: an index, a session, a text. Out: plain values; nothing here draws. Imports `attn.index`,
`attn.models` and the floors below them.
"""
