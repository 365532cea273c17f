"""The definitions: scores of cells, metrics of heads, masks, numbers from the weights.

In: patterns, token ids, weights. Out: numbers, with title, unit, formula, range and warning where
people read them. Imports only the ground floor.
"""
