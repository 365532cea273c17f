"""The Why page: what made a head look there, and what its look does."""
