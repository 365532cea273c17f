"""Names and files → documents → tokens with the texts to show for them.

In: the name of a corpus, a file, or rows. Out: :class:`attn.corpus.corpus.Corpus`, which gives its
documents one after the other, and token ids with display texts. Imports only the ground floor
(`attn.errors`, `attn.config`, `attn.files` and their like).
"""
