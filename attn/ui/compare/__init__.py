"""The Compare page: two to four heads side by side."""
