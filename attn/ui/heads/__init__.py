"""The Heads page: all heads at once, then the numbers of one."""
