"""The Prompt page, and the patterns of a text that other pages show too."""
