"""The Methods page: every word and number defined."""
