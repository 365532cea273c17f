"""Names → a model session, and patterns out of it, checked against eager attention.

In: a name, a folder, or a model that a notebook holds. Out:
:class:`attn.models.session.ModelSession`. The only importer of transformer_lens is
`attn.models.session`. Imports `attn.corpus` for the tokens, and the floors below it.
"""
