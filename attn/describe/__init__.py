"""Written descriptions of heads, and a score that says whether to believe them."""
