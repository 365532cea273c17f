"""The Scan page: what is asked for, what it will take, and how it goes."""
