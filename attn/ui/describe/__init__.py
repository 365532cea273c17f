"""The Describe page: a description, its score, and the language model that is asked."""
