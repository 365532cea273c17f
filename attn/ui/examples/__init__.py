"""The Examples page: rows of a head, ranked and at random, and the shelf of those kept."""
